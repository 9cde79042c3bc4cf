"""Reading and adding up by index: select, gather, scatter, as graph networks use them along their nodes."""

from __future__ import annotations

from typing import Any

from swdc.call import Call, Ref
from swdc.channels import UNKNOWN, Channels
from swdc.kept import Kept
from swdc.ops.base import Operator, freeze_result, register


@register
class Select(Operator):
    """One index of a dimension: that dimension disappears, and the channel that is named stays."""

    names = ("aten.select.int",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the one channel that is read by its number."""
        labels = channels.labels(call["self"])
        dim = call["dim"] % len(labels)
        ids = labels.pop(dim)
        if ids is not None:
            index = call["index"]
            chosen = ids[[index]] if isinstance(index, int) else ids
            channels.freeze(chosen, call.reason("reads a channel by its number"))
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """The other dimensions keep their dead values."""
        dead = channels.dead(call["self"])
        dead.pop(call["dim"] % len(dead))
        channels.set_dead(call, dead)

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The number of the channel is the number of kept channels before it."""
        mask = kept.mask(call["self"], call["dim"])
        if mask is None or mask.all():
            return {}
        return {"index": int(mask[: call["index"] % len(mask)].sum())}


@register
class IndexSelect(Operator):
    """Rows picked by an index tensor."""

    names = ("aten.index_select.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels along other dimensions pass; those along this one are chosen by the data."""
        labels = channels.labels(call["self"])
        dim = call["dim"] % len(labels)
        channels.freeze(labels[dim], call.reason("indexed by the data"))
        channels.freeze_value(call["index"], call.reason("chooses what is read"))
        labels[dim] = None
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """Picking rows changes no constant."""
        channels.set_dead(call, channels.dead(call["self"]))


@register
class Index(Operator):
    """Advanced indexing along one dimension, by an index vector or a mask."""

    names = ("aten.index.Tensor",)

    def _dim(self, call: Call) -> int | None:
        dims = [d for d, index in enumerate(call["indices"]) if index is not None]
        return dims[0] if len(dims) == 1 else None

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels along other dimensions pass where the index is a vector."""
        labels = channels.labels(call["self"])
        dim = self._dim(call)
        if dim is None or len(channels.sizes(call["indices"][dim])) != 1:
            super().couple(call, channels)
            return
        channels.freeze(labels[dim], call.reason("indexed by the data"))
        channels.freeze_value(call["indices"][dim], call.reason("chooses what is read"))
        labels[dim] = None
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """Picking rows changes no constant."""
        dim = self._dim(call)
        if dim is not None and len(channels.sizes(call["indices"][dim])) == 1:
            channels.set_dead(call, channels.dead(call["self"]))


@register
class ScatterAdd(Operator):
    """Rows added up by an index tensor of the same shape; the channels of all three go together."""

    names = ("aten.scatter_add.default", "aten.scatter_reduce.two")

    def couple(self, call: Call, channels: Channels) -> None:
        """Join along every dimension but the one that is indexed."""
        values = [call["self"], call["index"], call["src"]]
        labels = [channels.labels(v) for v in values]
        dim = call["dim"] % len(labels[0])
        result: list[Any] = []
        for d, ids in enumerate(zip(*labels, strict=True)):
            if d == dim:
                for one in ids:
                    channels.freeze(one, call.reason("indexed by the data"))
                result.append(None)
                continue
            joined = ids[0]
            for other in ids[1:]:
                if joined is not None or other is not None:
                    joined = channels.join(joined, other, call)
            result.append(joined)
        channels.set(call, result)

    def fold(self, call: Call, channels: Channels) -> None:
        """Zeros added to zeros, or compared with them, stay zero."""
        own, added = channels.dead(call["self"]), channels.dead(call["src"])
        both = [
            isinstance(a, float) and isinstance(b, float) and a == b == 0.0 for a, b in zip(own, added, strict=True)
        ]
        channels.set_dead(call, [0.0 if zero else UNKNOWN for zero in both])


@register
class Creation(Operator):
    """A new tensor filled with one value. Its static dimensions may shrink with what is added to it."""

    names = tuple(
        f"aten.{name}.default"
        for name in "zeros ones full new_zeros new_ones new_full new_empty zeros_like ones_like full_like".split()
    )
    _VALUES = {"zeros": 0.0, "ones": 1.0}  # noqa: RUF012

    def _like(self, call: Call) -> bool:
        return call.operator.endswith("_like.default")

    def couple(self, call: Call, channels: Channels) -> None:
        """Fresh labels for each static dimension; those of the model where it is made like another value."""
        if self._like(call):
            channels.set(call, channels.labels(call["self"]))
            return
        shape = call.shape
        channels.set(call, [channels.fresh(s) if isinstance(s, int) and s > 1 else None for s in shape])

    def fold(self, call: Call, channels: Channels) -> None:
        """The value that it is filled with."""
        kind = call.operator.split(".")[1].removeprefix("new_").removesuffix("_like")
        value = self._VALUES.get(kind, call.arguments.get("fill_value"))
        known = float(value) if isinstance(value, int | float) else UNKNOWN
        channels.set_dead(call, [known] * len(call.shape))

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Sizes are what is left of each dimension."""
        if self._like(call):
            return {}
        return {"size": list(kept.resized(call.node, tuple(call["size"])))}


@register
class Positions(Operator):
    """Index arithmetic: values that hold no channels."""

    names = (
        "aten.arange.default",
        "aten.arange.start",
        "aten.arange.start_step",
        "aten.sym_size.int",
        *(f"operator.{name}" for name in "add sub mul floordiv truediv neg mod pow eq ne lt le gt ge".split()),
    )

    def couple(self, call: Call, channels: Channels) -> None:
        """No labels; a size that is asked for at run time is that of the slim value, too."""
        for value in call.tensors():
            if call.operator == "aten.sym_size.int" or isinstance(value, Ref):
                continue
            channels.freeze_value(value, call.reason("arithmetic on the value of a channel"))
        channels.set(call, freeze_result(call, channels, call.reason("counts positions")))
