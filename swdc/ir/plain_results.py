"""Results as plain data: objects of a model's own classes become dicts of the tensors that they hold."""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from dataclasses import fields
from typing import Any

import torch
from torch import fx
from torch.fx.graph import _PyTreeCodeGen
from torch.utils import _pytree as pytree

from swdc.errors import ExportError
from swdc.ir.graph import DTYPE
from swdc.ir.program import Program
from swdc.ir.result_classes import Opened, parts_of
from swdc.ir.result_classes import opened as anew

_GONE = object()
"""Marks a part of a result of which nothing is left."""
_ATOMS = (torch.Tensor, torch.SymInt, torch.nn.Module, type(None), bool, int, float, complex, str, bytes)


def plain(result: Any) -> Any:
    """Return a nested result; each object that ``torch.utils._pytree`` does not know becomes a dict of its tensors.

    A cache of keys and values becomes ``{"layers": [{"keys": ..., "values": ...}, ...]}``. An iterator, or a view of a
    dict, becomes a list; an iterator is used up. Other objects without tensors stay as they are.
    """
    return pytree.tree_map(lambda leaf: _opened(leaf, ()), result)


def capturable(result: Any) -> tuple[Any, dict[str, str]]:
    """Return a nested result as ``plain`` does, but with objects of dataclasses that programs make anew.

    Also return the names of the classes that become something else, each with what they become.
    """
    lost: dict[str, str] = {}
    found = pytree.tree_map(lambda leaf: _opened(leaf, (), lost), result)
    return found, lost


def is_opened(value: Any) -> bool:
    """Whether ``plain`` returns a dict of its tensors, or a list of them, in place of an object."""
    if isinstance(value, _ATOMS) or not pytree.tree_is_leaf(value) or parts_of(value) is not None:
        return False
    return plain(value) is not value


def _opened(leaf: Any, above: tuple[int, ...], lost: dict[str, str] | None = None) -> Any:
    """Return the dict or list that stands for an object, or the object itself if it holds no tensor.

    If ``lost`` is given, a dataclass keeps its class, and the names of other classes are added to ``lost``.
    """
    if isinstance(leaf, _ATOMS) or id(leaf) in above:
        return leaf
    inside = (*above, id(leaf))
    kept = None if lost is None else _kept(leaf, inside, lost)
    if kept is not None:
        return kept

    def opened(value: Any) -> Any:
        return pytree.tree_map(lambda part: _opened(part, inside, None if lost is None else {}), value)

    if isinstance(leaf, Iterator | ValuesView | KeysView | ItemsView):
        if lost is not None:
            lost[type(leaf).__name__] = "a list"
        return [opened(item) for item in leaf]
    if isinstance(leaf, list | tuple):
        if lost is not None:
            lost[type(leaf).__name__] = "a list"
        return [opened(item) for item in leaf]
    held = {**(parts_of(leaf) or {}), **leaf} if isinstance(leaf, Mapping) else _attributes(leaf)
    found = {str(name): opened(value) for name, value in held.items()}
    tensors = {name: value for name, value in found.items() if _holds_tensors(value)}
    if tensors and lost is not None:
        lost[type(leaf).__name__] = "a dict of its tensors"
    return tensors or leaf


def _attributes(value: Any) -> dict[str, Any]:
    """Return what an object holds, in its dict and in slots."""
    slots = [name for base in type(value).__mro__ for name in base.__dict__.get("__slots__", ())]
    held = {name: getattr(value, name) for name in reversed(slots) if hasattr(value, name) and name != "__dict__"}
    return {**held, **getattr(value, "__dict__", {})}


def _kept(leaf: Any, inside: tuple[int, ...], lost: dict[str, str]) -> Opened | None:
    """Return an object of a dataclass with its parts opened; ``None`` for other objects."""
    parts = parts_of(leaf)
    if parts is None:
        return None
    dropped: dict[str, str] = {}
    more = [name for name in _attributes(leaf) if name not in (field.name for field in fields(leaf))]
    if more:
        dropped[type(leaf).__name__] = f"its fields alone, without {', '.join(more)}"
    found = pytree.tree_map(lambda part: _opened(part, inside, dropped), parts)
    again = anew(leaf, found)
    lost.update(dropped if again is not None else {})
    return again


def narrowed(spec: pytree.TreeSpec, keep: Sequence[bool]) -> pytree.TreeSpec:
    """Return the structure of a result that keeps only some of its leaves: those for which ``keep`` is true.

    Tuples, lists and dicts lose items and keep their kind, even with a single item left. A part that keeps nothing is
    dropped. A part of another kind (a named tuple, an object) that loses something becomes a dict of the rest, or a
    tuple if its parts have no names.
    """
    return pytree.tree_structure(_narrowed(spec, iter(keep)))


def _narrowed(spec: Any, keep: Iterator[bool]) -> Any:
    """Return an object of the narrowed structure."""
    if spec.is_leaf():
        return 0 if next(keep) else _GONE
    parts = [_narrowed(child, keep) for child in spec.children()]
    left = [part for part in parts if part is not _GONE]
    if not left:
        return _GONE
    if spec.type is Opened and len(left) == len(parts):
        return Opened(parts, spec.context)
    if len(left) == len(parts):
        return pytree.SUPPORTED_NODES[spec.type].unflatten_fn(parts, spec.context)
    if spec.type in (tuple, list):
        return spec.type(left)
    names = getattr(spec.context, "_fields", spec.context)
    if not isinstance(names, list | tuple) or len(names) != len(parts):
        return tuple(left)
    return {name: part for name, part in zip(names, parts, strict=True) if part is not _GONE}


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value))


def is_tensor(value: Any) -> bool:
    """Whether something that a program returns is a tensor."""
    return isinstance(value, fx.Node) and (value.op == "get_attr" or value.meta.get(DTYPE) is not None)


def input_names(program: Program) -> list[str]:
    """Return the names of the inputs that are tensors, in order."""
    inputs = program.graph.find_nodes(op="placeholder")
    return [node.name for node in inputs if node.meta.get(DTYPE) is not None or node.users]


def output_names(program: Program) -> list[str]:
    """Return a distinct name for each tensor that the program returns, made from its place in the result.

    Raises ``ExportError`` if it returns none.
    """
    codegen = program.graph._codegen
    assert isinstance(codegen, _PyTreeCodeGen)
    values: Any = next(n for n in program.graph.nodes if n.op == "output").args[0]
    taken = {n.name for n in program.graph.nodes if n.op == "placeholder"}
    names = []
    for place, value in zip(_places(codegen.pytree_info.out_spec), values, strict=True):
        if not is_tensor(value):
            continue
        name = re.sub(r"\W+", "_", "_".join(place))
        name = name if name and not name[0].isdigit() else f"output_{name}".rstrip("_")
        while name in taken:
            name += "_out"
        taken.add(name)
        names.append(name)
    if not names:
        raise ExportError("expected a program that returns a tensor, got one that returns none; return what to export")
    return names


def _places(spec: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield for each leaf of a nested result the keys and positions that lead to it."""
    if spec.is_leaf():
        yield place
        return
    children = spec.children()
    keys = getattr(spec.context, "_fields", spec.context)  # the names of a named tuple, or the keys of a dict
    if not isinstance(keys, list | tuple) or len(keys) != len(children):
        keys = range(len(children))
    for key, child in zip(keys, children, strict=True):
        yield from _places(child, (*place, str(key)))
