"""Taking one result of several."""

from __future__ import annotations

import operator
from typing import Any

from torch import fx

from swdc.channels.dead_values import UNKNOWN
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops.base import Operator, lookup, register
from swdc.ops.identity import Evaluation, Identity


@register
class Item(Operator):
    """Taking one result of several."""

    names = ("operator.getitem",)

    def couple(self, call: Call, channels: Channels) -> None:
        """The result has the labels of that item."""
        items: Any = channels.labels(call["0"])
        known = call["1"] < len(items) and items[call["1"]] is not None
        channels.set(call, items[call["1"]] if known else [None] * len(call.shape))

    def fold(self, call: Call, channels: Channels) -> None:
        """The result has the dead values of that item; those of a list of tensors are unknown."""
        items: Any = channels.dead(call["0"])
        item = items[call["1"]] if call["1"] < len(items) else UNKNOWN
        if isinstance(item, list | tuple):
            channels.set_dead(call, item)

    def follow_singles(self, call: Call, channels: Channels) -> None:
        """The result belongs to the single channels of that item."""
        channels.singles.set(call, channels.singles.of(call["0"], call["1"]))

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """The number of the item counts those before it that stay."""
        left = sum(not kept.vanishes(call["0"], number) for number in range(call["1"]))
        return {} if left == call["1"] else {"1": left}

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """The identity of that item, as the operator with several results gives it."""
        made = evaluation.maker(call["0"])
        return None if made is None else lookup(made.operator).item_identity(made, call["1"])


def item_of(several: fx.Node, index: int) -> fx.Node:
    """Return a new node of the same graph that takes one result of several."""
    return several.graph.call_function(operator.getitem, (several, index))


def is_item(node: fx.Node) -> bool:
    """Whether a node takes one result of several."""
    return node.target is operator.getitem
