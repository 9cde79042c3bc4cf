"""The ways of capture, in the order in which they are tried."""

from __future__ import annotations

import io
import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from typing import Any

from torch import nn

from swdc.capture.by_export import Export
from swdc.capture.by_following import Follow
from swdc.capture.by_recording import Record
from swdc.capture.captured_graph import Captured
from swdc.capture.way import CannotCapture, Subject, Way
from swdc.errors import TraceError, brief, told_as
from swdc.ir.argument_types import check_type, checked
from swdc.ir.program import Program

WAYS: list[Way] = [
    Follow(),
    Export(),
    Record(),
]
"""Sorted from the fastest way, which demands most of a model, to the one that demands least.

A new way is a file and a line here. Those that ``register_way`` adds stand before these.
"""

_log = logging.getLogger("swdc")


Made = Callable[[Captured], Program]
"""Makes the program of a graph; raises ``CannotCapture`` if the program does not compute what the model computes."""


@checked(TraceError)
def register_way(cls: type[Way]) -> type[Way]:
    """Add a way of capture, which ``swdc.trace`` tries before all others (usable as a decorator).

    A way raises ``CannotCapture`` for a model that it is not meant for, so that the next is tried. A later class of the
    same name replaces an earlier one. Returns the class; raises ``TraceError`` unless it has a name and can be made
    without arguments::

        @swdc.register_way
        class Mine(swdc.Way):
            name = "mine"

            def capture(self, subject: swdc.Subject) -> swdc.Captured: ...
    """
    for part, kind in (("name", str), ("example_only", bool), ("capture", Callable)):
        check_type(TraceError, f"{cls.__name__}.{part}", getattr(cls, part, None), kind)
    if not cls.name:
        raise TraceError(f"expected a name of {cls.__name__}, got an empty one; programs are told by it how they came")
    with told_as(TraceError, f"a way that is made without arguments, got {cls.__name__}", "give them defaults"):
        way = cls()
    WAYS[:] = [way, *(other for other in WAYS if other.name != way.name)]
    return cls


def capture(subject: Subject, ways: Iterable[Way], made: Made) -> Program:
    """Return the program of a model from the first way that works. The model is left as it was.

    Raises ``TraceError`` if no way works, or if one says that no other way would work.
    """
    failures: dict[str, Exception] = {}
    for way in ways:
        found = _tried(way, subject, made, failures)
        if found is not None:
            return found
    raise _refusal(subject.model, failures)


def _tried(way: Way, subject: Subject, made: Made, failures: dict[str, Exception]) -> Program | None:
    """Return the program of a model; if the way fails, add the error to ``failures`` and return ``None``."""
    began = time.perf_counter()
    said: dict[str, Any] = {"by": way.name, "example_only": way.example_only, "attempts": _reasons(failures)}
    try:
        with _quiet():
            found = _first(way, subject, lambda captured: made(replace(captured, **said)))
    except Exception as error:  # models and torch raise errors of many kinds, which all mean that the way failed
        failures[way.name] = error
        _log.info("%s: cannot capture, because %s (%.2f s)", way.name, _reason(error), time.perf_counter() - began)
        if not isinstance(error, TraceError):
            return None
        error.attempts = _reasons(failures)
        raise
    finally:
        subject.put_back()
    _log.debug("%s: captured (%.2f s)", way.name, time.perf_counter() - began)
    return found


def _first(way: Way, subject: Subject, made: Made) -> Program:
    """Return the first program that agrees with the model; raise why the first of them does not."""
    rejected: Exception | None = None
    try:
        for captured in way.captures(subject):
            subject.put_back()
            try:
                return made(captured)
            except CannotCapture as reason:
                rejected = rejected or reason
                subject.put_back()
    except Exception as failure:  # the way has no other graph
        if rejected is None:
            raise
        raise rejected from failure
    raise rejected or CannotCapture("it found no graph")


def _reasons(failures: Mapping[str, Exception]) -> tuple[tuple[str, str], ...]:
    return tuple((name, _reason(error)) for name, error in failures.items())


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, CannotCapture | TraceError) else brief(error)


def _refusal(model: nn.Module, failures: Mapping[str, Exception]) -> TraceError:
    """Return the error with all reasons. The first way demands most, so its reason says least and is last."""
    first, *later = failures.items()
    (name, error), *others = (*later, first)
    lines = (
        f"expected a model that can be captured, got {type(model).__name__}, which {name} cannot capture: "
        f"{_reason(error)}; make its control flow and shapes independent of the values of its inputs (the full report "
        f"is the cause of this error)",
        *(f"{other} says: {_reason(failure)}" for other, failure in others),
    )
    refusal = TraceError("\n".join(lines))
    refusal.attempts, refusal.__cause__ = _reasons(failures), error.__cause__ or error
    return refusal


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and logs during capture, because all that matters to the user is raised."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # a failing export prints its graph
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
