"""Lets a model's code see tensors without values as if they were those of its example, on the example's device.

Two things give a tensor on the meta device away. Its code may do one thing on the CPU and another elsewhere. And torch
turns a list that stands as an index, such as ``x[:, [2, 1, 0]]``, into a tensor on the device of ``x``, where it
loses its numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

_DEVICE = torch._C.TensorBase.device
_INDEXING = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)


class _Seen(local):
    """The device that code of this thread sees in the place of the meta device."""

    device: torch.device | None = None


_SEEN = _Seen()
_LOCK = Lock()
_runs = 0


@contextmanager
def as_if_real(device: torch.device) -> Iterator[None]:
    """Let tensors on the meta device look as if they were on another one, in this thread."""
    global _runs  # other threads may trace, too; the last one that ends puts torch's own attributes back
    with _LOCK:
        _runs += 1
        for name, seen in _AS_SEEN.items():
            setattr(torch.Tensor, name, seen)
    outer, _SEEN.device = _SEEN.device, device
    try:
        with _Lists():
            yield
    finally:
        _SEEN.device = outer
        with _LOCK:
            _runs -= 1
            if not _runs:
                for name in _AS_SEEN:
                    delattr(torch.Tensor, name)


@contextmanager
def as_they_are() -> Iterator[None]:
    """Let all tensors look as they are, inside ``as_if_real``."""
    outer, _SEEN.device = _SEEN.device, None
    try:
        yield
    finally:
        _SEEN.device = outer


def _device(tensor: torch.Tensor) -> torch.device:
    device: torch.device = _DEVICE.__get__(tensor)
    return _SEEN.device if _SEEN.device is not None and device.type == "meta" else device


class _Lists(TorchFunctionMode):
    """Gives tensors in place of lists of whole numbers that stand as indices.

    Another ``__getitem__`` in the class of tensors would do so, too, but Python does not forget it: tensors would be
    sequences ever after.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _INDEXING and args[0].is_meta:
            index = args[1]
            index = tuple(map(_with_values, index)) if isinstance(index, tuple) else _with_values(index)
            args = (args[0], index, *args[2:])
        return func(*args, **(kwargs or {}))


def _with_values(index: Any) -> Any:
    if isinstance(index, np.ndarray) and index.dtype.kind in "iu":
        return torch.tensor(index, dtype=torch.int64)
    return torch.tensor(index) if isinstance(index, list) and index and _whole(index) else index


def _whole(numbers: list[Any]) -> bool:
    """Whether nested lists hold whole numbers only."""
    return all(type(x) is int or (isinstance(x, list) and _whole(x)) for x in numbers)


_AS_SEEN = {
    "device": property(_device),
    "is_cpu": property(lambda tensor: _device(tensor).type == "cpu"),
    "is_cuda": property(lambda tensor: _device(tensor).type == "cuda"),
}
