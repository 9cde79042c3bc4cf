"""Names of a user's model that Python code cannot contain, spelled so that the code of a program can use them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from keyword import iskeyword
from typing import Any

from torch import fx
from torch.fx.graph import _custom_builtins, _PyTreeCodeGen

from swdc.ir.graph import unused

HELD = "held"
"""The attribute of a program that holds its modules and tensors and nothing else, so that any names fit in it."""

_TAKEN = {*_custom_builtins, "self"}
"""Names that the code of a graph uses, so that no argument can have them."""


@contextmanager
def spelled(graph: fx.Graph, is_taken: Callable[[str], bool]) -> Iterator[None]:
    """Let the code of a graph be valid for any names of modules, tensors and arguments.

    ``is_taken`` says whether a program has an attribute of its own with the name of a module or tensor; such a target
    is read through ``held``. An atom of a target that is not an identifier (``for``, or one with a quote) is written
    with escapes, because torch.fx puts it into a string literal. An argument with a name that the code itself uses
    (``torch``, ``self``) gets an underscore after it.
    """
    targets = {n: str(n.target) for n in graph.nodes if n.op in ("get_attr", "call_module")}
    respelled = {node: _spelled(target, is_taken) for node, target in targets.items()}
    changed = {node: name for node, name in respelled.items() if name != targets[node]}
    codegen, info = graph._codegen, getattr(graph._codegen, "pytree_info", None)
    for node, name in changed.items():
        node.target = name
    if isinstance(codegen, _PyTreeCodeGen) and info is not None:
        codegen.pytree_info = info._replace(orig_args=[_argument(name) for name in info.orig_args])
    try:
        yield
    finally:
        for node in changed:
            node.target = targets[node]
        if isinstance(codegen, _PyTreeCodeGen) and info is not None:
            codegen.pytree_info = info


def without_self(graph: fx.Graph) -> fx.Graph:
    """Return a graph after another name was given to the value called ``self``, which its code uses for the program."""
    names = {node.name for node in graph.nodes}
    for node in graph.nodes:
        if node.name == "self":
            node.name = unused("self_", names)
    return graph


def speakable(names: Iterable[str], is_taken: Callable[[str], bool]) -> dict[str, str]:
    """Return for each name of a module or tensor one that other tools can write into code; most stay as they are."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        said = name if _spelled(name, is_taken) == name else re.sub(r"\W", "_", f"model.{name}")
        found[name] = unused(said, taken)
        taken.add(found[name])
    return found


def accepting(forward: Callable[..., Any], graph: fx.Graph) -> Callable[..., Any]:
    """Return the code of a graph as a function that takes keyword arguments by the names of the user's model."""
    info: Any = getattr(graph._codegen, "pytree_info", None)
    names = [] if info is None else info.orig_args
    if not _TAKEN.intersection(names):
        return forward

    def renamed(program: Any, /, *args: Any, **kwargs: Any) -> Any:
        return forward(program, *args, **{_argument(name): value for name, value in kwargs.items()})

    return renamed


def _argument(name: str) -> str:
    return f"{name}_" if name in _TAKEN else name


def _spelled(target: str, is_taken: Callable[[str], bool]) -> str:
    atoms = target.split(".")
    spelled = ".".join(atom if _is_plain(atom) else _escaped(atom) for atom in atoms)
    return f"{HELD}.{spelled}" if is_taken(atoms[0]) else spelled


def _is_plain(atom: str) -> bool:
    return atom.isascii() and atom.isprintable() and not iskeyword(atom) and not {'"', "\\"} & {*atom}


def _escaped(atom: str) -> str:
    return "".join(f"\\U{ord(character):08x}" for character in atom)
