"""What operators do with values of single channels: pass them on, or hold their channels."""

from __future__ import annotations

from typing import ClassVar

from swdc.channels.dead_values import UNKNOWN, in_type
from swdc.channels.labels import Channels
from swdc.channels.singles import Single
from swdc.ir.call import Call


class OfSingles:
    """An operator's part in what is computed from single channels; by default these channels have to stay."""

    moves_singles: ClassVar[bool] = False
    """Whether the result holds only numbers of the argument ``self``, at other places or in another type."""

    def follow_singles(self, call: Call, channels: Channels) -> None:
        """Set the single channels of the result, once its labels and dead values are known, or hold them."""
        found = channels.singles.of_inputs(call)
        if not self.moves_singles:
            channels.singles.stay(found)
            return
        moved, dtype = channels.singles.of(call["self"]), channels.dtype(call.node)
        dead = {label: float(in_type(single.dead, dtype)) for label, single in moved.items()}
        channels.singles.set(call, {n: Single(dead.get(n, UNKNOWN), single.reason) for n, single in found.items()})
