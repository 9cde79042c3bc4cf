"""Finds batches at which a model's code may do something else: its sizes note what they are held against.

In a run at a large batch, ``x.shape`` and its kin hand out integers that know how they depend on the batch. If code
compares one with a number, the batch where the comparison turns is noted, such as 3 for ``x.numel() == 12`` of rows of
four. Code that looks at a size in a way that tells no number (``str``, a key of a dict) gets a few small batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

_SMALL = range(3, 9)
"""Batches to try if it is not known which matter."""
_FARTHEST = 4096
"""The largest constant that is added to a multiple of the batch."""
_READERS = (torch.Tensor.shape.__get__, torch.Tensor.size, torch.Tensor.numel, torch.numel)  # type: ignore[attr-defined]


class WatchedSizes(TorchFunctionMode):
    """While it is active, sizes note in ``turns`` the batches at which what the code asks of them may turn."""

    def __init__(self, batch: int) -> None:
        """``batch`` is that of the run: a prime larger than any width in use."""
        super().__init__()
        self.batch = batch
        self.turns: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in _READERS:
            return self.watched(result)
        if func is torch.Tensor.__len__ and result > _FARTHEST:  # Python turns a length into a plain number
            self.turns.update(_SMALL)
        return result

    def watched(self, size: Any) -> Any:
        """Return a size, or several, so that those that depend on the batch are watched."""
        if isinstance(size, tuple):
            return torch.Size([self.watched(one) for one in size])
        times = round(size / self.batch)
        return _Size(size, self, times) if times and abs(size - times * self.batch) <= _FARTHEST else size


class _Size(int):
    """A size of ``times`` batches plus a constant."""

    def __new__(cls, value: int, of: WatchedSizes, times: int) -> _Size:
        made = super().__new__(cls, value)
        made.of, made.times = of, times
        return made

    of: WatchedSizes
    times: int

    def turn(self, other: Any) -> None:
        """Note the batches around the one at which this size is equal to a number or another size."""
        times = self.times - getattr(other, "times", 0)
        number = int.__int__(other) if isinstance(other, int) else other
        if not isinstance(number, int | float) or not times or not math.isfinite(number):
            return
        batch = self.of.batch + (number - int.__int__(self)) / times
        found = {math.floor(batch), math.ceil(batch) - 1}
        self.of.turns.update(found | {math.floor(batch) + 1} if batch > self.of.batch else found)

    def divide(self, by: Any) -> None:
        """Note batches that leave different remainders."""
        self.of.turns.update(range(by, 2 * by)[: len(_SMALL)] if type(by) is int and by > 1 else ())


def _compares(name: str) -> Callable[[_Size, Any], Any]:
    def method(size: _Size, other: Any) -> Any:
        size.turn(other)
        return getattr(int, name)(size, other)

    return method


def _divides(name: str) -> Callable[[_Size, Any], Any]:
    def method(size: _Size, by: Any) -> Any:
        size.divide(by)
        return getattr(int, name)(size, by)

    return method


def _computes(name: str, times: Callable[[int, int, int], int]) -> Callable[[_Size, Any], Any]:
    def method(size: _Size, other: Any) -> Any:
        result = getattr(int, name)(size, other)
        if not isinstance(other, int):
            return result
        many = times(size.times, getattr(other, "times", 0), int.__int__(other))
        return _Size(result, size.of, many) if many else result

    return method


def _looks(name: str) -> Callable[..., Any]:
    def method(size: _Size, *args: Any) -> Any:
        size.of.turns.update(_SMALL)
        return getattr(int, name)(size, *args)

    return method


_METHODS = {
    **{name: _compares(name) for name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__")},
    **{name: _divides(name) for name in ("__mod__", "__floordiv__", "__divmod__", "__and__", "__rshift__")},
    **{name: _looks(name) for name in ("__hash__", "__str__", "__repr__", "__format__", "__float__", "__int__")},
    **{name: _looks(name) for name in ("__truediv__", "__pow__")},
    "__add__": _computes("__add__", lambda mine, theirs, _: mine + theirs),
    "__radd__": _computes("__radd__", lambda mine, theirs, _: mine + theirs),
    "__sub__": _computes("__sub__", lambda mine, theirs, _: mine - theirs),
    "__rsub__": _computes("__rsub__", lambda mine, theirs, _: theirs - mine),
    "__mul__": _computes("__mul__", lambda mine, theirs, number: 0 if theirs else mine * number),
    "__rmul__": _computes("__rmul__", lambda mine, theirs, number: 0 if theirs else mine * number),
}
for _name, _method in _METHODS.items():
    setattr(_Size, _name, _method)
