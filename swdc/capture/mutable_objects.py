"""What keeps something outside of a dict of attributes: slots, bytes, random generators, and torch's own settings."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from swdc.capture.mutable_state import ABSENT, Place

GENERATORS = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
"""Random generators of which a model may have its own."""


class Slots(Place):
    """The attributes of an object for which its class has slots."""

    def __init__(self, live: Any, names: tuple[str, ...]) -> None:
        self.live, self.names = live, names
        self.before = self._values()

    def changed(self) -> bool:
        """Whether it holds something else now."""
        now = self._values()
        return any(now[name] is not value for name, value in self.before.items())

    def put_back(self) -> None:
        """Let it hold what it held, even if its class is frozen."""
        for name, value in self.before.items():
            if value is not ABSENT:
                object.__setattr__(self.live, name, value)
            elif self._value(name) is not ABSENT:
                object.__delattr__(self.live, name)

    def held(self) -> dict[Any, Any]:
        """Return the values by name."""
        return {name: value for name, value in self._values().items() if value is not ABSENT}

    def _values(self) -> dict[str, Any]:
        return {name: self._value(name) for name in self.names}

    def _value(self, name: str) -> Any:
        try:
            return object.__getattribute__(self.live, name)
        except AttributeError:
            return ABSENT


class Bytes(Place):
    """A ``bytearray`` or an ``array`` of Python's."""

    def __init__(self, live: Any) -> None:
        self.live, self.before = live, live[:]

    def changed(self) -> bool:
        """Whether it holds something else now."""
        return bool(self.live != self.before)

    def put_back(self) -> None:
        """Let it hold what it held."""
        self.live[:] = self.before


class Settings(Place):
    """What is set for all code of the process, and what code of a model can set anew."""

    def __init__(self) -> None:
        self.before = self._values()

    def changed(self) -> bool:
        """Whether something else is set now."""
        return self._values() != self.before

    def put_back(self) -> None:
        """Set what was set."""
        for (_, write), value in zip(_SETTINGS, self.before, strict=True):
            write(value)

    def _values(self) -> list[Any]:
        return [read() for read, _ in _SETTINGS]


class Draws(Place):
    """The state of a random generator."""

    def __init__(self, generator: Any) -> None:
        self._read, self._write = _access(generator)
        self.before = self._read()

    def changed(self) -> bool:
        """Whether numbers have been drawn."""
        return not _same(self._read(), self.before)

    def put_back(self) -> None:
        """Let it draw the same numbers again."""
        self._write(self.before)


_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    (torch.get_num_threads, torch.set_num_threads),
)


def slots_of(cls: type) -> tuple[str, ...]:
    """Return the names of the slots of a class, as its objects hold them."""
    found: list[str] = []
    for base in cls.__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            private = name.startswith("__") and not name.endswith("__")
            found.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return tuple(name for name in dict.fromkeys(found) if name not in ("__dict__", "__weakref__"))


def _access(generator: Any) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """Return what reads the state of a generator, and what sets it."""
    if isinstance(generator, random.Random):
        return generator.getstate, generator.setstate
    if isinstance(generator, np.random.Generator):
        bits: Any = generator.bit_generator
        return lambda: bits.state, lambda state: setattr(bits, "state", state)
    return generator.get_state, generator.set_state


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, tuple):
        return all(map(_same, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    return bool(np.array_equal(one, other))
