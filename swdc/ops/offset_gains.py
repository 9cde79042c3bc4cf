"""Gains that are read as ``1 + gain``: the value of the parameter with which such a gain is zero."""

from __future__ import annotations

from typing import Any

from torch import fx

from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref, bind
from swdc.ops.base import Operator, lookup, name_of

FACTORS = ("mul", "multiply", "imul")
"""What multiplies element by element, as overloads, methods and python's operators are called."""
PASSING = frozenset(
    "getitem alias contiguous expand expand_as flatten permute reshape squeeze to _to_copy transpose type_as unflatten "
    "unsqueeze view view_as".split()
)
"""What hands values on, in another shape, type or order."""


class Offset(Operator):
    """A sum of two operands. That of a gain and a number is zero at one value of the gain, which a mask can set."""

    def rest(self, call: Call) -> float | None:
        """Return the value of the first operand with which the result is zero; ``None`` if the other is no number."""
        number, alpha = call["other"], call.arguments.get("alpha", 1)
        return -alpha * float(number) if isinstance(number, int | float) and isinstance(alpha, int | float) else None

    def fold(self, call: Call, channels: Channels) -> None:
        """A gain that only this call reads, and that only scales, is masked so that the result is zero."""
        super().fold(call, channels)
        gain, rest = call["self"], self.rest(call)
        if not isinstance(gain, Ref) or not rest or not channels.slots.reads_alone(gain):
            return
        if channels.dtype(gain).is_floating_point and _only_scales(call.node):
            channels.slots.rests[channels.slots.first_names[gain]] = rest
            channels.set_dead(call, [channels.dead.zeroed(dead) for dead in channels.dead(call.node)])


def _only_scales(value: fx.Node) -> bool:
    """Whether a value is a factor, or the gain of a norm, wherever it is read."""
    return bool(value.users) and all(_is_scaled_by(user, value) for user in value.users)


def _is_scaled_by(user: fx.Node, value: fx.Node) -> bool:
    if user.op != "call_function":
        return False
    name = name_of(user.target)
    kind = name.split(".")[1]
    if kind in PASSING:
        return user.args[0] is value and _only_scales(user)
    bound: dict[str, Any] = bind(user)
    return kind in FACTORS or (lookup(name).is_norm and bound.get("weight") is value)
