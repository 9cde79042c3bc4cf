"""The cases on which two programs are compared, and what a program gives on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.errors import InputError
from swdc.ir.conditions import broken
from swdc.ir.differences import flat_outputs
from swdc.ir.graph import SHAPE
from swdc.ir.other_sizes import cheaper_sizes
from swdc.ir.program import Program
from swdc.rewriting.corners import corners
from swdc.rewriting.cutting import kept_by_plan
from swdc.rewriting.runs import WIDE, called, floats_in, inputs_in
from swdc.rewriting.training_step import Step, training_step

EVAL, TRAIN, CORNERS = "eval", "train", "corners"
_TORCH = ("aten", "prims")
_FAILURES = (RuntimeError, ValueError, IndexError, InputError)


@dataclass(frozen=True)
class Case:
    """Inputs in the types of the example: the mode that they are run in, the batch size, and the names of corners.

    ``sizes`` are those of the inputs that differ from the example's.
    """

    mode: str
    batch: int
    inputs: Any
    names: tuple[str, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)


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


def cases_of(
    masked: Program,
    wide: Program,
    settings: Sequence[tuple[str, int]],
    seed: int,
    inputs: Any,
    everywhere: bool = True,
) -> list[Case]:
    """Return the cases for pairs of mode and batch size, and the corners; those in training come last.

    ``wide`` is the masked program in float64, and ``inputs`` are those of the caller. If there are none, the first case
    and the step of training have the sizes of the example. All others have other sizes: smaller ones if there are any,
    which cost less. Batch norms over few positions would blow up rounding in a step of training until it shows nothing.
    All have those of the example if the cases are not for sizes ``everywhere``.
    """
    if inputs is not None:
        drawn = [Case(mode, batch, inputs_in(masked, batch, seed, None, inputs)) for mode, batch in settings]
        return _ordered([*drawn, *_corner_cases(masked, wide, seed, {})])
    batches = [batch for _, batch in settings]
    sizes = sizes_besides(masked, wide, batches, seed, WIDE) if everywhere else {}
    first, *others = settings
    if sizes and all(mode != EVAL for mode, _ in others):
        others = [first, *others]
    drawn = [drawn_case(masked, *first, seed, {})]
    drawn += [drawn_case(masked, mode, batch, seed, {} if mode == TRAIN else sizes) for mode, batch in others]
    return _ordered([*drawn, *_corner_cases(masked, wide, seed, sizes)])


def drawn_case(masked: Program, mode: str, batch: int, seed: int, sizes: Mapping[str, int]) -> Case:
    """Return a case with random inputs of some sizes that are not the example's."""
    return Case(mode, batch, inputs_in(masked, batch, seed, None, None, sizes), sizes=sizes)


def _ordered(cases: list[Case]) -> list[Case]:
    return sorted(cases, key=lambda case: case.mode == TRAIN)


def sizes_besides(
    program: Program,
    running: Program,
    batches: Sequence[int],
    seed: int,
    dtype: torch.dtype | None,
    larger: bool = False,
) -> Mapping[str, int]:
    """Return sizes other than the example's at which a program runs, none if there are none near.

    ``running`` is the program that is run, in ``dtype``. Integers may be indices of another input: if there is no
    batch, the sizes that no input of integers has do not become smaller. Kernels of other packages may not notice an
    index that is too large, so that all sizes stay. With ``larger``, all become larger.
    """
    facts = program.facts
    if facts.example_only or has_foreign_kernels(program):
        return {}
    stay = set() if larger else _of_integers(program)
    growing = facts.symbols.keys() - stay if larger or facts.batch is None else ()
    sizes = cheaper_sizes(facts.symbols, facts.conditions, facts.batch, growing)
    at = [{**facts.sizes(batch), **sizes} for batch in batches]
    if not sizes or any(broken(facts.conditions, each) is not None for each in at):
        return {}
    case = drawn_case(program, EVAL, min(batches), seed, sizes)
    return {} if result_of(running, case, seed, dtype).error else sizes


def _of_integers(program: Program) -> set[str]:
    """Return the symbols in the shapes of inputs without fractions."""
    found = set[str]()
    leaves = pytree.tree_leaves(program.facts.example)
    for node, leaf in zip(program.graph.find_nodes(op="placeholder"), leaves, strict=True):
        if isinstance(leaf, torch.Tensor) and not leaf.is_floating_point() and not leaf.is_complex():
            found |= {str(symbol) for size in node.meta[SHAPE] for symbol in getattr(size, "free_symbols", ())}
    return found


def has_foreign_kernels(program: Program) -> bool:
    """Whether a program calls a kernel of another package, which may read outside of its memory for bad values."""
    called = (node.target for node in program.graph.nodes if node.op == "call_function")
    return any(isinstance(target, torch._ops.OpOverload) and target.namespace not in _TORCH for target in called)


def _corner_cases(masked: Program, wide: Program, seed: int, sizes: Mapping[str, int]) -> list[Case]:
    """Return the corners on which the masked program runs; what it refuses is not an input."""
    found = corners(masked, seed, sizes=sizes)
    near = masked.facts.nearest_batch
    together = [Case(CORNERS, near(len(names)), inputs, names, sizes) for names, inputs in found]
    if all(result_of(wide, case, seed, WIDE).error is None for case in together):
        return together
    apart = corners(masked, seed, together=False, sizes=sizes)
    alone = [Case(CORNERS, near(1), inputs, names, sizes) for names, inputs in apart]
    return [case for case in alone if result_of(wide, case, seed, WIDE).error is None]


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
