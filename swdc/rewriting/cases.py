"""The cases on which two programs are compared, and what a program gives on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from swdc.errors import InputError
from swdc.ir.differences import flat_outputs
from swdc.ir.program import Program
from swdc.rewriting.corners import corners
from swdc.rewriting.cutting import kept_by_plan
from swdc.rewriting.runs import WIDE, called, floats_in, inputs_in
from swdc.rewriting.training_step import Step, training_step

EVAL, TRAIN, CORNERS = "eval", "train", "corners"
_FAILURES = (RuntimeError, ValueError, IndexError, InputError)


@dataclass(frozen=True)
class Case:
    """Inputs in the types of the example: the mode that they are run in, the batch size, and the names of corners."""

    mode: str
    batch: int
    inputs: Any
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What a program gives on a case: its outputs, in training the whole step; or the error that it raises."""

    outputs: list[torch.Tensor] = field(default_factory=list)
    step: Step | None = None
    error: Exception | None = None

    @property
    def failure(self) -> str:
        """The first line of the error, empty if there is none."""
        return "" if self.error is None else (str(self.error).splitlines() or [type(self.error).__name__])[0]


def cases_of(masked: Program, settings: Sequence[tuple[str, int]], seed: int, inputs: Any) -> list[Case]:
    """Return the cases for pairs of mode and batch size, those in training last; ``inputs`` are those of the caller."""
    drawn = [Case(mode, batch, inputs_in(masked, batch, seed, None, inputs)) for mode, batch in settings]
    return sorted(drawn, key=lambda case: case.mode == TRAIN)


def corner_cases(masked: Program, wide: Program, seed: int) -> list[Case]:
    """Return the corners on which the masked program runs; what it refuses is not an input.

    ``wide`` is the masked program in float64.
    """
    together = [Case(CORNERS, len(names), inputs, names) for names, inputs in corners(masked, seed)]
    if all(result_of(wide, case, seed, WIDE).error is None for case in together):
        return together
    apart = [Case(CORNERS, 1, inputs, names) for names, inputs in corners(masked, seed, together=False)]
    return [case for case in apart if result_of(wide, case, seed, WIDE).error is None]


def results_of(
    program: Program,
    cases: Iterable[Case],
    seed: int,
    dtype: torch.dtype | None,
    masked: Program | None = None,
    gradients: bool = True,
) -> list[Result]:
    """Return the results of a program that computes in ``dtype``; ``masked`` is its original if it is a masked one.

    The statistics and gradients of a masked program are those of the channels that its plan keeps.
    """
    return [result_of(program, case, seed, dtype, masked, gradients) for case in cases]


def result_of(
    program: Program,
    case: Case,
    seed: int,
    dtype: torch.dtype | None,
    masked: Program | None = None,
    gradients: bool = True,
) -> Result:
    """Return the result of one case, as ``results_of`` does."""
    inputs = floats_in(case.inputs, dtype)
    try:
        if case.mode != TRAIN:
            return Result(flat_outputs(called(program.eval(), inputs, seed, dtype)))
        kept = None if masked is None else kept_by_plan(masked)
        step = training_step(program, inputs, seed, dtype, gradients, kept)
    except _FAILURES as error:
        return Result(error=error)
    return Result(step.outputs, step)
