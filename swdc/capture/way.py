"""The base of all ways of capture: a way returns the graph of a model, or says why it cannot."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from swdc.capture.captured_graph import Captured
from swdc.capture.restore import PutBack

Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a model."""


class CannotCapture(Exception):  # noqa: N818
    """A way of capture cannot capture a model; the message says why."""


@dataclass(frozen=True)
class Subject:
    """A model to capture, in evaluation mode, and the inputs to capture it on.

    ``put_back`` restores the model, because a run may store things in it that must not reach the next run.
    """

    model: nn.Module
    inputs: Inputs
    put_back: PutBack
    dynamic: frozenset[str] | None = None
    """The names of the sizes that may change; ``None`` for all that can."""
    compared: bool = False
    """Whether the program's results on the inputs are compared with the model's afterwards."""


class Way(ABC):
    """Base of all ways of capture. A subclass has a name; ``swdc.register_way`` adds it to the list of ways."""

    name: ClassVar[str]
    """The value of ``program.facts.captured_by`` for programs captured this way."""
    example_only: ClassVar[bool] = False
    """The value of ``program.facts.example_only``: whether such a program is valid for the example inputs only."""

    @abstractmethod
    def capture(self, subject: Subject) -> Captured:
        """Return the graph of a model.

        Raises ``CannotCapture`` with the reason, or whatever the model or torch raises, if another way may work.
        Raises ``TraceError`` if no way would, with a message that tells the user what to change.
        """

    def captures(self, subject: Subject) -> Iterator[Captured]:
        """Yield graphs of a model, the best first; the next is asked for if a program differs from the model.

        Raises as ``capture`` does.
        """
        yield self.capture(subject)
