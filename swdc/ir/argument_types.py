"""The door of public functions: the types of their arguments are checked before anything is done."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sized
from functools import cache, wraps
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import torch

from swdc.errors import SwdcError

P = ParamSpec("P")
R = TypeVar("R")

_WORDS: dict[Any, str] = {
    bool: "True or False", int: "a whole number", float: "a number", str: "text", NoneType: "None",
    os.PathLike: "a path", torch.Tensor: "a tensor", Callable: "a function",
}  # fmt: skip
_ADVICE = {
    "Program": "make one with swdc.trace",
    "Plan": "make one with swdc.plan, or Plan.from_dict",
    "Certificate": "give what swdc.verify returned",
    "Optimizer": "give the optimizer that trains these parameters",
}


def checked(error: type[SwdcError]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function raise ``error``, before it does anything, if an argument is not of its annotated type.

    ``True`` and ``False`` are not numbers, and NaN is not one either. Whole numbers and floats of NumPy are. The items
    of a collection are checked, those of an iterator are not.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        hints = cache(lambda: get_type_hints(function))

        @wraps(function)
        def checking(*args: P.args, **kwargs: P.kwargs) -> R:
            for name, value in signature.bind(*args, **kwargs).arguments.items():
                hint = hints().get(name, Any)
                kind = signature.parameters[name].kind
                plain = kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
                if plain and not fits(value, hint):
                    raise error(_message(name, value, hint))
            return function(*args, **kwargs)

        return checking

    return decorate


def fits(value: Any, hint: Any) -> bool:
    """Whether a value is of an annotated type. An annotation of a kind that is not known fits any value."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if hint in (None, NoneType):
        return value is None
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if hint in (int, float):
        return _is_number(value, Integral if hint is int else Real)
    if origin is type:
        return isinstance(value, type) and (inner == (Any,) or issubclass(value, inner[0]))
    if origin is Callable:
        return callable(value)
    if isinstance(origin, type):
        return isinstance(value, origin) and not isinstance(value, bytes) and _items_fit(value, inner)
    return not isinstance(hint, type) or isinstance(value, hint)


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and not math.isnan(value)  # type: ignore[arg-type]


def _items_fit(value: Any, inner: tuple[Any, ...]) -> bool:
    """Whether the items of a collection fit. Mappings other than dicts may read each value from a file."""
    if isinstance(value, Mapping):
        keys = not inner or all(fits(key, inner[0]) for key in value)
        asked = isinstance(value, dict) and len(inner) > 1
        return keys and (not asked or all(fits(item, inner[1]) for item in value.values()))
    if isinstance(value, tuple) and len(inner) > 1 and inner[1] is not Ellipsis:
        return len(value) == len(inner) and all(map(fits, value, inner))
    if not isinstance(value, Iterable) or not isinstance(value, Sized) or not inner:
        return True
    return all(fits(item, inner[0]) for item in value)


def _message(name: str, value: Any, hint: Any) -> str:
    advice = next((text for kind, text in _ADVICE.items() if kind in _named(hint)), "give one")
    return f"expected {name} as {_named(hint)}, got {_shown(value)}; {advice}"


def _named(hint: Any) -> str:
    """Return an annotation in words: ``a number or None``, ``a sequence of whole numbers``."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        names = [*dict.fromkeys(_named(one) for one in inner)]
        return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
    if origin is type:
        return f"a subclass of {getattr(inner[0], '__name__', inner[0])}"
    word = _WORDS.get(origin or hint)
    if word is not None:
        return word
    if isinstance(origin, type) and inner:
        return f"{_article(origin.__name__.lower())} of ({', '.join(_named(one) for one in inner if one is not ...)})"
    return _article(getattr(hint, "__name__", str(hint)))


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiouAEIOU' else 'a'} {noun}"


def _shown(value: Any) -> str:
    """Return a value if it is short, else its type."""
    if isinstance(value, str | int | float | None):
        text = repr(value)
        return text if len(text) <= 60 else f"{type(value).__name__} {text[:50]}..."
    if isinstance(value, list | tuple | dict) and len(repr(value)) <= 60:
        return repr(value)
    return _article(type(value).__name__)
