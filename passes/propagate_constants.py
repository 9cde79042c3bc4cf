"""Find the channels that are the same for every input, and remove those whose readers all know their value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from swdc.analysis.constants import Carried, Constants
from swdc.analysis.coupling import couple
from swdc.channels.kept import Kept
from swdc.ir.call import Call, Ref
from swdc.ir.graph import DTYPE, SHAPE, unused
from swdc.ir.groups import Bools, Coupling
from swdc.ir.program import Program
from swdc.ops import calls
from swdc.ops.addition import CHANNELS
from swdc.ops.in_place import written
from swdc.rewriting.cutting import cut, cut_tensor, fold
from swdc.rewriting.pass_base import Pass, PassResult
from swdc.rewriting.rebuild import revise


@dataclass(frozen=True)
class PropagateConstants(Pass):
    """Carry constants through the network in evaluation, into the next bias, and delete the channels that had them.

    With the gain of channel 1 at zero, its shift t left, and conv2 not padded::

        conv1(3, 2) -> bn(gain [g 0], shift [s t]) -> relu -> conv2(W, b)
        conv1(3, 1) -> bn(gain [g],   shift [s])   -> relu -> conv2(W[:, 0], b + W[:, 1] relu(t))

    A padded convolution sees less of a constant at its borders. There one constant channel stays and carries the
    others: ``W'[:, r] = W[:, r] + sum of W[:, i] c_i / c_r``, exact at any size. A branch that is constant throughout
    is added as a constant, or not at all if it is zero. Channels that nothing reads are removed, whatever they hold.

    The zeros of the weights decide what is removed, whoever set them. The function in evaluation stays the same; in
    training, batch norms would have other statistics. At least one channel of every tensor stays.
    """

    def apply(self, program: Program) -> PassResult:
        """Return a program without the channels that are constant, or the given one if there is nothing to do."""
        constants, coupling = _constants(program)
        lighter, sides = _without_constant_sides(program, constants)
        if lighter is not program:
            constants, coupling = _constants(lighter)
        stays = _needed(coupling)
        if stays.all() and lighter is program:
            return PassResult(program, modified=False)
        biased, coupling, exact = fold(lighter, coupling, stays)
        carried, weights = _carried(biased, constants.carried, coupling, stays)
        kept = Kept(coupling, stays)
        result = cut(carried, kept)
        changed = {name: cut_tensor(value, name, kept) for name, value in {**sides, **exact, **weights}.items()}
        origin = program.facts.origin
        if origin is not None:
            standing = {name: t for name, t in origin.folded.items() if name in result.tensors and name not in changed}
            folded = {name: cut_tensor(t, name, kept) for name, t in standing.items()}
            result = result.with_facts(origin=replace(origin, folded=folded))
        return PassResult(result, modified=True, exact=changed)


def _constants(program: Program) -> tuple[Constants, Coupling]:
    """Return what is constant in a program, and which channels could go."""
    constants = Constants(program.tensors, written(program.graph))
    return constants, couple(program, constants)


def _needed(coupling: Coupling) -> Bools:
    """Return which sets of channels stay: the frozen ones, and at least one along every dimension."""
    stays: Bools = coupling.group_of < 0
    for ids in coupling.arrays():
        if len(ids) and not stays[ids].any():
            stays[ids[0]] = True
    return stays


def _without_constant_sides(program: Program, constants: Constants) -> tuple[Program, dict[str, torch.Tensor]]:
    """Return a program whose sums add stored constants instead of operands that are constant throughout.

    Also return these constants in float64, by the names of the buffers that hold them.
    """
    tensors = dict(program.tensors)
    taken = {*tensors, *(path for path, _ in program.named_modules())}
    instead: dict[fx.Node, fx.Node] = {}
    arguments: dict[str, dict[str, Any]] = {}
    exact: dict[str, torch.Tensor] = {}
    for node, (operator, call) in calls(program).items():
        found = _constant_side(call, constants) if operator.adds else None
        if found is None:
            continue
        name, values = found
        left = call["self" if name == "other" else "other"]
        if not values.any():
            instead[node] = instead.get(left, left)
            continue
        like = next(t for t in tensors.values() if t.is_floating_point())
        buffer = Ref(unused(f"{node.name}_constant", taken))
        taken.add(buffer)
        exact[buffer] = torch.from_numpy(values).reshape([-1, *[1] * (len(call.shape) - CHANNELS - 1)])
        tensors[buffer] = exact[buffer].to(like)
        arguments[node.name] = {"self": left, "other": buffer}
    return (revise(program, tensors, arguments, instead) if instead or arguments else program), exact


def _constant_side(call: Call, constants: Constants) -> tuple[str, Any] | None:
    """Return the operand of a sum that is the same for every input, with its channels; zeros are preferred."""
    found = []
    for name, other in (("other", "self"), ("self", "other")):
        operand = call[name]
        if not (isinstance(operand, fx.Node) and isinstance(call[other], fx.Node) and len(call.shape) > CHANNELS):
            continue
        same = operand.meta[SHAPE] == call.shape and _computes_alike(call.node, call[other])
        values = np.asarray(constants(operand)[CHANNELS] if same else np.nan)
        whole = np.shape(values) == (call.shape[CHANNELS],) and np.isfinite(values).all()
        if whole and call[other].meta[SHAPE] == call.shape and (call["alpha"] == 1 or name == "other"):
            found.append((name, values))
    return min(found, key=lambda item: bool(item[1].any()), default=None)


def _computes_alike(node: fx.Node, left: fx.Node) -> bool:
    """Whether a sum has the type of the operand that would be left of it, and that is one of real numbers."""
    kind = node.meta.get(DTYPE)
    return kind is not None and kind.is_floating_point and kind == left.meta.get(DTYPE)


def _carried(
    program: Program, carried: Mapping[str, Carried], coupling: Coupling, stays: Bools
) -> tuple[Program, dict[str, torch.Tensor]]:
    """Return a program whose padded convolutions read one constant for several, and the new weights in float64."""
    tensors = dict(program.tensors)
    exact: dict[str, torch.Tensor] = {}
    for node, (_, call) in calls(program).items():
        if node.name not in carried:
            continue
        name, found = call["weight"], carried[node.name]
        gone = np.where(stays[coupling.tensors[name][1]], 0.0, found.values) / found.values[found.carrier]
        if not gone.any():
            continue
        weight = tensors[name]
        wide = weight.detach().to(torch.float64, copy=True)
        factors = torch.from_numpy(gone).to(wide.device).reshape(-1, *[1] * (wide.dim() - 2))
        wide[:, found.carrier] += (wide * factors).sum(1)
        exact[name] = wide
        tensors[name] = nn.Parameter(wide.to(weight.dtype), weight.requires_grad)
    if not exact:
        return program, {}
    return revise(program, tensors), exact
