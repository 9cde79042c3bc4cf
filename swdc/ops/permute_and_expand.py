"""Permuting, expanding and repeating dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import fx

from swdc.channels.dead_values import UNKNOWN, Dead
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops.base import Operator, name_of, register, target_of
from swdc.ops.freezing import freeze_result
from swdc.ops.identity import Evaluation, Identity, alias_of, copy_of, has_size


@register
class Permutation(Operator):
    """A new order of the dimensions."""

    names: ClassVar[tuple[str, ...]] = (
        "aten.t.default", "aten.mT.default", "aten.mH.default", "aten.numpy_T.default", "aten.adjoint.default",
    )  # fmt: skip
    repeats = True
    moves_singles = True
    timed_as = "Transpose"

    def _move(self, call: Call, values: list[Any], sizes: tuple[int, ...], fill: Any) -> list[Any]:
        """Return the entries of dimensions in their new order; ``fill`` for a new dimension."""
        probe = torch.empty_strided(
            sizes, tuple(range(len(sizes))), device="meta"
        )  # strides tell where a dimension went
        arguments = {**call.arguments, "self": probe}
        moved = target_of(call.operator)(*arguments.values())
        return [values[stride] for stride in moved.stride()]

    def couple(self, call: Call, channels: Channels) -> None:
        """Move the labels with their dimensions."""
        x = call["self"]
        channels.set(call, self._move(call, channels.labels(x), channels.sizes(x), None))

    def fold(self, call: Call, channels: Channels) -> None:
        """Move the dead values with their dimensions."""
        x = call["self"]
        channels.set_dead(call, self._move(call, channels.dead(x), channels.sizes(x), UNKNOWN))


@register
class Permute(Permutation):
    """All dimensions in a given order."""

    names = ("aten.permute.default",)

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if the order does not change."""
        rank = len(call.shape)
        return alias_of(call["self"]) if [d % rank for d in call["dims"]] == list(range(rank)) else None

    def laid_out_from(self, call: Call, dim: int) -> tuple[fx.Node, int] | None:
        """Each dimension of the result is one of the input's."""
        source = call["self"]
        return (source, call["dims"][dim] % len(call.shape)) if isinstance(source, fx.Node) else None


@register
class MovedDimensions(Permutation):
    """Some dimensions at other places, or two exchanged."""

    names: ClassVar[tuple[str, ...]] = (
        "aten.swapaxes.default", "aten.swapdims.default", "aten.movedim.int", "aten.movedim.intlist",
        "aten.moveaxis.int", "aten.moveaxis.intlist",
    )  # fmt: skip

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if the dimensions keep their places."""
        (one, other), rank = list(call.arguments.values())[1:3], max(len(call.shape), 1)
        ones, others = ([d % rank for d in (dims if isinstance(dims, list) else [dims])] for dims in (one, other))
        return alias_of(call["self"]) if ones == others else None


@register
class Transpose(MovedDimensions):
    """Two dimensions exchanged."""

    names = ("aten.transpose.int",)

    def laid_out_from(self, call: Call, dim: int) -> tuple[fx.Node, int] | None:
        """The two dimensions are exchanged, the others stay."""
        source = call["self"]
        one, other = (call[name] % len(call.shape) for name in ("dim0", "dim1"))
        return (source, {one: other, other: one}.get(dim, dim)) if isinstance(source, fx.Node) else None


@register
class Squeeze(Permutation):
    """Dimensions of size one left out."""

    names = ("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims")
    timed_as = ""

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """Dimensions of one go."""
        sizes, dims = list(arguments["self"].shape), arguments.get("dim", range(arguments["self"].dim()))
        dims = {dim % len(sizes) for dim in ([dims] if isinstance(dims, int) else dims)} if sizes else set()
        return [[size for dim, size in enumerate(sizes) if dim not in dims or size != 1]]

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if there are none, at any size."""
        dims = call.arguments.get("dim", range(len(call.shape)))
        named = [dims] if isinstance(dims, int) else dims
        return alias_of(call["self"]) if all(has_size(call["self"], d) for d in named if call.shape) else None


def squeezed(node: fx.Node) -> tuple[fx.Node, tuple[int, ...]] | None:
    """Return a value, and the dimensions of it that a call leaves out if they are of one; ``None`` for other calls."""
    if node.op != "call_function" or name_of(node.target) not in Squeeze.names:
        return None
    value: Any = node.args[0]
    rank = len(value.meta["val"].shape)
    dims: Any = node.args[1] if len(node.args) > 1 else range(rank)
    return value, tuple(dim % rank for dim in ([dims] if isinstance(dims, int) else dims))


@register
class Unsqueeze(Permutation):
    """A new dimension of size one."""

    names = ("aten.unsqueeze.default",)
    timed_as = ""

    def _move(self, call: Call, values: list[Any], sizes: tuple[int, ...], fill: Any) -> list[Any]:
        position = call["dim"] % (len(values) + 1)
        return [*values[:position], fill, *values[position:]]


@register
class Expansion(Operator):
    """Repeating dimensions of size one: the copies are new channels, coupled with the channels they are used with."""

    names = ("aten.expand.default", "aten.broadcast_to.default", "aten.expand_as.default")
    repeats = True
    moves_singles = True
    timed_as = ""

    def couple(self, call: Call, channels: Channels) -> None:
        """Labels pass; a dimension that is expanded to the size of another value gets the labels of that value."""
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
        """Dimensions that are not repeated keep their dead values; repeated ones are not constant."""
        x, rank = call["self"], len(call.shape)
        dead, sizes = channels.dead(x), channels.sizes(x)
        missing = rank - len(sizes)
        known: list[Dead] = [UNKNOWN if s == 1 else d for d, s in zip(dead, sizes, strict=True)]
        channels.set_dead(call, [*[UNKNOWN] * missing, *known])

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Literal sizes become the number of kept labels."""
        if "other" in call.arguments:
            return {}
        return {"size": kept.sizes(call.node, call["size"])}

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if there is nothing to repeat."""
        return alias_of(call["self"])

    def asks_sizes(self, call: Call, value: fx.Node) -> bool:
        """True for a second value that only gives the shape."""
        return "other" in call.arguments and call["self"] is not value


def _copies(channels: Channels, size: Any) -> Any:
    """Return labels for the copies of one value along a dimension; ``None`` if their number is not known."""
    return channels.fresh(size) if isinstance(size, int) and size > 1 else None


@register
class Repetition(Operator):
    """Tiling: labels repeat with the values; repeating a new dimension, or one of size one, makes copies."""

    names = ("aten.repeat.default", "aten.tile.default")
    timed_as = "Transpose"

    def _repeats(self, call: Call, rank: int) -> list[Any]:
        repeats = list(call["repeats"] if "repeats" in call.arguments else call["dims"])
        return [1] * (rank - len(repeats)) + repeats

    def couple(self, call: Call, channels: Channels) -> None:
        """Tile the labels of each dimension; freeze everything if a number of repeats depends on the data."""
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
        """Shared constants stay; those of single channels are tiled."""
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
        """The number of copies becomes the number of kept labels."""
        name = "repeats" if "repeats" in call.arguments else "dims"
        missing = len(call.shape) - len(call[name])
        counts = kept.sizes(call.node, call[name], missing)
        copies = [r == call.shape[missing + d] for d, r in enumerate(call[name])]
        return {name: [count if of else r for r, count, of in zip(call[name], counts, copies, strict=True)]}

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if each dimension is repeated once."""
        return copy_of(call["self"])
