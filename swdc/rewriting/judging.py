"""Judges the results of the masked and the slim program: rounding, or a difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import inf

import torch

from swdc.errors import VerificationError, told_as
from swdc.ir.differences import relative_error
from swdc.rewriting.cases import CORNERS, EVAL, TRAIN, Case, Result
from swdc.rewriting.certificate import FACTOR, LEAST_EFFECT, TOLERANCE, Comparison
from swdc.rewriting.rounding import farthest, largest, lost_digits, own_errors, unit_of, wide_errors
from swdc.rewriting.ties import AMPLIFIED, Ties, without_amplified, without_ties

Tensors = list[torch.Tensor]
Row = tuple[Tensors, Tensors, Tensors]
Tied = Callable[[Case], Ties | None]
"""Returns the selections of the masked program between equal values in a case."""
Sensitivity = Callable[[Case, float, torch.dtype | None], list[Result]]
"""Returns a program's results in a type (``None``: its own) with all numbers moved by about one unit."""


@dataclass
class Verdict:
    """What the comparisons show: each of them, remarks, and the first case that differs in float64.

    ``assumptions`` are on inputs at which rounding decides. ``named`` is the statistic or the gradient that differs in
    it, if no output does. ``lost`` is the largest rounding error of the masked program in its own types, and ``ran``
    whether it runs in them.
    """

    comparisons: list[Comparison] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    assumptions: dict[str, None] = field(default_factory=dict)
    lost: float = 0.0
    ran: bool = True
    failed: Case | None = None
    named: str | None = None

    def worst(self, dtype: str) -> float:
        """Return the largest relative error in a precision."""
        return max((c.relative_error for c in self.comparisons if c.dtype == dtype), default=0.0)

    @property
    def rounding(self) -> float:
        """The largest error of the slim program in its own types, in rounding errors of the masked one."""
        return max((c.rounding for c in self.comparisons if c.rounding is not None), default=0.0)


@dataclass(frozen=True)
class Judge:
    """Holds the slim program's results against the masked one's, in float64 and in the program's own types.

    ``narrow`` are the masked program's results in one type, whose rounding unit is ``unit``. ``own`` names the types of
    the program, the coarsest of the unit ``own_unit``, if they are judged: then ``masked_own`` and ``slim_own`` are the
    results in these. ``ties`` finds selections between equal values. ``sensitivity`` is that of the masked program,
    ``slim_sensitivity`` that of the slim one.
    """

    cases: Sequence[Case]
    masked: Sequence[Result]
    slim: Sequence[Result]
    narrow: Sequence[Result]
    unit: float
    sensitivity: Sensitivity
    slim_sensitivity: Sensitivity
    own: str = ""
    own_unit: float = 0.0
    masked_own: Sequence[Result] = ()
    slim_own: Sequence[Result] = ()
    ties: Tied = lambda _: None

    def measure(self, case: Case) -> Callable[[Tensors], float]:
        """Return what tells how much an output in float64 differs from the masked program's for a case.

        A difference that is small beside the largest element is measured at the scale of each element.
        """
        number = next(number for number, each in enumerate(self.cases) if each is case)
        masked, narrow = (results[number].outputs for results in (self.masked, self.narrow))

        def measured(outputs: Tensors) -> float:
            whole = relative_error(outputs, masked)
            return whole if whole >= LEAST_EFFECT else largest(wide_errors(masked, outputs, narrow, self.unit))

        return measured

    def verdict(self) -> Verdict:
        """Return what all comparisons show."""
        verdict = Verdict()
        for group in self._groups():
            self._in_float64(group, verdict)
        for group in self._groups() if self.own else ():
            self._in_own_types(group, verdict)
        return verdict

    def _groups(self) -> list[list[int]]:
        """Return the cases that are judged together: those in evaluation share the scales of their channels."""
        evaluations = [i for i, case in enumerate(self.cases) if case.mode == EVAL]
        return [evaluations, *([i] for i, case in enumerate(self.cases) if case.mode != EVAL)]

    def _in_float64(self, group: list[int], verdict: Verdict) -> None:
        rows = self._rows(group, self.masked, self.slim, self.narrow, verdict)
        outputs = len(self.masked[group[0]].outputs)
        for i, error, row in _judged(rows, lambda m, s, n: wide_errors(m, s, n, self.unit, outputs)):
            case = self.cases[i]
            if case.mode != EVAL and largest(error) > TOLERANCE:
                unit = unit_of(torch.float64)
                draws = self._drawn(i, self.sensitivity(case, unit, torch.float64))
                error = wide_errors(row[0], row[1], farthest(row[0], row[0], draws), unit, outputs)
                error = self._without_decided(i, error, row[0], row[1], (torch.float64, unit), verdict)
            compared = _compared("float64", case, largest(error), None)
            self._note(case, error, TOLERANCE, verdict)
            if compared.relative_error > TOLERANCE and verdict.failed is None:
                verdict.failed, verdict.named = case, self._named(i, error)
            verdict.comparisons.append(compared)

    def _in_own_types(self, group: list[int], verdict: Verdict) -> None:
        rows = self._rows(group, self.masked_own, self.slim_own, self.masked, verdict)
        for i, error, (masked, slim, wide) in _judged(rows, lambda m, s, w: own_errors(w, m, s)):
            case = self.cases[i]
            if case.mode != TRAIN and largest(error) > FACTOR:
                error = self._typical(case, wide, masked, slim)
                error = self._without_decided(i, error, wide, slim, (None, self.own_unit), verdict)
            if case.mode == EVAL:
                verdict.lost = max(verdict.lost, lost_digits(wide, masked))
            self._note(case, error, FACTOR, verdict)
            plain = relative_error(self.masked_own[i].outputs, self.slim_own[i].outputs)
            verdict.comparisons.append(_compared(self.own, case, plain, largest(error)))

    def _without_decided(
        self,
        number: int,
        errors: Tensors,
        masked: Tensors,
        slim: Tensors,
        precision: tuple[torch.dtype | None, float],
        told: Verdict,
    ) -> Tensors:
        """Return the errors at corners without those where rounding decides, and assume that no input is such a one.

        ``precision`` is the type of the slim program's results, and its unit. Rounding decides between equal values:
        the masked program runs with its numbers moved by several units, because one unit seldom turns every choice. In
        float64 it may also be amplified in some elements: they then move as far as the slim program differs.
        """
        case, (dtype, unit) = self.cases[number], precision
        most = FACTOR if dtype is None else TOLERANCE
        if case.mode != CORNERS or largest(errors) <= most:
            return errors
        ties = self.ties(case)
        if ties is None and dtype is None:
            return errors
        moves = (1, FACTOR) if ties is None or dtype is None else (1, FACTOR, FACTOR**2)
        draws = [self._drawn(number, self.sensitivity(case, move * unit, dtype)) for move in moves]
        if ties is not None:
            left = without_ties(errors, masked, slim, [*chain(*draws)], ties)
            errors = self._assumed(errors, left, ties.assumption, told)
        if dtype is not None and largest(errors) > most:
            left = without_amplified(errors, masked, slim, [*chain(*draws[:2])])
            errors = self._assumed(errors, left, AMPLIFIED, told)
        return errors

    def _assumed(self, errors: Tensors, left: Tensors, assumption: str, told: Verdict) -> Tensors:
        """Return the errors that are left, and tell the assumption if any have gone."""
        if largest(left) < largest(errors):
            told.assumptions[assumption] = None
            return left
        return errors

    def _typical(self, case: Case, wide: Tensors, masked: Tensors, slim: Tensors) -> Tensors:
        """Return the errors of the slim program in its own types, where one run of each program says too little.

        Where the largest of huge numbers is chosen, say, a rounding error may change the choice in either program. Both
        run with all numbers moved by a unit: the masked one may round as far as it then does. If the slim one still
        rounds farther, the middle one of its runs is what it typically rounds.
        """
        masked_draws, slim_draws = (
            [result.outputs for result in run(case, self.own_unit, None) if result.error is None]
            for run in (self.sensitivity, self.slim_sensitivity)
        )
        far = farthest(wide, masked, masked_draws)
        error = own_errors(wide, far, slim)
        if largest(error) <= FACTOR:
            return error
        runs = sorted([error, *(own_errors(wide, far, draw) for draw in slim_draws)], key=largest)
        return runs[len(runs) // 2]

    def _drawn(self, number: int, draws: Sequence[Result]) -> list[Tensors]:
        """Return what is compared in a case of each draw: the outputs, of a step of training also what it leaves."""
        masked, *others = (results[number].step for results in (self.masked, self.slim, self.narrow))
        if masked is None:
            return [draw.outputs for draw in draws]
        names = masked.comparable(*(step for step in others if step is not None))
        return [draw.step.tensors(names) for draw in draws if draw.step is not None and not draw.step.failure]

    def _named(self, number: int, errors: Tensors) -> str | None:
        """Return the statistic or the gradient with the largest error, if no output differs."""
        step, *others = (each.step for each in (self.masked[number], self.slim[number], self.narrow[number]))
        if step is None or largest(errors[: len(step.outputs)]) > TOLERANCE:
            return None
        left = errors[len(step.outputs) :]
        worst = max(range(len(left)), key=lambda i: float(left[i].max()))
        names = step.comparable(*(each for each in others if each is not None))
        return f"{names[worst]}, after a step of training"

    def _rows(
        self,
        group: list[int],
        masked: Sequence[Result],
        slim: Sequence[Result],
        third: Sequence[Result],
        verdict: Verdict,
    ) -> list[tuple[int, Row]]:
        """Return the results that can be compared, by case; say why others cannot."""
        rows = []
        for i in group:
            case, results = self.cases[i], (masked[i], slim[i], third[i])
            if results[0].error or results[1].error:
                self._refused(case, results[0], results[1], third is self.masked, verdict)
            else:
                rows.append((i, _row(results, case, verdict)))
        return rows

    def _refused(self, case: Case, masked: Result, slim: Result, own: bool, verdict: Verdict) -> None:
        """Note why a case was not compared; raise in float64 and evaluation, where both programs have to run."""
        error = masked.error or slim.error
        assert error is not None
        if case.mode == EVAL and not own:
            which = "masked" if masked.error else "slim"
            with told_as(
                VerificationError, f"a {which} program that runs in evaluation, got one", "run it on the example inputs"
            ):
                raise error
        dtype = self.own if own else "float64"
        if masked.error is None:
            verdict.notes.append(
                f"the slim program fails in {dtype}, {_place(case)}, where the masked one runs: {slim.failure}"
            )
            verdict.comparisons.append(_compared(dtype, case, inf, inf if own else None))
        elif case.mode == TRAIN:
            verdict.notes.append(f"not compared in training: {masked.failure}")
        elif case.mode == EVAL:
            verdict.ran = False
            verdict.notes.append(f"the masked program does not run in {dtype} on this machine: {masked.failure}")

    def _note(self, case: Case, errors: Tensors, allowed: float, verdict: Verdict) -> None:
        """Name the corners at which the programs differ."""
        for number, name in enumerate(case.names):
            parts = [e[number] if len(case.names) > 1 and e.dim() and e.shape[0] == case.batch else e for e in errors]
            if largest(parts) > allowed:
                verdict.notes.append(f"the programs differ for {name}")


def _compared(dtype: str, case: Case, error: float, rounding: float | None) -> Comparison:
    return Comparison(dtype, case.mode, case.batch, error, rounding, dict(case.sizes))


def _row(results: tuple[Result, Result, Result], case: Case, verdict: Verdict) -> Row:
    """Return the tensors of three results in the same order; those of the third are none if it failed."""
    steps = [result.step for result in results if result.step is not None]
    if not steps:
        return results[0].outputs, results[1].outputs, results[2].outputs
    failure = next((step.failure for step in steps if step.failure), "")
    if failure:
        verdict.notes.append(f"gradients are not compared: {failure}")
    endless = [name for name, tensor in steps[0].left.items() if not bool(tensor.isfinite().all())]
    if endless:
        verdict.notes.append(f"not finite in the masked program, and not compared: {', '.join(endless[:3])}")
    names = steps[0].comparable(*steps[1:])
    tensors = [result.step.tensors(names) if result.step is not None else [] for result in results]
    return tensors[0], tensors[1], tensors[2]


def _judged(
    rows: list[tuple[int, Row]], judge: Callable[[Tensors, Tensors, Tensors], Tensors]
) -> Iterator[tuple[int, Tensors, Row]]:
    """Yield for each row its errors; rows whose tensors differ in the batch only are judged as one batch."""
    if len(rows) < 2 or not _stackable([row for _, row in rows]):
        yield from ((i, judge(*row), row) for i, row in rows)
        return
    columns = [[torch.cat(parts) for parts in zip(*(row[side] for _, row in rows), strict=True)] for side in range(3)]
    sizes = [[tensor.shape[0] for tensor in row[0]] for _, row in rows]
    parts = [torch.split(e, list(size)) for e, size in zip(judge(*columns), zip(*sizes, strict=True), strict=True)]
    for number, (i, row) in enumerate(rows):
        yield i, [part[number] for part in parts], row


def _stackable(rows: list[Row]) -> bool:
    """Whether all tensors of all rows have a first dimension, and agree in the others."""
    shapes = [[tuple(t.shape[1:]) if t.dim() else None for t in side] for row in rows for side in row]
    alike = None not in shapes[0] and all(each == shapes[0] for each in shapes)
    return alike and all([len(t) for t in side] == [len(t) for t in row[0]] for row in rows for side in row)


def _place(case: Case) -> str:
    return f"for {', '.join(case.names)}" if case.names else f"in {case.mode} at batch size {case.batch}"
