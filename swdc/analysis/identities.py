"""Calls that give back what they read: which, and whether as the same memory or as a copy of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from swdc.ir.call import Call, Ref
from swdc.ir.graph import DTYPE, SHAPE
from swdc.ir.program import Program
from swdc.ops import calls
from swdc.ops.norms_per_channel import affine_in_evaluation

_FORMATS = (None, torch.contiguous_format, torch.preserve_format)
_NEUTRAL = {
    **dict.fromkeys(("aten.add.Tensor", "aten.add.Scalar", "aten.sub.Tensor", "aten.sub.Scalar"), 0),
    **dict.fromkeys(("aten.mul.Tensor", "aten.mul.Scalar", "aten.div.Tensor", "aten.div.Scalar"), 1),
}
_COMMUTATIVE = ("aten.add.Tensor", "aten.mul.Tensor")
_IDEMPOTENT = tuple(f"aten.{n}.default" for n in "relu relu6 abs sign ceil floor round trunc hardtanh clamp".split())
_NOT_NEGATIVE = (
    *(f"aten.{name}.default" for name in "relu6 abs sigmoid hardsigmoid exp".split()), "aten.softmax.int"
)  # fmt: skip
_PARTS = ("aten.split.Tensor", "aten.split.sizes", "aten.split_with_sizes.default", "aten.chunk.default")
_LARGEST = tuple(f"aten.adaptive_max_pool{n}d.default" for n in (1, 2, 3))
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Identity:
    """What a call gives back; ``copies`` says that it does so in memory of its own."""

    source: fx.Node
    copies: bool


class Identities:
    """Finds the identities of a program, in evaluation."""

    def __init__(self, program: Program) -> None:
        self.calls, self.tensors = calls(program), program.tensors
        read = [self.tensors[name] for name in program.read_tensors()]
        self.devices = {tensor.device for tensor in read}
        traced = {node.meta.get(DTYPE) for node in program.graph.nodes}
        self.has_traced_types = {tensor.dtype for tensor in read if tensor.is_floating_point()} <= traced

    def of(self, node: fx.Node, instead: Mapping[fx.Node, fx.Node]) -> Identity | None:
        """Return what a node gives back, given what other nodes do; ``None`` where it computes something."""
        _, call = self.calls.get(node, (None, None))
        found = None if call is None else self._of(call, instead)
        if found is None or any(found.source.meta.get(key) != node.meta.get(key) for key in (SHAPE, DTYPE)):
            return None
        return found if node.meta.get(DTYPE) is not None else None

    def _of(self, call: Call, instead: Mapping[fx.Node, fx.Node]) -> Identity | None:
        name, first = call.operator, next(iter(call.arguments.values()), None)
        if name in _ALIASES or name in _COPIES:
            known = _ALIASES.get(name) or _COPIES[name]
            return Identity(first, name in _COPIES) if isinstance(first, fx.Node) and known(call) else None
        if name == "operator.getitem":
            return self._item(call)
        if name.startswith(("aten.cat.", "aten.concat.")):
            alone = len(first) == 1 and isinstance(first[0], fx.Node)  # type: ignore[arg-type, index]
            return Identity(first[0], copies=True) if alone else None  # type: ignore[index]
        if name in _NEUTRAL:
            return self._neutral(call)
        if isinstance(first, fx.Node) and (self._is_cast(call) or self._is_repeated(call, instead.get(first, first))):
            return Identity(first, copies=bool(call.arguments.get("copy", True)))
        affine = affine_in_evaluation(call, self.tensors)
        if affine is None or affine[0].is_meta or not isinstance(first, fx.Node):
            return None
        unit = bool(((affine[0] - 1).abs() <= _ROUNDING).all()) and not bool(affine[1].any())
        return Identity(first, copies=True) if unit else None

    def _item(self, call: Call) -> Identity | None:
        """One of several results: all that there is to split, or the largest of one element each."""
        whole, index = call["0"], call["1"]
        _, made = self.calls.get(whole, (None, None))
        if made is None or made.operator not in (*_PARTS, *_LARGEST) or not isinstance(made["self"], fx.Node):
            return None
        if made.operator in _PARTS:
            return Identity(made["self"], copies=False)
        return Identity(made["self"], copies=True) if index == 0 else None

    def _neutral(self, call: Call) -> Identity | None:
        pairs = [(call["self"], call["other"])]
        if call.operator in _COMMUTATIVE:
            pairs.append((call["other"], call["self"]))
        for value, constant in pairs:
            if isinstance(value, fx.Node) and self._is_all(constant, _NEUTRAL[call.operator]):
                return Identity(value, copies=True)
        return None

    def _is_all(self, constant: Any, number: int) -> bool:
        if isinstance(constant, Ref):
            tensor = self.tensors[constant]
            return not tensor.is_meta and bool((tensor == number).all())
        return isinstance(constant, int | float) and constant == number

    def _is_cast(self, call: Call) -> bool:
        """Whether a call only asks for a type and a device, which then are those that are there."""
        name = call.operator
        if not name.startswith("aten.to.") and name not in ("aten._to_copy.default", "aten.type_as.default"):
            return False
        here = call.arguments.get("device") is None or self.devices == {torch.device(call["device"])}
        return self.has_traced_types and here and call.arguments.get("memory_format") in _FORMATS

    def _is_repeated(self, call: Call, source: fx.Node) -> bool:
        """Whether a call was applied to what it reads already, or a relu to what cannot be negative."""
        _, before = self.calls.get(source, (None, None))
        if before is None or call.operator not in _IDEMPOTENT:
            return False
        if call.operator == "aten.relu.default" and before.operator in _NOT_NEGATIVE:
            return True
        return call.operator == before.operator and _options(call) == _options(before)


def _options(call: Call) -> list[Any]:
    return list(call.arguments.values())[1:]


def _always(call: Call) -> bool:
    return True


def _drops_nothing(call: Call) -> bool:
    return not call["train"] or call["p"] == 0


def _in_order(call: Call) -> bool:
    rank = len(call.shape)
    return [d % rank for d in call["dims"]] == list(range(rank))


def _same_dims(call: Call) -> bool:
    (one, other), rank = list(call.arguments.values())[1:3], max(len(call.shape), 1)
    ones, others = ([d % rank for d in (dims if isinstance(dims, list) else [dims])] for dims in (one, other))
    return ones == others


def _keeps_layout(call: Call) -> bool:
    return call["memory_format"] in _FORMATS


def _pads_nothing(call: Call) -> bool:
    padding = call.arguments.get("pad", call.arguments.get("padding"))
    return all(isinstance(size, int) and size == 0 for size in padding)


def _pools_one(call: Call) -> bool:
    sizes = [call["kernel_size"], call["padding"]]
    kernel, padding = ({size} if isinstance(size, int) else set(size) for size in sizes)
    return kernel == {1} and padding <= {0} and call.arguments.get("divisor_override") in (None, 1)


Rule = Callable[[Call], bool]
"""Whether a call whose result has the shape and the type of its first argument gives that back."""

_ALIASES: dict[str, Rule] = {
    **dict.fromkeys(
        (
            "aten.alias.default", "aten.detach.default", "aten.view.default", "aten.reshape.default",
            "aten._unsafe_view.default", "aten.view_as.default", "aten.reshape_as.default", "aten.flatten.using_ints",
            "aten.unflatten.int", "aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims",
            "aten.expand.default", "aten.expand_as.default", "aten.broadcast_to.default", "aten.slice.Tensor",
            "aten.narrow.default",
        ),
        _always,
    ),
    **{f"aten.{kind}dropout.default": _drops_nothing for kind in ("", "feature_", "alpha_", "feature_alpha_")},
    "aten.permute.default": _in_order,
    **dict.fromkeys(
        (
            "aten.transpose.int", "aten.swapaxes.default", "aten.swapdims.default", "aten.movedim.int",
            "aten.movedim.intlist", "aten.moveaxis.int", "aten.moveaxis.intlist",
        ),
        _same_dims,
    ),
}  # fmt: skip
_COPIES: dict[str, Rule] = {
    **dict.fromkeys(("aten.clone.default", "aten.contiguous.default"), _keeps_layout),
    **dict.fromkeys(
        (
            "aten.lift_fresh_copy.default", "aten.slice_copy.Tensor", "aten.narrow_copy.default", "aten.repeat.default",
            "aten.tile.default", *(f"aten.adaptive_avg_pool{n}d.default" for n in (1, 2, 3)),
        ),
        _always,
    ),
    **dict.fromkeys(("aten.constant_pad_nd.default", "aten.pad.default"), _pads_nothing),
    **{f"aten.{kind}_pad{n}d.default": _pads_nothing for kind in ("reflection", "replication") for n in (1, 2, 3)},
    **{f"aten.{kind}_pool{n}d.default": _pools_one for kind in ("avg", "max") for n in (1, 2, 3)},
}  # fmt: skip
