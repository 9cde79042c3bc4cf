"""Order along a dimension, and values that count, search or draw: what they work along keeps all its channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from swdc.channels.dead import UNKNOWN
from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref
from swdc.ops.base import Operator, register
from swdc.ops.positions import AlongPositions, is_several


@register
class Sorting(AlongPositions):
    """The values along a dimension in order, all or the largest of them, and where each was."""

    names = (
        "aten.sort.default", "aten.sort.stable", "aten.topk.default", "aten.argsort.default", "aten.argsort.stable",
        "aten.msort.default", "aten.kthvalue.default",
    )  # fmt: skip

    def along(self, call: Call, rank: int) -> Iterable[int]:
        """The named dimension, the first for one that names none."""
        return [call.arguments.get("dim", 0)]

    def result(self, call: Call, dims: list[Any], fill: Any) -> list[Any]:
        """The dimension stays, unless one value of it is taken."""
        over = self._over(call, len(dims)) if call.arguments.get("keepdim") is False else set()
        return [x for d, x in enumerate(dims) if d not in over]

    def fold(self, call: Call, channels: Channels) -> None:
        """Values that are all the same stay so; where others went, and where they were, is not followed."""
        dead = channels.dead(call["self"])
        for dim in self._over(call, len(dead)):
            dead[dim] = dead[dim] if isinstance(dead[dim], float) else UNKNOWN
        values = self.result(call, dead, UNKNOWN)
        unknown = [UNKNOWN] * len(values)
        if is_several(call):
            channels.set_dead(call, [values, unknown])
        else:
            channels.set_dead(call, values if call.operator == "aten.msort.default" else unknown)


@register
class Counting(Operator):
    """Counts, searches and draws over all that they are given: nothing of it may go, and the result has no channels."""

    names = tuple(
        f"aten.{name}"
        for name in (
            "nonzero.default nonzero_numpy.default argwhere.default where.default bincount.default histc.default "
            "unique_dim.default unique_consecutive.default _unique.default _unique2.default "
            "unique_dim_consecutive.default searchsorted.Tensor searchsorted.Scalar bucketize.Tensor bucketize.Scalar "
            "multinomial.default one_hot.default masked_select.default isin.Tensor_Tensor isin.Tensor_Scalar "
            "isin.Scalar_Tensor item.default _local_scalar_dense.default equal.default allclose.default "
            "is_nonzero.default repeat_interleave.Tensor _assert_async.default _assert_async.msg "
            "_functional_assert_async.msg _assert_tensor_metadata.default _assert_scalar.default"
        ).split()
    )

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze what is looked at."""
        for value in call.tensors():
            if isinstance(value, Ref):
                channels.hold(value, range(len(channels.sizes(value))), call)
            else:
                channels.freeze_value(value, call.reason("looks at every value"))
        shapes: Any = call.shape if is_several(call) else [call.shape]
        labels = [[None] * len(shape or ()) for shape in shapes]
        channels.set(call, labels if is_several(call) else labels[0])
