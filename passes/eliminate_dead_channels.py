"""Delete the channels that a plan removes: the tensors shrink, and with them every literal size in the graph."""

from __future__ import annotations

from dataclasses import dataclass

from swdc.costs.count import totals
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ir.program_facts import Origin
from swdc.rewriting.cutting import cut, cut_tensor, kept_by
from swdc.rewriting.fitting import check_kept
from swdc.rewriting.pass_base import Pass, PassResult


@dataclass(frozen=True)
class EliminateDeadChannels(Pass):
    """Cut dead channels out of tensors, modules and sizes; tensors that the graph does not read stay whole.

    With half of the channels of ``conv1`` removed::

        x -> conv1(3, 64) -> bn1(64) -> view[N, 64 * 49] -> fc(3136, 10)
        x -> conv1(3, 32) -> bn1(32) -> view[N, 32 * 49] -> fc(1568, 10)
    """

    plan: Plan
    after = ("fold-constant-channels",)

    def requires(self, program: Program) -> None:
        """Raise ``PlanError`` if the plan is for other groups."""
        check_kept(self.plan, program)

    def apply(self, program: Program) -> PassResult:
        """Return the slim program; it shares no tensor with the given one."""
        kept = kept_by(program, self.plan.kept)
        slim = cut(program, kept)
        origin = program.facts.origin
        before = totals(program) if origin is None else origin.before
        folded = {} if origin is None else origin.folded
        carried = {name: cut_tensor(t, name, kept) for name, t in folded.items()}
        slim = slim.with_facts(origin=Origin(self.plan, before, folded=carried))
        return PassResult(slim, modified=self.plan.removed_channels > 0)
