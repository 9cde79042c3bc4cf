"""Set the channels that a plan removes to zero, in every tensor that writes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from swdc.costs.count import totals
from swdc.ir.groups import WRITES
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ir.program_facts import Origin
from swdc.rewriting.branches import silence
from swdc.rewriting.fitting import check_plan
from swdc.rewriting.pass_base import Pass, PassResult


@dataclass(frozen=True)
class MaskChannels(Pass):
    """Zero the filters, biases, gains and shifts of the channels that a plan removes.

    A gain that is read as ``1 + gain`` becomes -1, with which it writes zeros. Behind a norm without a gain, the
    weights that read a removed channel are zeroed, too. So are the weight and the bias of the layer that writes a
    removed residual branch.

    The graph stays as it is; of the tensors, with channel 1 removed::

        conv.weight [[a b] [c d]]      ->  [[a b] [0 0]]
        bn.weight   [g h]  bn.bias [s t]   [g 0]  [s 0]
    """

    plan: Plan

    def requires(self, program: Program) -> None:
        """Raise ``PlanError`` if the plan is for another program."""
        check_plan(self.plan, program)

    def apply(self, program: Program) -> PassResult:
        """Return a masked copy."""
        masked = program.clone()
        tensors = masked.tensors
        with torch.no_grad():
            for group in program.groups:
                kept = self.plan.kept.get(group.name)
                if kept is None or len(kept) == group.width:
                    continue
                removed = np.setdiff1d(np.arange(group.width), kept)
                for member in group.with_role(WRITES):
                    tensor = tensors[member.tensor]
                    indices = torch.from_numpy(member.indices[removed].ravel()).to(tensor.device)
                    tensor.index_fill_(member.dim, indices, member.rest)
        silence(masked, self.plan, program)
        masked = masked.with_facts(origin=Origin(self.plan, totals(program), dense=program))
        return PassResult(masked, modified=self.plan.removed_channels > 0 or bool(self.plan.branches))
