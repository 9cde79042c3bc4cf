"""Makes the calls, and says how each ended."""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

from swdc.errors import PackageError, SwdcError
from swdc.ir.argument_types import fits
from tests.bad_arguments.calls import NEVER, Target

REFUSED, RAN, SILENT, RAW = "refused", "ran", "silent", "raw"


@dataclass(frozen=True)
class Outcome:
    """How a call with one argument replaced ended.

    ``refused``: by an error of ours. ``ran``: the value is of the right type. ``silent``: it ran although the value is
    of a wrong type or out of range. ``raw``: another error than ours.
    """

    call: str
    kind: str
    said: str


def outcomes(targets: list[Target]) -> Iterator[Outcome]:
    """Replace each argument of each function by each bad value in turn, and yield how the call ended."""
    for target in targets:
        for name, hint in _parameters(target).items():
            for value in NEVER:
                yield _called(target, name, value, refuse=not fits(value, hint))
            for value in target.out_of_range.get(name, ()):
                yield _called(target, name, value, refuse=True)


def _parameters(target: Target) -> dict[str, Any]:
    """Return the type of each named parameter of a function; those of ``Program()`` are what is given."""
    function: Any = target.function
    function = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    hints = get_type_hints(function)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(target.function).parameters.values()
    named = {p.name: hints.get(p.name, Any) for p in parameters if p.kind in kinds}
    return named | {name: Any for name in target.arguments if name not in named}


def _called(target: Target, name: str, value: Any, refuse: bool) -> Outcome:
    call = f"{target.name}({name}={value!r:.40})"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            target.function(**{**target.arguments, name: value})
    except PackageError:
        raise
    except SwdcError as error:
        return Outcome(call, REFUSED, str(error))
    except Exception as error:
        return Outcome(call, RAW, f"{type(error).__name__}: {error}")
    return Outcome(call, SILENT if refuse else RAN, "")


def counts(found: list[Outcome]) -> dict[str, int]:
    """Return how many calls ended in each way."""
    counted = Counter(outcome.kind for outcome in found)
    return {kind: counted[kind] for kind in (REFUSED, RAN, SILENT, RAW)}
