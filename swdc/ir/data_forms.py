"""The form of plain data: what was read from JSON is held against the annotations of a class."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

_LARGEST = 2**63


def check_form(data: Any, hint: Any, where: str = "it") -> None:
    """Raise ``ValueError`` unless plain data are as an annotation says: no key missing, none unknown, no other type.

    A dataclass or a ``TypedDict`` stands for an object with its keys, a tuple or a sequence for a list. Whole numbers
    have at most 64 bits, and ``True`` is not one.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if is_dataclass(hint) or is_typeddict(hint):
        _check_keys(data, hint, where)
    elif origin in (Union, types.UnionType):
        if not any(_fits(data, one) for one in inner):
            raise _wrong(data, hint, where)
    elif origin in (list, tuple, Sequence):
        _check_items(data, inner[0], where)
    elif origin in (dict, Mapping):
        _check_values(data, inner[1], where)
    elif origin is Literal:
        if not any(data == one and type(data) is type(one) for one in inner):
            raise ValueError(f"{where} is {data!r:.200}, not one of {list(inner)}")
    elif not _is_plain(data, hint):
        raise _wrong(data, hint, where)


def _fits(data: Any, hint: Any) -> bool:
    try:
        check_form(data, hint)
    except ValueError:
        return False
    return True


def _check_keys(data: Any, hint: Any, where: str) -> None:
    hints, needed = _keys(hint)
    if not isinstance(data, dict) or not needed <= set(data) <= set(hints):
        keys = sorted(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise ValueError(f"{where} has the keys {keys!r:.200}, not {sorted(needed)}")
    for key, value in data.items():
        check_form(value, hints[key], key if where == "it" else f"{where}.{key}")


@cache
def _keys(hint: Any) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the annotations of all keys, and the keys that may not be missing."""
    hints = get_type_hints(hint)
    if is_typeddict(hint):
        return hints, hint.__required_keys__
    return {field.name: hints[field.name] for field in fields(hint)}, frozenset(field.name for field in fields(hint))


def _check_items(data: Any, hint: Any, where: str) -> None:
    if not isinstance(data, list | tuple):
        raise _wrong(data, list, where)
    for number, item in enumerate(data):
        check_form(item, hint, f"{where}[{number}]")


def _check_values(data: Any, hint: Any, where: str) -> None:
    if not isinstance(data, dict):
        raise _wrong(data, dict, where)
    for key, value in data.items():
        if not isinstance(key, str):
            raise _wrong(key, str, f"a key of {where}")
        check_form(value, hint, f"{where}[{key!r}]")


def _is_plain(data: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    if hint is float and type(data) is float:
        return True
    if hint in (int, float):
        return type(data) is int and abs(data) <= _LARGEST
    return type(data) is (types.NoneType if hint is None else hint)


def _wrong(data: Any, hint: Any, where: str) -> ValueError:
    return ValueError(f"{where} is {data!r:.200}, not {getattr(hint, '__name__', hint)}")
