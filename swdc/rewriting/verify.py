"""Compares a masked and a slim program, and certifies the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.errors import VerificationError, told_as
from swdc.ir.argument_types import checked
from swdc.ir.content_hash import content_hash
from swdc.ir.differences import flat_outputs, relative_error
from swdc.ir.dtypes_and_devices import float_types
from swdc.ir.module_tensors import is_meta
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from swdc.ir.same_calls import different_calls
from swdc.rewriting.added_code import added_code
from swdc.rewriting.assumptions import assumptions_of
from swdc.rewriting.cases import EVAL, TRAIN, Case, Result, cases_of, result_of, results_of
from swdc.rewriting.certificate import FACTOR, LEAST_EFFECT, TOLERANCE, Certificate
from swdc.rewriting.first_difference import first_difference
from swdc.rewriting.judging import Judge, Sensitivity, Verdict
from swdc.rewriting.mask_effect import effect_of, responds
from swdc.rewriting.read_checks import assumed_reads
from swdc.rewriting.rounding import unit_of
from swdc.rewriting.runs import WIDE, called, copies_in, floats_in, perturbed
from swdc.rewriting.same_weights import other_weights, shared_otherwise, without_name
from swdc.rewriting.ties import Ties, ties_of

_NARROW = torch.float32
"""The type in which rounding is measured if a program computes in float64 only."""
_DRAWS = 4
"""How often a program is run with perturbed numbers if one run of it seems not to determine its output."""
_TRAINED = 3
"""The batch of the step of training: two samples, normalised, would be one and minus one whatever they are."""


@checked(VerificationError, on_cpu=True)
def verify(
    masked: Program, slim: Program, batches: Sequence[int] = (1, 3), seed: int = 0, inputs: Any = None
) -> Certificate:
    """Compare a masked program with the slim one of the same plan, and certify the result.

    Both run in float64 and in their own types: in evaluation at each of ``batches``; at the corners of what they take
    (zeros, ones, tiny and huge numbers, closed masks, the range of indices); and through a step of training on two or
    three samples (dropout scales instead of dropping, batch norms on batch statistics), with the statistics that it
    leaves and, in float64, its gradients. Inputs are random, of the form of the example inputs, or the positional
    ``inputs`` given. Random inputs have the sizes of the example at the smallest batch and in training, and other sizes
    for which the program stands in all other cases. A batch size for which it does not stand becomes the next one.
    Every weight of the slim program is held against what the plan keeps of it, because no run reads all weights.
    Neither program is changed.

    Raises ``VerificationError`` if ``masked`` was not made by ``swdc.mask``, the two have different plans, the seed is
    not one that torch takes, or the programs do not run on the inputs.

    Example::

        certificate = swdc.verify(masked, slim)
        assert certificate.exact, certificate
    """
    if not 0 <= seed < 2**63:
        raise VerificationError(f"expected a seed between 0 and 2**63 - 1, got {seed}")
    dense = _check(masked, slim)
    with told_as(VerificationError, "a comparison that runs on these inputs, got one", "give other inputs"):
        return _Verification(dense, masked, slim, _batches(masked, batches, inputs), seed, inputs).certificate()


class _Verification:
    """The runs of two programs, and the certificate that follows from them."""

    def __init__(
        self, dense: Program, masked: Program, slim: Program, batches: Sequence[int], seed: int, inputs: Any
    ) -> None:
        self.dense, self.masked, self.slim, self.seed, self.inputs = dense, masked, slim, seed, inputs
        self.settings = _settings(batches, masked, given=inputs is not None)
        self.cases: list[Case] = []
        self.others = other_weights(masked, slim)
        self.called = different_calls(masked, slim) or shared_otherwise(masked, slim)
        self.assumptions: tuple[str, ...] = ()
        self.answers = True

    def certificate(self) -> Certificate:
        wide = self._in_float64()
        judge = self._judge(*wide)
        verdict = judge.verdict()
        effect, refilled = effect_of(self.dense, self.masked, judge.measure(self.largest), self.largest, self.seed)
        agree, unit = verdict.worst("float64") <= TOLERANCE, max(map(unit_of, self._own()), default=0.0)
        same = self.answers and not self.others and self.called is None
        faithful = verdict.ran and verdict.rounding <= FACTOR and verdict.lost <= unit**0.5
        plan = self.masked.facts.origin.plan  # type: ignore[union-attr]
        return Certificate(
            exact=agree and faithful and effect >= LEAST_EFFECT and same,
            max_relative_error=verdict.worst("float64"),
            max_relative_error_own=verdict.worst(self._own_name()),
            rounding=verdict.rounding,
            lost=verdict.lost,
            effect=effect,
            refilled=refilled,
            tolerance=TOLERANCE,
            seed=self.seed,
            program_hash=plan.program_hash,
            dense_hash=content_hash(self.dense),
            masked_hash=content_hash(self.masked),
            slim_hash=content_hash(self.slim),
            removed_channels=plan.removed_channels,
            comparisons=tuple(verdict.comparisons),
            first_difference=self._first_difference(verdict),
            assumptions=(
                *self.assumptions,
                *assumed_reads(self.slim),
                *without_name(self.masked, self.slim),
                *verdict.assumptions,
            ),
            notes=tuple(dict.fromkeys([*verdict.notes, *self._notes(verdict, effect)])),
        )

    @property
    def largest(self) -> Case:
        """The last case in evaluation."""
        return [case for case in self.cases if case.mode == EVAL][-1]

    def _in_float64(self) -> tuple[list[Result], list[Result]]:
        with copies_in(self.masked, self.slim, dtype=WIDE) as (masked, slim):
            self.cases = cases_of(self.masked, masked, self.settings, self.seed, self.inputs)
            self.assumptions = assumptions_of(masked, slim, self.seed, self.cases[-1].sizes)
            first = result_of(masked, self.largest, self.seed, WIDE).outputs
            self.answers = responds(masked, first, self.largest, self.seed)
            return (
                results_of(masked, self.cases, self.seed, WIDE, self.masked),
                results_of(slim, self.cases, self.seed, WIDE),
            )

    def _judge(self, masked: list[Result], slim: list[Result]) -> Judge:
        """Run both programs in their own types, and the masked one in float32 if these are float64 or mixed."""
        own, unit = self._own(), max(map(unit_of, self._own()), default=0.0)
        if own <= {WIDE}:
            self._compare_types(masked, slim)
            return Judge(
                self.cases, masked, slim, self._in_float32(), unit_of(_NARROW), *self._sensitivities(), ties=self._ties
            )
        with copies_in(self.masked, self.slim, dtype=None) as (one, other):
            masked_own = results_of(one, self.cases, self.seed, None, self.masked)
            slim_own = results_of(other, self.cases, self.seed, None, gradients=False)
        self._compare_types(masked_own, slim_own)
        # parts in a wider type round less than the coarsest unit says
        narrow, narrow_unit = (masked_own, unit) if len(own) == 1 else (self._in_float32(), unit_of(_NARROW))
        return Judge(
            self.cases,
            masked,
            slim,
            narrow,
            narrow_unit,
            *self._sensitivities(),
            self._own_name(),
            unit,
            masked_own,
            slim_own,
            self._ties,
        )

    def _compare_types(self, masked: list[Result], slim: list[Result]) -> None:
        """Note if a result of the slim program has another type than the masked program's."""
        types = ([[t.dtype for t in result.outputs] for result in results] for results in (masked, slim))
        ran = [(one, other) for one, other in zip(*types, strict=True) if one and other]
        if any(one != other for one, other in ran):
            self.called = self.called or "another type of a result"

    def _in_float32(self) -> list[Result]:
        with copies_in(self.masked, dtype=_NARROW) as (one,):
            return results_of(one, self.cases, self.seed, _NARROW, self.masked)

    def _sensitivities(self) -> tuple[Sensitivity, Sensitivity]:
        return partial(self._moved, self.masked), partial(self._moved, self.slim)

    def _ties(self, case: Case) -> Ties | None:
        return ties_of(self.masked, case, self.seed)

    def _moved(self, program: Program, case: Case, unit: float, dtype: torch.dtype | None) -> list[Result]:
        """Return a program's results in ``dtype`` with all numbers moved by about ``unit``."""
        draws = []
        for seed in range(_DRAWS):
            with copies_in(program, dtype=dtype) as (copy,):
                moved = Case(case.mode, case.batch, perturbed(copy, floats_in(case.inputs, dtype), unit, seed))
                draws.append(result_of(copy, moved, self.seed, dtype, self.masked))
        return draws

    def _own(self) -> set[torch.dtype]:
        return float_types(self.masked) | float_types(self.slim)

    def _own_name(self) -> str:
        return "+".join(sorted(str(dtype).removeprefix("torch.") for dtype in self._own()))

    def _first_difference(self, verdict: Verdict) -> str | None:
        if verdict.failed is None or verdict.named is not None:
            return verdict.named
        return first_difference(self.masked, self.slim, verdict.failed, self.seed)

    def _notes(self, verdict: Verdict, effect: float) -> list[str]:
        notes, own = [], self._own_name()
        for kind, program in (("masked", self.masked), ("slim", self.slim)):
            if found := added_code(program):
                notes.append(f"not compared: hooks, or another forward, that the {kind} program has at {found}")
        if self.others:
            notes.append(f"of other values than in the masked program: {', '.join(self.others[:3])}")
        if self.called is not None:
            notes.append(f"the slim program has {self.called} than the masked one")
        if effect < LEAST_EFFECT:
            notes.append("the mask does not change the output, so that the comparison shows nothing")
        if not self.answers:
            notes.append("the masked program gives the same output for any input, so that the comparison shows nothing")
        if verdict.rounding > FACTOR:
            notes.append(
                f"in {own} the slim program is {verdict.rounding:.2g} rounding errors of the masked one away from it, "
                f"more than {FACTOR:g}"
            )
        if verdict.lost > max(map(unit_of, self._own()), default=0.0) ** 0.5:
            notes.append(
                f"in {own} the masked program itself rounds by {verdict.lost:.1e} of its output, more than half of its "
                f"digits, so that the comparison shows nothing"
            )
        return notes


def difference(
    before: Program,
    after: Program,
    exact: Mapping[str, torch.Tensor] | None = None,
    outputs: Sequence[int] | None = None,
    on_example: bool = False,
    batch: int = 2,
    seed: int = 0,
) -> float:
    """Return the relative error of a rewritten program in float64, in evaluation, on random inputs or on the example.

    ``exact`` holds tensors of the rewritten program before they were rounded; ``outputs`` says which of the tensors
    that ``before`` returns are returned by ``after``. Where ``before`` refuses random inputs, because a search in it
    finds nothing, say, both run on the example. Neither program is changed.
    """
    inputs = sample_inputs(before, batch, seed, torch.float64)
    example = floats_in(before.facts.example, torch.float64)
    if on_example and not any(t.is_meta for t in pytree.tree_leaves(example) if torch.is_tensor(t)):
        inputs = example
    with copies_in(before, after, dtype=torch.float64) as (one, other):
        with torch.no_grad():
            tensors = other.tensors
            for name, value in (exact or {}).items():
                tensors[name].copy_(value)
        try:
            wanted = flat_outputs(called(one.eval(), inputs, seed, torch.float64))
        except Exception:  # whatever an operator raises on random values; on the example it is not caught
            inputs = example
            wanted = flat_outputs(called(one.eval(), inputs, seed, torch.float64))
        got = flat_outputs(called(other.eval(), inputs, seed, torch.float64))
    return relative_error(wanted if outputs is None else _chosen(wanted, outputs, len(got)), got)


def _chosen(wanted: Sequence[torch.Tensor], outputs: Sequence[int], number: int) -> list[torch.Tensor]:
    """Return some outputs of each call; ``number`` are wanted in all."""
    each = len(wanted) * len(outputs) // number
    return [wanted[first + i] for first in range(0, len(wanted), each) for i in outputs]


def _check(masked: Program, slim: Program) -> Program:
    """Return the dense program; raise ``VerificationError`` if the two cannot be compared."""
    origin = masked.facts.origin
    if origin is None or not isinstance(origin.dense, Program):
        raise VerificationError("expected a masked program as made by swdc.mask, got another; mask it with the plan")
    if slim.facts.origin is not None and slim.facts.origin.dense is not None:
        raise VerificationError("expected a slim program as made by swdc.slim, got a masked one; slim it with the plan")
    if is_meta(masked) or is_meta(slim):
        raise VerificationError("expected programs with values, got one on the meta device; give it values first")
    if slim.facts.origin is None or slim.facts.origin.plan.to_dict() != origin.plan.to_dict():
        raise VerificationError(
            "expected a masked and a slim program of the same plan, got different ones; make both with one plan"
        )
    return origin.dense


def _batches(program: Program, batches: Sequence[int], inputs: Any) -> tuple[int, ...]:
    """Return the batch sizes to compare: that of the given inputs if any; 1 if there is no batch."""
    if program.facts.batch is None:
        return (1,)
    given = [t for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor) and t.dim() > 0]
    if given:
        return (int(given[0].shape[0]),)
    if not batches or min(batches) < 1:
        raise VerificationError(f"expected batch sizes of at least 1, got {tuple(batches)}; give one or more")
    return tuple(dict.fromkeys(program.facts.nearest_batch(int(batch)) for batch in batches))


def _settings(batches: Sequence[int], program: Program, given: bool) -> list[tuple[str, int]]:
    if program.facts.example_only:
        return [(EVAL, batch) for batch in sorted(batches)]
    facts = program.facts
    training = max(batches) if given or facts.batch is None else facts.nearest_batch(min(_TRAINED, max(2, *batches)))
    return [*((EVAL, batch) for batch in sorted(batches)), (TRAIN, training)]
