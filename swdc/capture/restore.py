"""Restores a model after capture, which runs the model's code: that code may store caches, counters or modes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import nn

_LEFT_ALONE = (torch.Tensor, type, FunctionType, MethodType, ModuleType, str, bytes, int, float, type(None))
_PLAIN = (list, dict, OrderedDict, tuple, set)
"""Types whose instances hold nothing in attributes."""

Contents = list[Any] | dict[Any, Any]
PutBack = Callable[[], None]


@contextmanager
def restored(model: nn.Module) -> Iterator[PutBack]:
    """Restore the references that a model's modules hold, and those of the objects and containers within them.

    They are restored at the end, and whenever the yielded function is called. The values of tensors are not restored:
    see ``buffers_kept``.
    """
    found = _contents(model)

    def put_back() -> None:
        for live, before in found:
            if live or before:
                _put_back(live, before)

    try:
        yield put_back
    finally:
        put_back()


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Restore buffers and the state of the random generator after a run of the model, which may change them."""
    buffers = [(buffer, buffer.detach(), buffer.detach().clone(), buffer._version) for buffer in model.buffers()]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for buffer, memory, before, version in buffers:
            replaced = buffer.untyped_storage()._cdata != memory.untyped_storage()._cdata
            if replaced:  # by an assignment to buffer.data
                buffer.data = memory
            if replaced or buffer._version != version:
                memory.copy_(before)


def _contents(value: Any) -> list[tuple[Contents, Contents]]:
    """Return every list, dict and attribute dict that can be reached from a value, each with a copy of it."""
    found: list[tuple[Contents, Contents]] = []
    seen: set[int] = set()
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, _LEFT_ALONE):
            continue
        attributes = None if type(item) in _PLAIN else getattr(item, "__dict__", None)
        for contents in (item, attributes):
            if isinstance(contents, list | dict) and id(contents) not in seen:
                seen.add(id(contents))
                found.append((contents, contents.copy()))
                pending.extend(contents.values() if isinstance(contents, dict) else contents)
        if isinstance(item, tuple):
            pending.extend(item)
    return found


def _put_back(live: Contents, before: Contents) -> None:
    if isinstance(live, list) or isinstance(before, list):
        live[:] = before
    elif live.keys() != before.keys() or any(live[key] is not value for key, value in before.items()):
        live.clear()
        live.update(before)
