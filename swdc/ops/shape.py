"""Permuting, expanding and repeating dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from swdc.channels.dead import UNKNOWN, Dead
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops.base import Operator, freeze_result, register, target_of


@register
class Permutation(Operator):
    """A new order of the dimensions."""

    names = (
        "aten.permute.default", "aten.transpose.int", "aten.t.default", "aten.swapaxes.default", "aten.mT.default",
        "aten.unsqueeze.default", "aten.squeeze.dim", "aten.squeeze.dims", "aten.squeeze.default",
        "aten.movedim.int", "aten.moveaxis.int", "aten.swapdims.default", "aten.numpy_T.default",
        "aten.adjoint.default", "aten.movedim.intlist", "aten.moveaxis.intlist", "aten.mH.default",
    )  # fmt: skip
    repeats = True

    def _move(self, call: Call, values: list[Any], sizes: tuple[int, ...], fill: Any) -> list[Any]:
        """Return what is known along each dimension in the new order; ``fill`` along a new one."""
        if call.operator == "aten.unsqueeze.default":
            position = call["dim"] % (len(values) + 1)
            return [*values[:position], fill, *values[position:]]
        probe = torch.empty_strided(
            sizes, tuple(range(len(sizes))), device="meta"
        )  # strides tell where a dimension went
        arguments = {**call.arguments, "self": probe}
        moved = target_of(call.operator)(*arguments.values())
        return [values[stride] for stride in moved.stride()]

    def couple(self, call: Call, channels: Channels) -> None:
        """Labels move with their dimensions."""
        x = call["self"]
        channels.set(call, self._move(call, channels.labels(x), channels.sizes(x), None))

    def fold(self, call: Call, channels: Channels) -> None:
        """So do dead values."""
        x = call["self"]
        channels.set_dead(call, self._move(call, channels.dead(x), channels.sizes(x), UNKNOWN))


@register
class Expansion(Operator):
    """Repeating dimensions of size one: the copies are channels that go with what they are used with."""

    names = ("aten.expand.default", "aten.expand_as.default")
    repeats = True

    def couple(self, call: Call, channels: Channels) -> None:
        """Labels pass; a dimension that is expanded to the size of another value's takes that one's."""
        x, shape = call["self"], call.shape
        sizes = channels.sizes(x)
        missing = len(shape) - len(sizes)
        sizes = (1,) * missing + sizes
        labels: list[Any] = [None] * missing + channels.labels(x)
        others = channels.labels(call["other"]) if "other" in call.arguments else [None] * len(shape)
        for dim, ids in enumerate(others):
            if sizes[dim] == 1:
                labels[dim] = ids if "other" in call.arguments else _copies(channels, shape[dim])
            elif ids is not None:
                labels[dim] = channels.join(labels[dim], ids, call)
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """What was there keeps its dead value; what is repeated is not constant."""
        x, rank = call["self"], len(call.shape)
        dead, sizes = channels.dead(x), channels.sizes(x)
        missing = rank - len(sizes)
        known: list[Dead] = [UNKNOWN if s == 1 else d for d, s in zip(dead, sizes, strict=True)]
        channels.set_dead(call, [*[UNKNOWN] * missing, *known])

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Literal sizes become the number of labels that are left."""
        if "other" in call.arguments:
            return {}
        return {"size": kept.sizes(call.node, call["size"])}


def _copies(channels: Channels, size: Any) -> Any:
    """Return labels for the copies of one value along a dimension; none where their number is not known."""
    return channels.fresh(size) if isinstance(size, int) and size > 1 else None


@register
class Repetition(Operator):
    """Tiling: labels repeat with the values; what is repeated along a new dimension, or one of size one, is copies."""

    names = ("aten.repeat.default", "aten.tile.default")

    def _repeats(self, call: Call, rank: int) -> list[Any]:
        repeats = list(call["repeats"] if "repeats" in call.arguments else call["dims"])
        return [1] * (rank - len(repeats)) + repeats

    def couple(self, call: Call, channels: Channels) -> None:
        """Tile the labels of every dimension that is tiled a known number of times."""
        x = call["self"]
        own = channels.labels(x)
        repeats = self._repeats(call, len(own))
        labels: list[Any] = [*[None] * (len(repeats) - len(own)), *own]
        if any(not isinstance(r, int) for r, ids in zip(repeats, labels, strict=True) if ids is not None):
            reason = call.reason("repeated a number of times that depends on the data")
            channels.freeze_value(x, reason)
            channels.set(call, freeze_result(call, channels, reason))
            return
        sizes = (1,) * (len(repeats) - len(own)) + channels.sizes(x)
        tiled = [
            (_copies(channels, r) if size == 1 else None) if ids is None else np.tile(ids, r)
            for ids, r, size in zip(labels, repeats, sizes, strict=True)
        ]
        channels.set(call, tiled)

    def fold(self, call: Call, channels: Channels) -> None:
        """Constants stay; per-channel ones are tiled."""
        dead = channels.dead(call["self"])
        repeats = self._repeats(call, len(dead))
        sizes = (1,) * (len(repeats) - len(dead)) + channels.sizes(call["self"])
        padded: list[Dead] = [*[UNKNOWN] * (len(repeats) - len(dead)), *dead]
        tiled = [
            UNKNOWN if size == 1 else d if isinstance(d, float) else np.tile(d, r)
            for d, r, size in zip(padded, repeats, sizes, strict=True)
        ]
        channels.set_dead(call, tiled)

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The number of copies is the number of labels that are left."""
        name = "repeats" if "repeats" in call.arguments else "dims"
        missing = len(call.shape) - len(call[name])
        counts = kept.sizes(call.node, call[name], missing)
        copies = [r == call.shape[missing + d] for d, r in enumerate(call[name])]
        return {name: [count if of else r for r, count, of in zip(call[name], counts, copies, strict=True)]}
