"""Removes channels from a program: biases take over their constants, then the tensors and sizes shrink."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from swdc.analysis.channel_order import arranged
from swdc.channels.kept import Kept
from swdc.errors import PassError
from swdc.ir.call import Call, Ref
from swdc.ir.differences import widened
from swdc.ir.graph import SHAPE
from swdc.ir.groups import Bools, Coupling, Labelled
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ir.sizes import Shape
from swdc.ops import Operator, calls
from swdc.ops.rule_check import check_slim_calls, resized
from swdc.rewriting.rebuild import VANISHES, name_of_new, rebuild


def fold(program: Program, coupling: Coupling, stays: Bools) -> tuple[Program, Coupling, dict[str, torch.Tensor]]:
    """Return a program whose biases include the constants of the removed channels, its coupling, and these biases.

    It is the given program if there is nothing to add. The coupling includes new biases. The biases are by name, in
    float64.
    """
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
        return program, coupling, {}
    tensors = dict(program.clone().tensors)
    biases: dict[str, Ref] = {}
    written: dict[str, Labelled] = {}
    exact: dict[str, torch.Tensor] = {}
    for node in program.graph.nodes:
        if node.name in shares:
            call = calls(program)[node][1]
            name, value = _fold(call, shares[node.name], tensors)
            biases[node.name], exact[name] = name, value
            written[name] = coupling.tensors[call["weight"]][:1]

    def change(call: Call, operator: Operator) -> Mapping[str, Any]:
        return {"bias": biases[call.node.name]} if call.node.name in biases else {}

    folded = rebuild(program, tensors, change, lambda node: node.meta.get(SHAPE, ()))
    return folded, replace(coupling, tensors={**written, **coupling.tensors}), exact


def _fold(call: Call, constants: npt.NDArray[np.float64], tensors: dict[str, torch.Tensor]) -> tuple[Ref, torch.Tensor]:
    """Add to the bias of a call what its dead inputs contribute; return its name, and its value in float64."""
    weight = widened(tensors[call["weight"]])
    summed = weight.flatten(2).sum(2) if weight.dim() > 2 else weight
    share = summed @ torch.from_numpy(constants).to(weight)
    name = call["bias"] or name_of_new("bias", call, tensors)
    old = widened(tensors[name]) if name in tensors else 0.0
    learns = tensors.get(name, tensors[call["weight"]]).requires_grad
    tensors[name] = nn.Parameter((old + share).to(tensors[call["weight"]].dtype), requires_grad=learns)
    return Ref(name), old + share


def kept_by(program: Program, channels: Mapping[str, Sequence[int]]) -> Kept:
    """Return what stays of a program if its groups keep the given channels, in the order that it has then."""
    stays = program.coupling.keep(channels)
    return Kept(program.coupling, stays, arranged(program, program.coupling, stays))


def kept_by_plan(masked: Program) -> Kept:
    """Return what stays of a masked program in the slim one of its plan: of a group that is emptied, one channel."""
    return kept_under(masked, masked.facts.origin.plan)  # type: ignore[union-attr]


def kept_under(program: Program, plan: Plan) -> Kept:
    """Return what stays of a program in the slim one of a plan: of a group that is emptied, one channel."""
    return kept_by(program, {name: channels or (0,) for name, channels in plan.kept.items()})


def cut(program: Program, kept: Kept) -> Program:
    """Return a program with only the kept channels; it shares no tensor with the given one.

    Tensors that the graph does not read stay whole. Raises ``PassError`` if nothing of a tensor would be left, and
    ``RuleError`` if a call under a rule of the user's does not fit its new sizes.
    """

    def change(call: Call, operator: Operator) -> Mapping[str, Any]:
        return VANISHES if _vanishes(call.node, kept) else resized(operator, call, kept)

    def reshape(node: fx.Node) -> Shape:
        shape: Any = node.meta.get(SHAPE)
        if not shape or node.op in ("get_attr", "output"):
            return shape if shape is not None else ()
        if isinstance(shape[0], tuple):
            return kept.outputs(node, shape)
        return kept.resized(node, shape)

    result = rebuild(program, _cut_tensors(program, kept), change, reshape)
    check_slim_calls(program, result)
    return result


def _vanishes(node: fx.Node, kept: Kept) -> bool:
    """Whether nothing of a call's result is left; of several results each may vanish by itself."""
    shape: Any = node.meta.get(SHAPE)
    several = len(shape) if shape and isinstance(shape[0], tuple) else 1
    return all(kept.vanishes(node, number) for number in range(several))


def _cut_tensors(program: Program, kept: Kept) -> dict[str, torch.Tensor]:
    tensors = program.tensors
    done: dict[int, torch.Tensor] = {}  # a tied tensor keeps all its names
    found: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        if id(tensor) not in done:
            done[id(tensor)] = cut_tensor(tensor, name, kept)
        found[name] = done[id(tensor)]
    empty = [name for name, tensor in found.items() if tensors[name].numel() and not tensor.numel()]
    if empty:
        raise PassError(f"expected a plan that leaves something of every tensor, got one that empties {empty[:3]}")
    return found


def cut_tensor(tensor: torch.Tensor, name: str, kept: Kept) -> torch.Tensor:
    """Return a copy of the kept channels of the tensor called ``name``."""
    data = tensor.detach()
    for dim in range(tensor.dim()):
        indices = kept.indices(Ref(name), dim)
        if indices is not None and not np.array_equal(indices, np.arange(tensor.shape[dim])):
            data = data.index_select(dim, torch.from_numpy(indices).to(tensor.device))
    if data.data_ptr() == tensor.data_ptr():
        data = data.clone()
    return nn.Parameter(data, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else data
