"""Restores a model after capture, which runs the model's code: that code may store caches, counters or modes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from swdc.capture.places import places_of

PutBack = Callable[[], None]


class Restoring:
    """Puts back what a model's code can reach: see ``swdc.capture.places``."""

    def __init__(self, model: nn.Module) -> None:
        self._places = places_of(model)

    def __call__(self) -> None:
        """Put everything back."""
        for place in self._places:
            if place.changed():
                place.put_back()

    def changed(self) -> bool:
        """Whether the model's code has kept something since everything was put back last."""
        return any(place.changed() for place in self._places)


@contextmanager
def restored(model: nn.Module) -> Iterator[Restoring]:
    """Restore what a model keeps in its modules, in classes, globals and closures, except for its parameters' values.

    It is restored at the end, and whenever the yielded object is called. The states of the random generators are
    restored at the end.
    """
    put_back = Restoring(model)
    try:
        with random_state_kept():
            yield put_back
    finally:
        put_back()


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Restore the states of the random generators of torch, numpy and Python."""
    python, numbers = random.getstate(), np.random.get_state()
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numbers)


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Restore buffers and the state of the random generator after a run of the model, which may change them."""
    buffers = [(b, b.detach(), b.detach().clone(), b.requires_grad) for b in model.buffers()]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        for buffer, memory, before, differentiable in buffers:
            if buffer.requires_grad and not differentiable:  # written with gradients on
                buffer.detach_()
            if buffer.untyped_storage()._cdata != memory.untyped_storage()._cdata:  # by an assignment to buffer.data
                buffer.data = memory
            if not memory.is_meta and not torch.equal(memory, before):  # some kernels do not count their writes
                memory.copy_(before)
