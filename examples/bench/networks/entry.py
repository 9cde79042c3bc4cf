"""One network of the bench."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn

from swdc.errors import CommandError


@dataclass(frozen=True)
class Entry:
    """A network: its name, what builds it, and what draws example inputs for it.

    The weights of one that is ``trained`` matter, so that they stay; others are made random.
    """

    name: str
    model: Callable[[], nn.Module]
    inputs: Callable[[], Any]
    trained: bool = False


def call(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional and keyword arguments that inputs (a tensor, a tuple or a dict) stand for."""
    if isinstance(inputs, dict):
        return (), inputs
    return (tuple(inputs), {}) if isinstance(inputs, list | tuple) else ((inputs,), {})


def known(name: str, names: Iterable[str]) -> str:
    """Return a name that is one of ``names``; ``CommandError`` otherwise."""
    every = list(names)
    if name not in every:
        raise CommandError(f"expected networks of {', '.join(every)}, got {name!r}")
    return name
