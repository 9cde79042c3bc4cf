"""Putting a model back as it was: capture runs its code, and that code may keep things (caches, counters, modes)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

_LEFT_ALONE = (torch.Tensor, type, FunctionType, MethodType, ModuleType, str, bytes, int, float, type(None))

Contents = list[Any] | dict[Any, Any]


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Put back what the modules of a model, and the plain objects and containers that they hold, refer to.

    The values of tensors are not watched: see ``buffers_kept``.
    """
    found: dict[int, tuple[Contents, Contents]] = {}
    _collect(model, found)
    try:
        yield
    finally:
        for live, before in found.values():
            _put_back(live, before)


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Put back the values of buffers, and the state of the random generator, that a run of the model changes."""
    buffers = {buffer: (buffer.clone(), buffer._version) for buffer in model.buffers()}
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for buffer, (before, version) in buffers.items():
            if buffer._version != version:
                buffer.copy_(before)


def _collect(value: Any, found: dict[int, tuple[Contents, Contents]]) -> None:
    """Note each list and dict, and the attributes of each object, that can be reached; with a copy of its contents."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, _LEFT_ALONE):
            continue
        attributes = getattr(item, "__dict__", None)
        live = [c for c in (item, attributes) if isinstance(c, list | dict) and id(c) not in found]
        for contents in live:
            found[id(contents)] = (contents, contents.copy())
            pending.extend(contents.values() if isinstance(contents, dict) else contents)
        if isinstance(item, tuple):
            pending.extend(item)


def _put_back(live: Contents, before: Contents) -> None:
    if isinstance(live, list) or isinstance(before, list):
        live[:] = before
    elif live.keys() != before.keys() or any(live[key] is not value for key, value in before.items()):
        live.clear()
        live.update(before)
