"""Copies of large tensors that take neither time nor memory until one of both is written."""

from __future__ import annotations

import torch

_LARGE = 1 << 20
"""Bytes from which a copy is put off; the copy of a smaller tensor costs next to nothing."""


def copy_of(tensor: torch.Tensor) -> torch.Tensor:
    """Return a copy of a tensor, with memory of its own as soon as torch writes to either of them.

    New memory takes several times as long as the copy itself. Tensors that torch cannot share like this (those of
    numpy, of other processes and of files) are copied at once.
    """
    if tensor.nbytes >= _LARGE and tensor.device.type == "cpu":
        try:
            return torch._lazy_clone(tensor)
        except RuntimeError:
            pass
    return tensor.clone()


def never_written(tensor: torch.Tensor) -> bool:
    """Whether a tensor still shares its memory with a copy, so that it was not written since."""
    shared: bool = torch._C._is_cow_tensor(tensor)  # type: ignore[attr-defined]
    return shared


def end_of_copy(tensor: torch.Tensor) -> None:
    """Let a tensor own its memory again after the last of its copies is gone: it stays where it is."""
    tensor.untyped_storage().data_ptr()
