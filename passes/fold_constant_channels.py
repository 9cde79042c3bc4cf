"""Carry the constant of a dead channel into the bias of the layer that sums over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from swdc.call import Call, Ref
from swdc.contract import Pass, PassResult
from swdc.count import totals
from swdc.ops import Operator, calls
from swdc.plan import Plan
from swdc.program import SHAPE, Origin, Program
from swdc.surgery import name_of_new, rebuild


@dataclass(frozen=True)
class FoldConstantChannels(Pass):
    """Where a dead channel reads c instead of 0, add its share to the bias: b' = b + W[:, dead] c.

    Sigmoid turns the zero of a dead channel into 1/2::

        fc1 -> sigmoid -> fc2(W, b)      ->      fc1 -> sigmoid -> fc2(W, b + W[:, dead] / 2)

    Exact for dense layers and for convolutions without padding; elsewhere the analysis freezes such channels.
    The weights of the dead channels themselves go with ``eliminate-dead-channels``, which must follow.
    """

    plan: Plan

    def apply(self, program: Program) -> PassResult:
        """Return a program with corrected biases, or the given one where there is nothing to correct."""
        coupling = program.coupling
        stays = coupling.keep(self.plan.kept)
        shares: dict[str, npt.NDArray[np.float64]] = {}
        for node in program.graph.nodes:
            constants = coupling.constants.get(node.name)
            if constants is None:
                continue
            labels = coupling.tensors[calls(program)[node][1]["weight"]][1]
            gone = np.where(stays[labels], 0.0, constants)
            if gone.any():
                shares[node.name] = gone
        if not shares:
            return PassResult(program, modified=False)
        tensors = dict(program.clone().tensors)
        biases: dict[str, Ref] = {}
        exact: dict[str, torch.Tensor] = {}
        for node in program.graph.nodes:
            if node.name in shares:
                name, value = _fold(calls(program)[node][1], shares[node.name], tensors)
                biases[node.name], exact[name] = name, value

        def change(call: Call, operator: Operator) -> Mapping[str, Any]:
            return {"bias": biases[call.node.name]} if call.node.name in biases else {}

        folded = rebuild(program, tensors, change, lambda node: node.meta.get(SHAPE, ()), program.transient)
        origin = program.facts.origin
        before = totals(program) if origin is None else origin.before
        folded.with_origin(Origin(self.plan, before, folded=exact))
        return PassResult(folded, modified=True)


def _fold(call: Call, constants: npt.NDArray[np.float64], tensors: dict[str, torch.Tensor]) -> tuple[Ref, torch.Tensor]:
    """Add to the bias of a call what its dead inputs contribute; return its name, and its value in float64."""
    weight = tensors[call["weight"]].detach()
    summed = weight.double().flatten(2).sum(2) if weight.dim() > 2 else weight.double()
    share = summed @ torch.from_numpy(constants).to(weight.device)
    name = call["bias"] or name_of_new("bias", call, tensors)
    old = tensors[name].detach().double() if name in tensors else 0.0
    learns = tensors.get(name, tensors[call["weight"]]).requires_grad
    tensors[name] = nn.Parameter((old + share).to(weight.dtype), requires_grad=learns)
    return Ref(name), old + share
