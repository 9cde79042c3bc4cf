"""Makes the calls, and says how each ended."""

from __future__ import annotations

import inspect
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import dataclass
from typing import Any

from swdc.errors import PackageError, SwdcError
from tests.bad_arguments.targets import Target
from tests.bad_arguments.values import Takes, common

REFUSED, RAN, SILENT, RAW, DENIED = "refused", "ran", "silent", "raw", "denied"
WRONG = (SILENT, RAW, DENIED)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True)
class Outcome:
    """How a call with one argument replaced ended.

    ``refused``: a wrong value, by an error of ours. ``ran``: a right value. ``silent``: it ran although the value is
    wrong. ``denied``: an error of ours for a right value. ``raw``: another error than ours.
    """

    call: str
    kind: str
    said: str


def outcomes(targets: list[Target], made: dict[str, Any], every: int = 1) -> Iterator[Outcome]:
    """Replace each argument of each function by each value in turn, and yield how every n-th call ended."""
    number = 0
    for target in targets:
        missing = _parameters(target) ^ target.takes.keys()
        assert not missing, f"{target.name}: what does it take as {missing}?"
        with tempfile.TemporaryDirectory() as folder, chdir(folder):
            for name, takes in target.takes.items():
                for shown, value, right in _values(takes, made):
                    number += 1
                    if number % every == 0:
                        yield _called(target, name, shown, value, right)


def _parameters(target: Target) -> set[str]:
    """Return the names of the parameters of a function; a function that takes any is called with those of the table."""
    parameters = inspect.signature(target.function).parameters.values()
    takes_any = any(p.kind in _VARIADIC for p in parameters)
    return set(target.takes) if takes_any else {p.name for p in parameters}


def _values(takes: Takes, made: dict[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Yield values with how they are shown, and whether they are right."""
    values = common(made)
    assert set(takes.right) | set(takes.unjudged) <= values.keys()
    for name, value in values.items():
        if name not in takes.unjudged:
            yield name, value, name in takes.right
    for right, more in ((True, takes.good), (False, takes.bad)):
        for value in more:
            yield f"{type(value).__name__} {str(value)[:40]!r}", value, right


def _called(target: Target, name: str, shown: str, value: Any, right: bool) -> Outcome:
    call = f"{target.name}({name}={shown})"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.function(**{**target.arguments, name: value})
    except PackageError:
        raise
    except SwdcError as error:
        return Outcome(call, DENIED if right else REFUSED, str(error))
    except Exception as error:
        return Outcome(call, RAW, f"{type(error).__name__}: {error}")
    return Outcome(call, RAN if right else SILENT, "")


def counts(found: list[Outcome]) -> dict[str, int]:
    """Return how many calls ended in each way."""
    counted = Counter(outcome.kind for outcome in found)
    return {kind: counted[kind] for kind in (REFUSED, RAN, *WRONG)}
