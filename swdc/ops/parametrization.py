"""Weights that are computed from other parameters: weight norm, and the products that spectral norm takes."""

from __future__ import annotations

from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref
from swdc.ir.groups import STATISTIC, WRITES
from swdc.ops.base import Operator, register
from swdc.ops.contraction import Matmul
from swdc.ops.freezing import freeze_call
from swdc.ops.reduction import needs_zero
from swdc.ops.special_activations import zero_only


@register
class WeightNorm(Operator):
    """w = g v / |v|, with a length g for each index of one dimension, or one for all (``dim`` of -1).

    Channels along the dimension are coupled with their length: a mask zeroes g, not v, because 0 / |0| is not defined.
    Along the others the norm runs over the channels; a mask zeroes them in v, so it becomes the norm of the kept ones.
    """

    names = ("aten._weight_norm.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple lengths with directions."""
        v, g, dim = call["v"], call["g"], call["dim"]
        if not (isinstance(v, Ref) and isinstance(g, Ref)):
            freeze_call(call, channels, "normalises a weight that is computed, not stored")
            return
        labels, dead = channels.labels(v), channels.dead(v)
        for d, ids in enumerate(labels):
            channels.bind(v, d, ids, STATISTIC if d == dim else WRITES, call)
            if d != dim:  # what nothing reads counts in the norm, unless a mask or the weights make it zero
                needs_zero(call, channels, ids, dead[d])
        if dim >= 0:
            channels.bind(g, dim, labels[dim], WRITES, call)
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """Masked channels are zero."""
        if isinstance(call["v"], Ref) and isinstance(call["g"], Ref):
            channels.set_dead(call, [channels.dead.zeroed()] * len(call.shape))


@register
class Renormalization(Operator):
    """Each slice along ``dim`` is shrunk to a largest norm; the norm runs over all other dimensions.

    A slice of zeros stays zero, and zeros add nothing to the norms of the others.
    """

    any_order = True
    names = ("aten.renorm.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels pass; those that a norm runs over have to be zero when dead."""
        labels, dead = channels.labels(call["self"]), channels.dead(call["self"])
        for d, ids in enumerate(labels):
            if d != call["dim"] % len(labels):
                needs_zero(call, channels, ids, dead[d])
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """Zero stays zero."""
        channels.set_dead(call, [zero_only(dead) for dead in channels.dead(call["self"])])


@register
class VectorProduct(Matmul):
    """The product of two vectors, such as u (W v) in a spectral norm, to which dead rows and columns add nothing."""

    names = ("aten.vdot.default",)
