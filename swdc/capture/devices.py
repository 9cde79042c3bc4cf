"""Lets a model's code see the device of its example, while it runs on tensors without values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock, local

import torch

_STATED = {name: getattr(torch._C.TensorBase, name) for name in ("device", "is_cpu", "is_cuda")}
"""What tells a tensor's device, as torch has it."""


class _Seen(local):
    """The device that code of this thread sees in the place of the meta device."""

    device: torch.device | None = None


_SEEN = _Seen()
_LOCK = Lock()
_runs = 0


def _device(tensor: torch.Tensor) -> torch.device:
    device: torch.device = _STATED["device"].__get__(tensor)
    return _SEEN.device if _SEEN.device is not None and device.type == "meta" else device


_AS_SEEN = {
    "device": property(_device),
    "is_cpu": property(lambda tensor: _device(tensor).type == "cpu"),
    "is_cuda": property(lambda tensor: _device(tensor).type == "cuda"),
}


@contextmanager
def meta_seen_as(device: torch.device) -> Iterator[None]:
    """Let tensors on the meta device tell that they are on another one, in this thread.

    A model's code may do one thing on the CPU and another elsewhere, and keep tensors for each device.
    """
    global _runs  # other threads may trace, too; the last one that ends puts torch's own attributes back
    with _LOCK:
        _runs += 1
        for name, seen in _AS_SEEN.items():
            setattr(torch.Tensor, name, seen)
    outer, _SEEN.device = _SEEN.device, device
    try:
        yield
    finally:
        _SEEN.device = outer
        with _LOCK:
            _runs -= 1
            if not _runs:
                for name in _AS_SEEN:
                    delattr(torch.Tensor, name)


@contextmanager
def true_devices() -> Iterator[None]:
    """Let all tensors tell the device that they are on, inside ``meta_seen_as``."""
    outer, _SEEN.device = _SEEN.device, None
    try:
        yield
    finally:
        _SEEN.device = outer
