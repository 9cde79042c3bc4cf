"""Restores a model after capture, which runs the model's code: that code may store caches, counters or modes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from swdc.capture.mutable_state import Container, Place, SeldomWritten
from swdc.capture.reachable import places_of
from swdc.ir.seeding import seed_all

PutBack = Callable[[], object]


class Restoring:
    """Puts back what a model's code can reach: see ``swdc.capture.reachable``.

    If it is ``thorough``, it looks each time for writes to parameters that torch does not count, else at the end only.
    """

    def __init__(self, model: nn.Module, given: Any = (), parameters: bool = False, thorough: bool = False) -> None:
        self._thorough = thorough
        self._places = places_of(model, given, parameters)
        self._empty = [place.live for place in self._places if isinstance(place, Container) and not place.before]
        self._others = [place for place in self._places if not isinstance(place, Container) or place.before]

    def __call__(self) -> bool:
        """Put everything back; return whether something had changed."""
        changed = list(self._changed())
        for place in changed:
            place.put_back()
        return bool(changed)

    def numbers(self) -> dict[tuple[int, Any], tuple[str, float]]:
        """Return the numbers of Python that are held where something has changed, each with its name, by its place."""
        return {
            (id(place), key): (str(key), x)
            for place in self._changed()
            for key, x in place.held().items()
            if type(x) in (int, float)
        }

    def overwritten(self, model: nn.Module) -> str:
        """Return the name of a parameter that holds other values now, even if torch did not count the write; or ''."""
        changed = {id(p.tensor) for p in self._places if isinstance(p, SeldomWritten) and p.has_other_values()}
        return next((name for name, tensor in model.named_parameters() if id(tensor) in changed), "")

    def end(self) -> None:
        """Put everything back, even what was written in a way that torch does not count, and keep nothing."""
        for place in self._places:
            if place.ends_changed():
                place.put_back()
        for place in self._places:
            place.forget()
        for place in self._places:
            place.end()

    def _changed(self) -> Iterator[Place]:
        """Yield the places that hold something else now; most were empty, and are looked at together."""
        for place in self._places if any(self._empty) else self._others:
            if place.ends_changed() if self._thorough else place.changed():
                yield place


@contextmanager
def restored(
    model: nn.Module, given: Any = (), parameters: bool = False, thorough: bool = False
) -> Iterator[Restoring]:
    """Restore what a model keeps in its modules, in classes, globals and closures, and the inputs that it is given.

    The values of its parameters are restored if ``parameters`` is true. All is restored at the end, and whenever the
    yielded object is called. The states of the random generators are restored at the end.
    """
    put_back = Restoring(model, given, parameters, thorough)
    try:
        with random_state_kept():
            yield put_back
    finally:
        put_back.end()


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
def seeded(seed: int) -> Iterator[None]:
    """Seed the random generators of torch, numpy and Python; restore their states at the end."""
    with random_state_kept():
        seed_all(seed)
        random.seed(seed)
        np.random.seed(seed)
        yield


def has_drawn(seed: int) -> bool:
    """Whether numbers were drawn in Python or numpy since they were seeded; programs draw in torch alone."""
    numbers: Any = np.random.RandomState(seed).get_state()
    now: Any = np.random.get_state()
    drawn = numbers[2] != now[2] or not np.array_equal(numbers[1], now[1])
    return drawn or random.getstate() != random.Random(seed).getstate()


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
