"""What a saved state was made with: short texts that differ if the network or a function does."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from types import CodeType
from typing import Any

import torch

from swdc.errors import PlanError


def of_function(function: Any, known: Iterable[Any]) -> str:
    """Return the name of a function, and for one that is not among ``known`` also a hash of what it does.

    The hash is of its code, its defaults and the plain values that it closes over.
    """
    name = str(getattr(function, "__name__", type(function).__name__))
    if any(function is one for one in known):
        return name
    inner = function if hasattr(function, "__code__") else getattr(type(function), "__call__", None)  # noqa: B004
    code = getattr(inner, "__code__", None)
    if code is None:
        return name
    cells = [_plain(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ()]
    inside = vars(function) if not hasattr(function, "__code__") and hasattr(function, "__dict__") else {}
    held = [*cells, _plain(getattr(function, "__defaults__", None)), *(f"{k}={_plain(v)}" for k, v in inside.items())]
    return f"{name} {_short(_text(code) + repr(held))}"


def of_code(function: Any) -> str:
    """Return the name of a function with a hash of its code alone: what it closes over may change when it is called."""
    inner = function if hasattr(function, "__code__") else getattr(type(function), "__call__", None)  # noqa: B004
    name, code = str(getattr(function, "__name__", type(function).__name__)), getattr(inner, "__code__", None)
    return name if code is None else f"{name} {_short(_text(code))}"


def of_parameters(parameters: Mapping[str, torch.Tensor]) -> str:
    """Return a hash of the names and the shapes of parameters, in order."""
    return _short(repr([(name, tuple(tensor.shape)) for name, tensor in parameters.items()]))


def _text(code: CodeType) -> str:
    constants = [_text(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return repr((code.co_code, constants, code.co_names))


def _plain(value: Any) -> str:
    """Return a text of a plain value; of anything else only its type, because its text may hold an address."""
    if value is None or isinstance(value, int | float | complex | str | bytes | bool):
        return repr(value)
    if isinstance(value, tuple | list):
        return repr([_plain(each) for each in value])
    return type(value).__qualname__


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_settings(what: str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise ``PlanError`` if what is saved in a folder was made with other settings than those wanted."""
    if not isinstance(found, Mapping):
        raise PlanError(f"expected a folder of a {what}, got one whose settings are {found!r:.60}; give another folder")
    differing = [key for key in wanted if found.get(key) != wanted[key]]
    if differing:
        raise PlanError(
            f"expected a folder of this {what}, got one whose {', '.join(differing)} differ; give another folder, or "
            f"the same settings"
        )
