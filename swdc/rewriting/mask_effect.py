"""Tells whether the removed channels matter, because a mask without an effect proves nothing about a rewrite."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from swdc.analysis.branches import branches_of
from swdc.ir.differences import relative_error
from swdc.ir.groups import READS, WRITES
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from swdc.rewriting.cases import Case, Result, result_of
from swdc.rewriting.certificate import LEAST_EFFECT
from swdc.rewriting.read_checks import without_checks_of_weights
from swdc.rewriting.runs import WIDE, called, copies_in, copy_in, floats_in, inputs_in


def effect_of(
    dense: Program, masked: Program, measure: Callable[[list[torch.Tensor]], float], case: Case, seed: int
) -> tuple[float, bool]:
    """Return how much removed channels matter to the output, and whether they had to be refilled to tell.

    ``measure`` returns how much an output differs from that of the masked program.
    """
    with copies_in(without_checks_of_weights(dense), dtype=WIDE) as (program,):
        before = _needed(result_of(program, case, seed, WIDE))
    effect = measure(before)
    if effect >= LEAST_EFFECT:
        return effect, False
    return measure(_needed(result_of(_refilled(masked, seed), case, seed, WIDE))), True


def _needed(result: Result) -> list[torch.Tensor]:
    if result.error is not None:
        raise result.error
    return result.outputs


def responds(masked: Program, first: list[torch.Tensor], case: Case, seed: int) -> bool:
    """Whether the output of the masked program, in float64, depends on its input.

    ``first`` is its output for a case drawn with ``seed``. A recorded program has only one input.
    """
    if masked.facts.example_only:
        return True
    masked.eval()
    for other in (seed + 1, seed + 2, seed + 3):
        drawn = inputs_in(masked, case.batch, other, WIDE, None, case.sizes)
        if relative_error(first, called(masked, drawn, other, WIDE)) > 0:
            return True
    unordered = sample_inputs(masked, case.batch, seed, None, shuffle=False, sizes=case.sizes)
    return relative_error(first, called(masked, floats_in(unordered, WIDE), seed, WIDE)) > 0


def _refilled(masked: Program, seed: int) -> Program:
    """Return a copy in float64 whose removed channels have random weights, about as large as the kept ones.

    So have the layers that write removed branches; of these nothing is kept, and the weights are about one.
    """
    program = copy_in(masked, WIDE)
    plan = masked.facts.origin.plan  # type: ignore[union-attr]
    generator = torch.Generator().manual_seed(seed)
    tensors = program.tensors
    with torch.no_grad():
        for group in masked.groups:
            removed = np.setdiff1d(np.arange(group.width), plan.kept.get(group.name, np.arange(group.width)))
            for member in group.members if len(removed) else ():
                tensor = tensors[member.tensor]
                if not member.roles & {WRITES, READS}:
                    continue
                indices = torch.from_numpy(member.indices[removed].ravel()).to(tensor.device)
                part = tensor.index_select(member.dim, indices)
                spread = float(tensor.square().mean().sqrt()) or 1.0
                tensor.index_copy_(member.dim, indices, torch.randn(part.shape, generator=generator).to(part) * spread)
        branches = branches_of(masked) if plan.branches else {}
        for name in (tensor for branch in plan.branches for tensor in branches[branch].tensors):
            tensors[name].copy_(torch.randn(tensors[name].shape, generator=generator))
    return program
