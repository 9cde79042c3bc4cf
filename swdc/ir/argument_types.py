"""The door of public functions: the types of their arguments are checked before anything is done."""

from __future__ import annotations

import inspect
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import nullcontext
from functools import cache, wraps
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch

from swdc.errors import SwdcError, brief
from swdc.ir.default_device import cpu_by_default

P = ParamSpec("P")
R = TypeVar("R")

_WORDS: dict[Any, str] = {
    bool: "True or False", int: "a whole number", float: "a number", str: "text", NoneType: "None",
    Any: "anything", os.PathLike: "a path", torch.Tensor: "a tensor", Callable: "a function",
}  # fmt: skip
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_TEXTS = (str, bytes, bytearray, memoryview)
_LARGEST = int(sys.float_info.max)
_ADVICE = {
    "Program": "make one with swdc.trace",
    "Plan": "make one with swdc.plan, or Plan.from_dict",
    "Certificate": "give what swdc.verify returned",
    "Optimizer": "give the optimizer that trains these parameters",
}


def checked(error: type[SwdcError], on_cpu: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function raise ``error``, before it does anything, if an argument is not of its annotated type.

    With ``on_cpu`` it runs under ``cpu_by_default``, for functions that run no code of a user's model.

    ``True`` and ``False`` are not numbers, and NaN is not one either. Whole numbers have up to 64 bits. Numbers of
    NumPy, fractions and iterators reach the function as numbers of Python and as tuples. Text is no collection.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        hints = cache(lambda: get_type_hints(function))

        @wraps(function)
        def checking(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            for name, given in bound.arguments.items():
                hint = hints().get(name, Any)
                if hint is not Any and signature.parameters[name].kind not in _VARIADIC:
                    bound.arguments[name] = check_type(error, name, given, hint)
            with cpu_by_default() if on_cpu else nullcontext():
                return function(*bound.args, **bound.kwargs)

        return checking

    return decorate


def check_type(error: type[SwdcError], name: str, given: Any, hint: Any) -> Any:
    """Return a value, numbers of NumPy and iterators as those of Python; raise ``error`` if it is not of a type."""
    value, trouble = _plain(given, hint)
    if trouble or not fits(value, hint):
        raise error(_message(name, given, hint, trouble))
    return value


def _plain(value: Any, hint: Any) -> tuple[Any, str]:
    """Return a number as one of Python, an iterator as a tuple, anything else as it is; and what failed, if it did."""
    takes_iterators = Iterable in [get_origin(each) for each in (hint, *get_args(hint))]
    try:
        if isinstance(value, int | float):
            return value, ""
        if isinstance(value, os.PathLike) and not isinstance(os.fspath(value), str):
            return value, f", which stands for {shown(os.fspath(value))} and not for text"
        if isinstance(value, np.bool_):
            return bool(value), ""
        if isinstance(value, Real):
            return (int(value) if isinstance(value, Integral) else float(value)), ""
        if type(value) in (list, tuple) and any(isinstance(item, np.generic) for item in value):
            return type(value)(item.item() if isinstance(item, np.generic) else item for item in value), ""
        return (tuple(value) if takes_iterators and isinstance(value, Iterator) else value), ""
    except Exception as error:  # iterators are the caller's code, and a fraction may be beyond the floats
        return value, f", which fails with {brief(error)}"


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
        return not isinstance(value, bool) and isinstance(value, Real) and _is_in_range(value, hint)
    if origin is type:
        return isinstance(value, type) and (inner == (Any,) or issubclass(value, inner[0]))
    if origin is Callable:
        return callable(value)
    if isinstance(origin, type):
        kind = (Sequence, Set) if origin is Iterable else origin
        return isinstance(value, kind) and not isinstance(value, _TEXTS) and _items_fit(value, inner)
    return not isinstance(hint, type) or isinstance(value, hint)


def _is_in_range(number: Any, kind: type) -> bool:
    """Whether a number is one of 64 bits, and not NaN; ``kind`` says whether it has to be whole."""
    if not isinstance(number, Integral):
        return kind is float and not math.isnan(number)
    most = 2**63 - 1 if kind is int else _LARGEST
    return -most <= int(number) <= most


def _items_fit(value: Any, inner: tuple[Any, ...]) -> bool:
    """Whether the items of a collection fit. Mappings other than dicts may read each value from a file."""
    if isinstance(value, Mapping):
        keys = not inner or all(fits(key, inner[0]) for key in value)
        asked = isinstance(value, dict) and len(inner) > 1
        return keys and (not asked or all(fits(item, inner[1]) for item in value.values()))
    if isinstance(value, tuple) and len(inner) > 1 and inner[1] is not Ellipsis:
        return len(value) == len(inner) and all(map(fits, value, inner))
    if not isinstance(value, Sequence | Set) or not inner:
        return True
    return all(fits(item, inner[0]) for item in value)


def _message(name: str, value: Any, hint: Any, trouble: str) -> str:
    advice = next((text for kind, text in _ADVICE.items() if kind in _named(hint)), "give one")
    return f"expected {name} as {_named(hint)}, got {shown(value)}{trouble}; {advice}"


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


def shown(value: Any) -> str:
    """Return a value if it is short, else its type."""
    try:
        text = repr(value) if isinstance(value, str | int | float | None | list | tuple | dict) else ""
    except Exception:  # of the caller's objects in a list, and of a number of more than 4300 digits
        text = ""
    if 0 < len(text) <= 60:
        return text
    return f"text {text[:50]}..." if isinstance(value, str) else _article(type(value).__name__)
