"""Carry the constant of a dead channel into the bias of the layer that sums over it."""

from __future__ import annotations

from dataclasses import dataclass

from swdc.costs.count import totals
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ir.program_facts import Origin
from swdc.rewriting.cutting import fold
from swdc.rewriting.fitting import check_kept
from swdc.rewriting.pass_base import Pass, PassResult


@dataclass(frozen=True)
class FoldConstantChannels(Pass):
    """If a dead channel holds c instead of 0, add its share to the bias: b' = b + W[:, dead] c.

    Sigmoid turns the zero of a dead channel into 1/2::

        fc1 -> sigmoid -> fc2(W, b)      ->      fc1 -> sigmoid -> fc2(W, b + W[:, dead] / 2)

    Exact for dense layers and for convolutions without padding; elsewhere the analysis freezes such channels.
    ``eliminate-dead-channels``, which must follow, removes the weights of the dead channels.
    """

    plan: Plan

    def requires(self, program: Program) -> None:
        """Raise ``PlanError`` if the plan is for other groups."""
        check_kept(self.plan, program)

    def apply(self, program: Program) -> PassResult:
        """Return a program with corrected biases, or the given one if there is nothing to correct."""
        coupling = program.coupling
        folded, _, exact = fold(program, coupling, coupling.keep(self.plan.kept))
        if folded is program:
            return PassResult(program, modified=False)
        origin = program.facts.origin
        before = totals(program) if origin is None else origin.before
        folded = folded.with_facts(origin=Origin(self.plan, before, folded=exact))
        return PassResult(folded, modified=True)
