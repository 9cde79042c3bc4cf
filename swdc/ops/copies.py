"""Operators that return the values of another tensor: as an alias or a copy, in the same type or another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import fx

from swdc.channels.dead_values import Dead, in_type, number
from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref, Value
from swdc.ops.base import Operator, register
from swdc.ops.elementwise import Pointwise
from swdc.ops.freezing import freeze_call
from swdc.ops.identity import FORMATS, Evaluation, Identity, alias_of, copy_of

COPY_INTO = torch.ops.aten.copy_.default
"""Puts a value into a tensor."""
_KEEPS = "stays in a buffer until the next call, and a dead channel does not write zeros there"


@register
class Copy(Operator):
    """The same values, possibly in another type."""

    any_order = True
    names: ClassVar[tuple[str, ...]] = tuple(
        f"aten.{name}.default"
        for name in (
            "alias_copy detach_copy lift lift_fresh positive conj _conj conj_physical resolve_conj resolve_neg real"
        ).split()
    )
    repeats = True
    moves_singles = True

    def couple(self, call: Call, channels: Channels) -> None:
        """Labels pass; a second tensor only gives the type."""
        channels.set(call, channels.labels(call["self"]))

    def fold(self, call: Call, channels: Channels) -> None:
        """A cast to integers drops the fraction."""
        kind = channels.dtype(call.node)
        channels.set_dead(call, [in_type(d, kind) for d in channels.dead(call["self"])])


class _Same(Copy):
    """All values, in their own type."""

    timed_as = ""

    def taken(self, target: Any, args: Sequence[Any]) -> tuple[int, torch.Tensor | None] | None:
        """Everything is taken."""
        return 0, None


@register
class Alias(_Same):
    """The same memory under another name."""

    names: ClassVar[tuple[str, ...]] = ("aten.alias.default",)
    narrows = True

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """The result is the input itself."""
        return alias_of(call["self"])


@register
class Detachment(Alias):
    """The same memory, to which no gradients go back."""

    names = ("aten.detach.default",)
    narrows = False


@register
class FreshCopy(Copy):
    """A copy of a constant of the model."""

    names = ("aten.lift_fresh_copy.default",)
    timed_as = ""

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """The result is a copy of the input."""
        return copy_of(call["self"])


@register
class Clone(_Same):
    """A copy that may have another memory layout."""

    names: ClassVar[tuple[str, ...]] = ("aten.clone.default",)

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if the layout is the usual one."""
        return copy_of(call["self"]) if call["memory_format"] in FORMATS else None


@register
class Contiguous(Clone):
    """A copy with a given memory layout; none if the input already has it."""

    names = ("aten.contiguous.default",)
    layout = "given"


@register
class Cast(Copy):
    """A copy with a given type and on a given device."""

    names = (
        "aten.to.dtype", "aten.to.dtype_layout", "aten.to.device", "aten.to.other", "aten._to_copy.default",
        "aten.type_as.default",
    )  # fmt: skip
    casts = True
    timed_as = ""

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """An identity if type and device do not change."""
        here = call.arguments.get("device") is None or evaluation.devices == {torch.device(call["device"])}
        if not (evaluation.has_traced_types and here and call.arguments.get("memory_format") in FORMATS):
            return None
        return copy_of(call["self"]) if call.arguments.get("copy", True) else alias_of(call["self"])


@register
class Overwriting(Pointwise):
    """A tensor of the shape of the first, with the values of the second."""

    names = ("aten.copy.default", "aten.fill.Scalar", "aten.fill.Tensor", "aten.zero.default")

    def combine(self, call: Call, operands: list[Value], dead: list[Dead], dtypes: list[torch.dtype]) -> Dead:
        """The old values do not matter."""
        return dead[1] if len(dead) > 1 else number(call.arguments.get("value", 0.0))


@register
class Writing(Operator):
    """A buffer takes the values of another tensor; the next call of the program reads them."""

    names: ClassVar[tuple[str, ...]] = ("aten.copy_.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """The channels of the buffer go with those that are written into it."""
        if not _is_whole(call, channels):
            freeze_call(call, channels, "writes into a view of a tensor, or into parts of it")
            return
        labels = channels.labels(call["self"])
        for ids, new in zip(labels, channels.labels(call["src"]), strict=True):
            channels.join(ids, new, call)
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """The mask makes the buffer start from zeros, so dead channels have to write zeros, too."""
        if not _is_whole(call, channels):
            return
        for ids, dead in zip(channels.labels(call["self"]), channels.dead(call["src"]), strict=True):
            if ids is not None:
                stay = np.broadcast_to(np.asarray(dead) != 0, ids.shape)
                channels.freeze(ids[stay], call.reason(_KEEPS))
        channels.set_dead(call, [0.0] * len(channels.sizes(call["self"])))


def write_call(graph: fx.Graph, name: str, value: fx.Node) -> fx.Node:
    """Return a new node that puts a value into the buffer called ``name``."""
    return graph.call_function(COPY_INTO, (graph.get_attr(name), value))


def _is_whole(call: Call, channels: Channels) -> bool:
    return isinstance(call["self"], Ref) and channels.sizes(call["self"]) == channels.sizes(call["src"])


def cloned(value: fx.Node) -> fx.Node:
    """Return a new node that copies a value."""
    return value.graph.call_function(torch.ops.aten.clone.default, (value,))


def detached(value: fx.Node) -> fx.Node:
    """Return a new node for a value without its gradients."""
    return value.graph.call_function(torch.ops.aten.detach.default, (value,))


def detaches(target: Any) -> bool:
    """Whether an operator returns a tensor without its gradients."""
    return target is torch.ops.aten.detach.default


def spread(value: fx.Node, like: fx.Node) -> fx.Node:
    """Return a new node that repeats a value over the shape of another."""
    return value.graph.call_function(torch.ops.aten.expand_as.default, (value, like))


def copies_over(target: Any) -> bool:
    """Whether an operator returns the second tensor in the form of the first."""
    return target is torch.ops.aten.copy.default


def is_write(node: fx.Node) -> bool:
    """Whether a node puts a value into another tensor, and nothing reads the result."""
    return node.target is COPY_INTO and not node.users


def contiguous_copy(value: fx.Node, name: str | None = None) -> fx.Node:
    """Return a new node of the same graph, with the values of ``value`` in the usual layout."""
    options: dict[str, Any] = {"memory_format": torch.contiguous_format}
    return value.graph.create_node("call_function", torch.ops.aten.clone.default, (value,), options, name)
