"""Taking a dimension apart: splits, slices, and writing slices back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import fx

from swdc.channels.dead_values import UNKNOWN, at
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ir.groups import Bools, Ids
from swdc.ops.along_positions import each_result
from swdc.ops.base import Operator, register
from swdc.ops.freezing import freeze_call
from swdc.ops.identity import Evaluation, Identity, alias_of, copy_of, has_size
from swdc.ops.indexing import add_single
from swdc.ops.label_joining import agreeing, couple_pair
from swdc.ops.sizes_of_parts import NO_END, indices_in, sizes_of_parts

_END = 2**62


@register
class Split(Operator):
    """Splitting along a dimension gives each part its own labels."""

    names: ClassVar[tuple[str, ...]] = tuple(
        f"aten.{name}"
        for name in (
            "split_with_sizes_copy.default split.default split_copy.Tensor unsafe_split.Tensor "
            "unsafe_split_with_sizes.default unsafe_chunk.default tensor_split.sections tensor_split.indices "
            "hsplit.int hsplit.array vsplit.int vsplit.array dsplit.int dsplit.array"
        ).split()
    )
    timed_as = "Transpose"
    _NAMED = {"hsplit": 1, "vsplit": 0, "dsplit": 2}  # noqa: RUF012

    def _dim(self, call: Call, rank: int) -> int:
        kind = call.operator.split(".")[1]
        dim = self._NAMED.get(kind, call.arguments.get("dim", 0))
        return int(min(dim, rank - 1)) if kind == "hsplit" else int(dim % rank)

    def _parts(self, call: Call, dim: int) -> list[slice]:
        sizes = [shape[dim] for shape in call.shape]  # type: ignore[index]
        ends = np.cumsum([int(s) for s in sizes])
        return [slice(int(e) - int(s), int(e)) for s, e in zip(sizes, ends, strict=True)]

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """Parts of a size, of which the last may be smaller."""
        return sizes_of_parts(arguments)

    def couple(self, call: Call, channels: Channels) -> None:
        """Cut the labels where the tensor is cut."""
        labels = channels.labels(call["self"])
        dim = self._dim(call, len(labels))
        ids = labels[dim]
        if ids is None:
            channels.set(call, each_result(call, labels))
            return
        if sum(shape[dim] for shape in call.shape) != len(ids):  # type: ignore[index]
            freeze_call(call, channels, "takes parts that overlap")
            return
        parts = [ids[p] for p in self._parts(call, dim)]
        for part in parts:
            channels.part(part)
        channels.set(call, [[*labels[:dim], part, *labels[dim + 1 :]] for part in parts])

    def fold(self, call: Call, channels: Channels) -> None:
        """Cut the dead values in the same way."""
        dead = channels.dead(call["self"])
        dim = self._dim(call, len(dead))
        if not all(isinstance(shape[dim], int) for shape in call.shape):  # type: ignore[index]
            dead = [*dead[:dim], UNKNOWN, *dead[dim + 1 :]]
        if isinstance(dead[dim], float):
            channels.set_dead(call, each_result(call, dead))
            return
        parts = [[*dead[:dim], at(dead[dim], p), *dead[dim + 1 :]] for p in self._parts(call, dim)]
        channels.set_dead(call, parts)

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Sizes become those of the kept channels of each part; equal parts may become unequal."""
        dim = self._dim(call, len(call.shape[0]))  # type: ignore[arg-type]
        if kept.mask(call["self"], dim) is None:
            return {}
        shapes = kept.outputs(call.node, call.shape)
        return {"operator": "aten.split_with_sizes.default", "split_sizes": [s[dim] for s in shapes], "dim": dim}


@register
class Parts(Split):
    """Parts that share the memory of the whole."""

    names = ("aten.split.Tensor", "aten.split.sizes", "aten.split_with_sizes.default", "aten.chunk.default")

    def item_identity(self, call: Call, index: int) -> Identity | None:
        """An identity if there is only one part, at any size."""
        dim = self._dim(call, len(call.shape[index]))  # type: ignore[arg-type]
        return alias_of(call["self"]) if has_size(call["self"], dim) else None


class _Range(Operator):
    """An operator on a range of the indices along a dimension.

    With a step, each run of that many channels is removed as a whole, so the kept channels still have that step.
    """

    def _is_known(self, call: Call) -> bool:
        return not any(isinstance(call.arguments.get(name), fx.Node) for name in ("start", "end", "step", "length"))

    def _range(self, call: Call, size: int) -> slice:
        start = call["start"] or 0
        if "length" in call.arguments:
            start %= size
            return slice(start, start + call["length"])
        end = _END if call["end"] is None else call["end"]
        return slice(*slice(start, min(end, size) if end >= 0 else end).indices(size)[:2], call["step"])

    def _taken(self, call: Call, channels: Channels, ids: Ids) -> Ids:
        """Return the labels in the range, of which one has to stay. Couple the channels of each step."""
        taken = self._range(call, len(ids))
        step = taken.step or 1
        if step > 1:
            first = np.repeat(ids[::step], step)[: len(ids)]
            channels.join(first, ids, call)
        channels.part(ids[taken])
        return ids[taken]

    def _resized(self, call: Call, mask: Bools | None) -> dict[str, Any]:
        """Return the bounds among kept indices: a start keeps its place in a run, an end counts those before it."""
        if mask is None or mask.all():
            return {}
        taken = self._range(call, len(mask))
        offset = taken.start % (taken.step or 1)
        start = int(mask[: taken.start - offset].sum()) + offset
        end = max(start, int(mask[: taken.stop].sum()))
        return {"start": start, "length": end - start} if "length" in call.arguments else {"start": start, "end": end}


class _Cutout(_Range):
    """A range of indices along a dimension."""

    moves_singles = True

    def couple(self, call: Call, channels: Channels) -> None:
        """Cut the labels where the tensor is cut."""
        labels = channels.labels(call["self"])
        dim = call["dim"] % len(labels)
        ids = labels[dim]
        if ids is not None and not self._is_known(call):
            text = "takes a number of indices that depends on the data, or on another size"
            channels.freeze(ids, call.reason(text, edit="take a fixed number of them"))
            labels[dim] = None
        elif ids is not None:
            labels[dim] = None if self._is_single(call, len(ids)) else self._taken(call, channels, ids)
        channels.set(call, labels)

    def _is_single(self, call: Call, size: int) -> bool:
        """Whether a range takes one index of several."""
        return size > 1 and len(range(size)[self._range(call, size)]) == 1

    def follow_singles(self, call: Call, channels: Channels) -> None:
        """The only channel of a range is a single one."""
        super().follow_singles(call, channels)
        dim = call["dim"] % len(channels.sizes(call["self"]))
        ids = channels.labels(call["self"])[dim]
        if ids is not None and self._is_known(call) and self._is_single(call, len(ids)):
            add_single(call, channels, dim, range(len(ids))[self._range(call, len(ids))][0])

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """The number of indices in the range, of which those beyond the dimension are none."""
        sizes, dim = list(arguments["self"].shape), arguments["dim"]
        sizes[dim] = indices_in(arguments, sizes[dim])
        return [sizes]

    def is_whole(self, call: Call) -> bool:
        """Whether a range that leaves the traced size as it is does so at any size."""
        return has_size(call["self"], call["dim"]) or (not call["start"] and call.arguments.get("end", 0) in NO_END)

    def fold(self, call: Call, channels: Channels) -> None:
        """Cut the dead values in the same way."""
        dead = channels.dead(call["self"])
        dim = call["dim"] % len(dead)
        ids = channels.channels(call["self"], dim)
        if ids is not None and self._is_known(call):
            known = channels.dead.follows(channels.labels(call.node)[dim])
            dead[dim] = at(dead[dim], self._range(call, len(ids))) if known else UNKNOWN
        channels.set_dead(call, dead)

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The bounds become those among the kept indices; a range of one index is followed by that index alone."""
        mask = kept.mask(call["self"], call["dim"])
        if mask is None or mask.all() or not self._is_single(call, len(mask)):
            return self._resized(call, mask)
        start = int(mask[: self._range(call, len(mask)).start].sum())
        bounds = {"start": start, "end": start + 1, "length": 1, "step": 1}
        return {name: bound for name, bound in bounds.items() if name in call.arguments}


@register
class Slice(_Cutout):
    """A range of indices that shares the memory of the input."""

    names: ClassVar[tuple[str, ...]] = ("aten.slice.Tensor",)
    timed_as = ""
    narrows = True

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if the range covers the whole dimension."""
        return alias_of(call["self"]) if self.is_whole(call) else None


@register
class Narrow(Slice):
    """A range of indices that is given by its length."""

    names = ("aten.narrow.default",)
    narrows = False


@register
class SliceCopy(_Cutout):
    """A range of indices in memory of its own."""

    names = ("aten.slice_copy.Tensor", "aten.narrow_copy.default")

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if the range covers the whole dimension."""
        return copy_of(call["self"]) if self.is_whole(call) else None


@register
class NarrowFromTensor(_Cutout):
    """A range whose start depends on the data."""

    names = ("aten.narrow.Tensor",)

    def _is_known(self, call: Call) -> bool:
        return False


@register
class SliceScatter(_Range):
    """A copy of a tensor with another one written over a range, where the channels of both are coupled."""

    names = ("aten.slice_scatter.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the written values with the values that they replace."""
        labels, written = channels.labels(call["self"]), channels.labels(call["src"])
        dim = call["dim"] % len(labels)
        for d, ids in enumerate(labels):
            if d != dim:
                labels[d] = couple_pair(call, channels, ids, written[d])
        if labels[dim] is not None and self._is_known(call):
            channels.join(self._taken(call, channels, labels[dim]), written[dim], call)
        else:
            for ids in (labels[dim], written[dim]):
                reason = call.reason("writes over indices that are not known", edit="write to fixed indices")
                channels.freeze(ids, reason)
            labels[dim] = None
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """Take the written dead values in the range; along other dimensions, keep those on which both tensors agree."""
        own, written = channels.dead(call["self"]), channels.dead(call["src"])
        dim = call["dim"] % len(own)
        dead = agreeing([own, written])
        ids = channels.labels(call.node)[dim]
        if ids is not None:
            dead[dim] = np.array(np.broadcast_to(np.asarray(own[dim], dtype=np.float64), ids.shape))
            dead[dim][self._range(call, len(ids))] = written[dim]
        channels.set_dead(call, dead)

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The bounds become those among the kept indices."""
        return self._resized(call, kept.mask(call["self"], call["dim"]))


def slice_call(dim: int, first: int, last: int) -> tuple[Any, tuple[Any, ...]]:
    """Return the operator that takes the indices from ``first`` up to ``last``, and its arguments after the value."""
    return torch.ops.aten.slice.Tensor, (dim, first, last)
