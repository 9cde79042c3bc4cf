"""The reasons that an operator's rule can give for freezing channels, read from the code of the rule.

The methods of a rule, and the functions of ``swdc.ops`` that they call, are walked over; what is handed to
``call.reason``, ``freeze_call`` and ``freeze_inputs`` is collected. A text that is handed on by a parameter or a
variable is followed.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from types import FunctionType
from typing import Any

from swdc.ops import freezing
from swdc.ops.base import Operator

POSITIONS = "positions: dimensions along which it works position by position"
_PLACES = {"reason": 0, "freeze_call": 2, "freeze_inputs": 2, "_ends": 1}
_HOLD = "hold"

Texts = Mapping[str, frozenset[str]]


def reasons(cls: type[Operator]) -> list[str]:
    """Return the reasons of a rule, in the order of its code."""
    found: dict[str, None] = {}
    for name in ("couple", "fold"):
        _walk(cls, _owner(cls, name), getattr(cls, name), {}, found, set())
    return list(found)


def _owner(cls: type, name: str) -> type:
    return next(base for base in cls.__mro__ if name in vars(base))


def _walk(cls: type, owner: type | None, function: Any, texts: Texts, found: dict[str, None], seen: set[Any]) -> None:
    """Collect the reasons in a function; ``texts`` are those that its parameters may hold."""
    key = (function, tuple(sorted(texts.items(), key=str)))
    if key in seen or not isinstance(function, FunctionType) or not function.__module__.startswith("swdc.ops"):
        return
    seen.add(key)
    if function.__module__ == freezing.__name__:
        return
    tree = _tree(function)
    known = {**_assigned(tree, function, texts), **texts}
    for node in sorted(_calls(tree), key=lambda node: (node.lineno, node.col_offset)):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called == _HOLD:
            found[POSITIONS] = None
        elif called in _PLACES and len(node.args) > _PLACES[called]:
            found.update(dict.fromkeys(sorted(_texts(node.args[_PLACES[called]], function, known))))
        for owned, other in _targets(node.func, cls, owner, function):
            _walk(cls, owned, other, _handed(node, other, function, known), found, seen)


@cache
def _tree(function: FunctionType) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _assigned(tree: ast.AST, function: FunctionType, texts: Texts) -> dict[str, frozenset[str]]:
    """Return the texts that are assigned to variables."""
    found: dict[str, frozenset[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    texts_here = _texts(node.value, function, texts)
                    found[target.id] = found.get(target.id, frozenset()) | texts_here
    return found


def _texts(node: ast.expr, function: FunctionType, known: Texts) -> frozenset[str]:
    """Return the texts that an expression may be."""
    if isinstance(node, ast.Constant):
        return frozenset([node.value]) if isinstance(node.value, str) else frozenset()
    if isinstance(node, ast.IfExp):
        return _texts(node.body, function, known) | _texts(node.orelse, function, known)
    if isinstance(node, ast.BoolOp):
        return frozenset().union(*(_texts(value, function, known) for value in node.values))
    if isinstance(node, ast.JoinedStr):
        parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
        return frozenset(["".join(parts)])
    if isinstance(node, ast.Name):
        value = function.__globals__.get(node.id)
        return known.get(node.id, frozenset([value]) if isinstance(value, str) else frozenset())
    return frozenset()


def _targets(
    func: ast.expr, cls: type, owner: type | None, function: FunctionType
) -> Iterator[tuple[type | None, Any]]:
    """Yield the functions that an expression may call, each with the class that it stands in."""
    if isinstance(func, ast.Name):
        yield None, function.__globals__.get(func.id)
    elif isinstance(func, ast.Attribute):
        text = ast.unparse(func.value)
        if text in ("self", "cls") and hasattr(cls, func.attr):
            yield _owner(cls, func.attr), inspect.unwrap(getattr(cls, func.attr))
        elif text == "super()" and owner is not None:
            after = cls.__mro__[cls.__mro__.index(owner) + 1 :]
            base = next((base for base in after if func.attr in vars(base)), None)
            if base is not None:
                yield base, vars(base)[func.attr]
        elif isinstance(named := function.__globals__.get(text), type) and hasattr(named, func.attr):
            yield named, getattr(named, func.attr)
        elif inspect.ismodule(named):
            yield None, getattr(named, func.attr, None)


def _handed(node: ast.Call, other: Any, function: FunctionType, known: Texts) -> Texts:
    """Return the texts that a call hands to the parameters of a function."""
    if not isinstance(other, FunctionType):
        return {}
    names = list(inspect.signature(other).parameters)
    bound = isinstance(node.func, ast.Attribute) and names[:1] == ["self"]
    pairs = [*zip(names[bound:], node.args, strict=False), *((k.arg or "", k.value) for k in node.keywords)]
    return {name: texts for name, value in pairs if (texts := _texts(value, function, known))}


def module_title(module: str) -> str:
    """Return the first line of a module's docstring, without its full stop."""
    return (sys.modules[module].__doc__ or "").strip().splitlines()[0].rstrip(".")
