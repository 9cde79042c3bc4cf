"""Padding: of positions in every mode, of channels with constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from swdc.channels.dead_values import UNKNOWN, Dead, at, in_type, number
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ir.groups import Bools
from swdc.ops.base import Operator, register
from swdc.ops.identity import Evaluation, Identity, copy_of

_REACH = {"reflect": 1, "reflection": 1, "circular": 0}
"""How many elements more than those that are added a dimension has to have, by the mode."""


@register
class Padding(Operator):
    """Padding along positions passes the channels; constants padded along channels are new channels.

    Such a constant channel is coupled with the channels that it is added to. A negative amount cuts channels off.
    """

    names = (
        "aten.pad.default",
        "aten.constant_pad_nd.default",
        *(f"aten.{kind}_pad{n}d.default" for kind in ("reflection", "replication") for n in (1, 2, 3)),
    )

    def leaves_alone(self, arguments: Mapping[str, Any]) -> bool:
        """A padding by nothing does nothing."""
        amounts = next(arguments[name] for name in ("pad", "padding") if name in arguments)
        return all(type(n) is int and n == 0 for n in amounts)

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """What is mirrored, repeated in a circle or cut off has to be there."""
        x, amounts = arguments["self"], next(arguments[name] for name in ("pad", "padding") if name in arguments)
        kind = target.__name__.split("_")[0]
        mode = arguments.get("mode", "constant") if kind == "pad.default" else kind
        sizes = list(x.shape)
        for place in range(0, len(amounts), 2):
            dim, pair = len(sizes) - 1 - place // 2, amounts[place : place + 2]
            for amount in pair if mode in _REACH else ():
                torch._check(sizes[dim] >= amount + _REACH[mode])
            sizes[dim] = sizes[dim] + sum(pair)
            torch._check(sizes[dim] >= 0)
        return [sizes]

    def couple(self, call: Call, channels: Channels) -> None:
        """Add fresh labels to a dimension that is padded with a constant; freeze the dimension in other modes."""
        x = call.tensors()[0]
        labels: list[Any] = channels.labels(x)
        for dim, amounts in _amounts(call, len(labels)).items():
            if labels[dim] is not None and _extends(call, amounts):
                labels[dim] = self._padded(channels, labels[dim], *amounts)
            else:
                channels.hold(x, [dim], call)
                labels[dim] = None
        channels.set(call, labels)

    def _padded(self, channels: Channels, labels: Any, before: int, after: int) -> Any:
        kept = labels[_inside(before, after, len(labels))]
        if min(before, after) < 0:
            channels.part(kept)
        return np.concatenate([channels.fresh(max(before, 0)), kept, channels.fresh(max(after, 0))])

    def fold(self, call: Call, channels: Channels) -> None:
        """A constant stays constant if the padding repeats it, or has the same value."""
        x = call.tensors()[0]
        dead, labels = channels.dead(x), channels.labels(x)
        if _is_constant(call):
            amounts, value = _amounts(call, len(dead)), in_type(_value(call), channels.dtype(call.node))
            for dim in range(len(dead)):
                beside = any(not isinstance(n, int) or n > 0 for d, ns in amounts.items() if d != dim for n in ns)
                dead[dim] = _only(dead[dim], value) if beside else dead[dim]
                if dim in amounts and labels[dim] is not None and _extends(call, amounts[dim]):
                    dead[dim] = self._padded_dead(dead[dim], value, len(labels[dim]), *amounts[dim])  # type: ignore[arg-type]
        channels.set_dead(call, dead)

    def _padded_dead(self, dead: Dead, value: Dead, size: int, before: int, after: int) -> Dead:
        kept = at(np.broadcast_to(dead, (size,)), _inside(before, after, size))
        return np.concatenate([np.full(max(before, 0), value), kept, np.full(max(after, 0), value)])

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if all amounts are zero."""
        amounts = call["pad"] if "pad" in call.arguments else call["padding"]
        nothing = all(isinstance(amount, int) and amount == 0 for amount in amounts)
        return copy_of(call.tensors()[0]) if nothing else None

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """An amount becomes the number of kept channels among those that are added or cut off."""
        name = "pad" if "pad" in call.arguments else "padding"
        pad, rank = list(call[name]), len(call.shape)
        for dim, amounts in _amounts(call, rank).items():
            result, given = kept.mask(call.node, dim), kept.mask(call.tensors()[0], dim)
            if result is not None and given is not None:
                place = 2 * (rank - 1 - dim)
                ends = (result, given, amounts[0]), (result[::-1], given[::-1], amounts[1])
                pad[place : place + 2] = [_left(*end) for end in ends]
        return {name: pad}


def _left(result: Bools, given: Bools, amount: int) -> int:
    """Return the new amount at the start of a dimension: the kept channels among those that are added or cut off."""
    return int(result[:amount].sum()) if amount >= 0 else -int(given[:-amount].sum())


def _value(call: Call) -> float:
    return number(call.arguments.get("value") or 0)


def _is_constant(call: Call) -> bool:
    kind = call.operator.split(".")[1]
    return kind == "constant_pad_nd" or (kind == "pad" and call["mode"] == "constant")


def _extends(call: Call, amounts: tuple[Any, Any]) -> bool:
    """Whether a known number of channels is added to a dimension, or cut off it."""
    return _is_constant(call) and all(isinstance(n, int) for n in amounts)


def _amounts(call: Call, rank: int) -> dict[int, tuple[Any, Any]]:
    """Return the padding before and after each padded dimension; a call lists them from the last dimension on."""
    pad = call["pad"] if "pad" in call.arguments else call["padding"]
    pairs = {rank - 1 - n // 2: (pad[n], pad[n + 1]) for n in range(0, len(pad), 2)}
    return {dim: pair for dim, pair in pairs.items() if pair != (0, 0)}


def _inside(before: int, after: int, size: int) -> slice:
    """Return the indices of a dimension that negative amounts do not cut off."""
    return slice(max(-before, 0), size - max(-after, 0))


def _only(dead: Dead, value: Dead) -> Dead:
    """Return dead values in which all but ``value`` are unknown."""
    known = np.where(np.asarray(dead) == value, dead, UNKNOWN)
    return float(known) if known.ndim == 0 else known


def pad_call(rank: int, dim: int, before: int, after: int) -> tuple[Any, tuple[Any, ...]]:
    """Return the operator that pads a dimension of a value with zeros, and its arguments after the value."""
    return torch.ops.aten.constant_pad_nd.default, ([0, 0] * (rank - 1 - dim) + [before, after],)
