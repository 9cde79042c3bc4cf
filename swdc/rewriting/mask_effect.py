"""Tells whether the removed channels matter, because a mask without an effect proves nothing about a rewrite."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from swdc.ir.differences import relative_error
from swdc.ir.groups import READS, WRITES
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from swdc.rewriting.certificate import LEAST_EFFECT
from swdc.rewriting.runs import called, copies_in, copy_in, run_in


def effect_of(dense: Program, masked: Program, after: Any, batch: int, seed: int, inputs: Any) -> tuple[float, bool]:
    """Return how much removed channels matter to the output, and whether they had to be refilled to tell.

    ``after`` is the output of the masked program.
    """
    with copies_in(dense, dtype=torch.float64) as (program,):
        before = run_in(program, "eval", batch, seed, torch.float64, inputs)
    effect = relative_error(before, after)
    if effect >= LEAST_EFFECT:
        return effect, False
    refilled = run_in(_refilled(masked, seed), "eval", batch, seed, torch.float64, inputs)
    return relative_error(refilled, after), True


def responds(masked: Program, batch: int, seed: int) -> bool:
    """Whether the output of the masked program depends on its input; a recorded program has only one input."""
    if masked.facts.example_only:
        return True
    # run anew, because a run in training has moved the statistics of batch norms
    first = run_in(masked, "eval", batch, seed, torch.float64, None)
    others = (run_in(masked, "eval", batch, seed + number, torch.float64, None) for number in (1, 2, 3))
    if any(relative_error(first, other) > 0 for other in others):
        return True
    drawn = sample_inputs(masked, batch, seed, torch.float64, shuffle=False)  # the order may not matter
    return relative_error(first, called(masked, drawn, seed, torch.float64)) > 0


def _refilled(masked: Program, seed: int) -> Program:
    """Return a copy in float64 whose removed channels have random weights, about as large as the kept ones."""
    program = copy_in(masked, torch.float64)
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
                indices = torch.from_numpy(member.indices[removed].ravel())
                part = tensor.index_select(member.dim, indices)
                spread = float(tensor.square().mean().sqrt()) or 1.0
                tensor.index_copy_(member.dim, indices, torch.randn(part.shape, generator=generator).to(part) * spread)
    return program
