"""Lets a model's code see tensors without values as if they were those of its example, on the example's device.

Two things give a tensor on the meta device away. Its code may do one thing on the CPU and another elsewhere. And torch
turns a list that stands as an index, such as ``x[:, [2, 1, 0]]``, into a tensor on the device of ``x``, where it
loses its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.overrides import TorchFunctionMode

_TOLD: Mapping[Any, Callable[[torch.device], Any]] = {
    torch.Tensor.device.__get__: lambda device: device,
    torch.Tensor.is_cpu.__get__: lambda device: device.type == "cpu",  # type: ignore[attr-defined]
    torch.Tensor.is_cuda.__get__: lambda device: device.type == "cuda",  # type: ignore[attr-defined]
}
_INDEXING = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)


class AsIfReal(TorchFunctionMode):
    """While it is active, tensors on the meta device tell another one, and take lists of whole numbers as indices.

    The code of operators, which torch runs inside of a call, sees tensors as they are.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _TOLD and args[0].is_meta:
            return _TOLD[func](self.device)
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
