"""The integers that a module holds, in its attributes, in tuples, lists and dicts, and in configurations."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import fx, nn

from swdc.artifacts.transplanting.places import PARTED, item_of, keys_of, with_item
from swdc.capture.reachable import of_the_model
from swdc.ir.graph import SCOPE, SHAPE
from swdc.ir.program import Program

Keys = tuple[Any, ...]
"""The path to an integer: the name of an attribute, then attributes of other objects, indices, ``(KEY, key)`` for an
item of a dict, and what ``keys_of`` gives for a closure or a partial function."""

KEY = "key"

_DEEPEST = 4
_OWN = frozenset(vars(nn.Module()))
_NOT_CONFIGURATIONS = (nn.Module, torch.Tensor, type, torch.dtype, torch.device)
_NOT_READ = {"__init__", "__repr__", "extra_repr", "reset_parameters", "_reset_parameters", "init_weights"}


def integers(module: nn.Module, configurations: bool = False) -> Iterator[tuple[Keys, int]]:
    """Yield the integers in a module's attributes.

    With ``configurations`` also those in plain objects, and those of the children that the module's own methods
    mention, because these methods may read the attributes of the children.
    """
    yield from _attributes(module, configurations)
    read = names_read(type(module)) if configurations else ()
    for name, child in module._modules.items() if configurations else ():
        if child is not None and name in read:
            yield from (((name, *keys), n) for keys, n in _attributes(child, False) if keys[0] in read)


def _attributes(module: nn.Module, configurations: bool) -> Iterator[tuple[Keys, int]]:
    for name, value in list(vars(module).items()):
        if name not in _OWN:
            yield from _inside((name,), value, configurations)


def _inside(keys: Keys, value: Any, configurations: bool) -> Iterator[tuple[Keys, int]]:
    if isinstance(value, int) and not isinstance(value, bool):
        yield keys, value
    elif len(keys) <= _DEEPEST:
        for key, item in _items(value, configurations):
            yield from _inside((*keys, key), item, configurations)


def _items(value: Any, configurations: bool) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, list | tuple):
        yield from enumerate(value)
    elif isinstance(value, dict):
        yield from (((KEY, key), item) for key, item in value.items())
    elif isinstance(value, PARTED):
        known = configurations and (not isinstance(value, FunctionType) or of_the_model(value.__module__))
        yield from ((key, item_of(value, key)) for key in keys_of(value) if known)
    elif configurations and not isinstance(value, _NOT_CONFIGURATIONS) and not callable(value):
        yield from getattr(value, "__dict__", {}).items()


def put(module: nn.Module, keys: Keys, number: int) -> None:
    """Set an integer of a module; its container is copied, because other modules may share it."""
    child = module._modules.get(keys[0])
    if child is not None:
        put(child, keys[1:], number)
        return
    vars(module)[keys[0]] = _with(vars(module)[keys[0]], keys[1:], number)


def _with(value: Any, keys: Keys, number: int) -> Any:
    if not keys:
        return number
    first, rest = keys[0], keys[1:]
    if isinstance(value, list | tuple):
        items = list(value)
        items[first] = _with(items[first], rest, number)
        return items if isinstance(value, list) else _tuple_like(value, items)
    if isinstance(value, PARTED):
        return with_item(value, first, _with(item_of(value, first), rest, number))
    changed = copy.copy(value)
    if isinstance(value, dict):
        changed[first[1]] = _with(value[first[1]], rest, number)
    else:
        vars(changed)[first] = _with(vars(value)[first], rest, number)
    return changed


def _tuple_like(value: tuple[Any, ...], items: list[Any]) -> Any:
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def names_read(cls: Any) -> frozenset[str]:
    """Return every name in the methods of a class, except the methods that set it up or print it."""
    return _names_read(cls)


@cache
def _names_read(cls: Any) -> frozenset[str]:
    names: set[str] = set()
    for base in cls.__mro__:
        if base in (nn.Module, object):
            continue
        for name, function in vars(base).items():
            if name not in _NOT_READ:
                names |= mentioned_by(getattr(function, "fget", function))
    return frozenset(names)


def mentioned_by(function: Any, depth: int = 0) -> set[str]:
    """Return the names that a method mentions, and those of the function that a decorator holds in its closure."""
    code = getattr(function, "__code__", None)
    if code is None:
        return set()
    parts = [item_of(function, key) for key in keys_of(function)] if isinstance(function, FunctionType) else []
    held = (part for part in parts if isinstance(part, FunctionType) and depth < _DEEPEST)
    return _mentioned(code).union(*(mentioned_by(part, depth + 1) for part in held))


def _mentioned(code: CodeType) -> set[str]:
    nested = (c for c in code.co_consts if isinstance(c, CodeType))
    return set(code.co_names).union(*map(_mentioned, nested))


Pairs = Mapping[int, tuple[int, ...]]
"""The new numbers of each old one, the most trusted first; the old one is among them if it also stayed."""


def changed_numbers(dense: Program, slim: Program) -> dict[str, Pairs]:
    """Return the new numbers for the literals and sizes of each scope: literals are ranked before sizes."""
    literals: dict[str, list[tuple[int, int]]] = defaultdict(list)
    sizes: dict[str, list[tuple[int, int]]] = defaultdict(list)
    after = {node.name: node for node in slim.graph.nodes}
    for node in dense.graph.nodes:
        other = after.get(node.name)
        if other is None or node.op in ("placeholder", "output"):
            continue
        scope = str(node.meta.get(SCOPE) or "")
        literals[scope] += _numbers((node.args, node.kwargs), (other.args, other.kwargs))
        for one, two in ((node, other), *zip(node.all_input_nodes, other.all_input_nodes, strict=False)):
            sizes[scope] += _numbers(_shape(one, dense), _shape(two, slim))
    return {scope: _ranked(literals[scope], sizes[scope]) for scope in {*literals, *sizes}}


def _shape(node: fx.Node, program: Program) -> Any:
    if node.op == "get_attr":
        return tuple(program.tensors[str(node.target)].shape)
    return node.meta.get(SHAPE)


def _numbers(one: Any, other: Any) -> Iterator[tuple[int, int]]:
    """Yield the pairs of numbers at the same places in two nested structures."""
    if isinstance(one, bool) or isinstance(other, bool):
        return
    if isinstance(one, int) and isinstance(other, int):
        yield one, other
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for a, b in zip(one, other, strict=True):
            yield from _numbers(a, b)
    elif isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() & other.keys():
            yield from _numbers(one[key], other[key])


def _ranked(*sources: list[tuple[int, int]]) -> Pairs:
    """Return the new numbers for each old one that changed anywhere, in the order of the sources."""
    found: dict[int, dict[int, None]] = defaultdict(dict)
    for pairs in sources:
        for old, new in pairs:
            found[old].setdefault(new)
    return {old: tuple(news) for old, news in found.items() if set(news) != {old}}
