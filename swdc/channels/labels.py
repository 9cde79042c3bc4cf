"""Channel labels: the state of a dependency analysis while it walks over a program.

Every dimension that holds channels has one integer label per index. Rules move labels from inputs to outputs, join
labels of channels that must be removed together, and freeze labels of channels that must not be removed. Rules also
pass on the value that a channel takes when it is dead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np
import torch
from torch import fx

from swdc.channels.dead_values import Dead, DeadValues, followed, product
from swdc.channels.sets import Sets
from swdc.channels.singles import SingleChannels
from swdc.channels.slots import Slots
from swdc.ir.call import Call, Ref, Value
from swdc.ir.conditions import leaves_remainders, steps
from swdc.ir.graph import DTYPE, SHAPE
from swdc.ir.groups import READS, Ids, Reason
from swdc.ir.program import Program
from swdc.ir.sizes import evaluate, stand_ins

_POSITIONS = "works along this dimension, position by position"
_REPEATED = "channels merged with a dimension of symbolic size"


class Channels(Sets):
    """The labels of all values of one program, and their dead values, which operators' rules read and write.

    Rules are called in the order of the graph. ``free`` gives, for each residual sum, the operands that keep channels
    of their own.
    """

    def __init__(self, program: Program, free: Mapping[fx.Node, tuple[fx.Node, ...]], dead: DeadValues) -> None:
        super().__init__()
        self.dead = dead
        """The dead values; their class defines when a channel is dead."""
        self.slots = Slots(program, dead.tensors)
        """The labels of parameters and buffers, and the roles in which calls use them."""
        self.nodes: dict[fx.Node, Sequence[Any]] = {}
        """The labels along each dimension of a node's result; if it has several results, a list of these for each."""
        self.singles = SingleChannels(self)
        """The channels that values were taken from by their numbers."""
        self.undefined: set[str] = set()
        """The tensors with which something is not defined if they are zero: what is divided by, or taken a root of."""
        self._tensors = dead.tensors
        self._shapes = {name: tuple(t.shape) for name, t in self._tensors.items()}
        self._stand_ins = stand_ins(
            sorted(program.facts.symbols),
            (node.meta.get(SHAPE) for node in program.graph.nodes),
            steps(program.facts.conditions),
            leaves_remainders(program.facts.conditions),
        )
        self._free = free

    # -- what rules ask -----------------------------------------------------------------------------------------

    def sizes(self, value: Value) -> tuple[int, ...]:
        """Return the shape of a value; each symbol is replaced by a distinct large prime."""
        if isinstance(value, Ref):
            return self._shapes[value]
        return evaluate(value.meta[SHAPE], self._stand_ins)

    def static(self, value: Value) -> list[bool]:
        """Return for each dimension of a value whether its size is known at trace time."""
        shape = self._shapes[value] if isinstance(value, Ref) else value.meta[SHAPE]
        return [isinstance(size, int) for size in shape]

    def dtype(self, value: Value) -> torch.dtype:
        """Return the data type of a value."""
        if isinstance(value, Ref):
            return self._tensors[value].dtype
        dtype: torch.dtype | None = value.meta.get(DTYPE)
        return torch.float64 if dtype is None else dtype

    def labels(self, value: Value) -> list[Ids | None]:
        """Return the labels along each dimension of a value, ``None`` for a dimension without channels.

        A tensor gets fresh labels when they are first asked for. A dimension of symbolic size whose channels repeat
        (heads merged into the batch) has fewer labels than indices: those of one period.
        """
        if not isinstance(value, Ref):
            return list(self.nodes.get(value, (None,) * len(value.meta.get(SHAPE) or ())))
        return [self.channels(value, dim) for dim in range(len(self._shapes[value]))]

    def channels(self, value: Value, dim: int) -> Ids | None:
        """Return the labels along one dimension of a value; a tensor gets fresh ones if it has none yet."""
        if not isinstance(value, Ref):
            return self.labels(value)[dim]
        slots, size = self.slots.of(value), self._shapes[value][dim]
        if slots[dim] is None and size > 1:
            self._label(value, dim, self.fresh(size))
        return slots[dim]

    def free(self, call: Call) -> tuple[fx.Node, ...]:
        """Return the operands of a sum that keep channels of their own."""
        return self._free.get(call.node, ())

    # -- what rules say -----------------------------------------------------------------------------------------

    def set(self, call: Call, labels: Sequence[Any]) -> None:
        """Set a result's labels: an array or ``None`` for each dimension; for several results, a list of these each."""
        self.nodes[call.node] = tuple(labels)

    def set_dead(self, call: Call, dead: Sequence[Any]) -> None:
        """Set the value of dead channels along each dimension of a call's result, after its labels.

        Values are unknown if they are not finite, or along a dimension that holds no channels.
        """
        labels, shape = self.labels(call.node), call.node.meta.get(SHAPE) or ()
        if not (shape and isinstance(shape[0], tuple)):
            self.dead.set(call, list(map(followed, dead, labels, shape)))
            return
        several = zip(dead, labels, shape, strict=True)
        self.dead.set(
            call, [list(map(followed, one, ids or [None] * len(sizes), sizes)) for one, ids, sizes in several]
        )

    def bind(self, tensor: Value | None, dim: int, labels: Ids | None, role: str, call: Call) -> None:
        """Give a dimension of a tensor the labels of the value that it is used with, in the given role.

        If the tensor is itself computed (a weight that is scaled first), the two are coupled.
        """
        if tensor is None or self.sizes(tensor)[dim] <= 1:
            return
        if not isinstance(tensor, Ref):
            self.join(self.channels(tensor, dim), labels, call)
            return
        self.slots.bind(tensor, dim, role)
        if self.slots.of(tensor)[dim] is None and labels is not None:
            self._label(tensor, dim, labels)
        else:
            self.join(self.channels(tensor, dim), labels, call)

    def _label(self, tensor: Ref, dim: int, labels: Ids) -> None:
        self.slots.of(tensor)[dim] = labels
        holder = self.slots.holder(tensor, dim)
        if holder is not None:
            self.freeze(labels, holder.reason(_POSITIONS))

    def hold(self, value: Value | None, dims: Iterable[int], call: Call) -> None:
        """Forbid removal along dimensions that an operator works along, even if they get channels only later."""
        if value is None:
            return
        for dim in dims:
            if isinstance(value, Ref) and self.slots.of(value)[dim] is None:
                self.slots.hold(value, dim, call)
            elif (labels := self.channels(value, dim)) is not None:
                self.freeze(labels, call.reason(_POSITIONS))

    def hold_repeated(self, call: Call) -> None:
        """Freeze channels that repeat along dimensions of a call's inputs; these dimensions then hold no channels."""
        for value in call.tensors():
            if isinstance(value, Ref) or not any(repeated := self._repeated(value)):
                continue
            labels = self.nodes[value]
            for ids in compress(labels, repeated):
                self.freeze(ids, call.reason(_REPEATED))
            self.nodes[value] = [None if repeats else ids for ids, repeats in zip(labels, repeated, strict=True)]

    def _repeated(self, node: fx.Node) -> list[bool]:
        labels, shape = self.nodes.get(node, ()), node.meta.get(SHAPE) or ()
        return [
            isinstance(ids, np.ndarray) and not isinstance(size, int) for ids, size in zip(labels, shape, strict=False)
        ]

    def freeze_value(self, value: Value, reason: Reason) -> None:
        """Forbid the removal of every channel of a value."""
        for labels in self.labels(value):
            self.freeze(labels, reason)

    def contract(
        self, call: Call, value: Value, dim: int, weight: Value, weight_dim: int, folds: bool, carries: bool = False
    ) -> None:
        """Couple two dimensions that are summed over together, and make sure that dead channels add nothing.

        ``folds`` says whether a constant other than zero can be added to the bias of this call instead, if its weight
        and bias are tensors and no other call reads that bias. ``carries`` says whether one channel can take over
        the constants of others, if the weight is a tensor and no other call reads it.
        """
        labels = self.labels(value)[dim]
        if isinstance(weight, Ref):
            self.bind(weight, weight_dim, labels, READS, call)
            dead = self.dead.arriving(value, dim, weight, weight_dim)
            folds, carries = folds and self._owns_bias(call), carries and self.slots.reads_alone(weight)
        else:
            self.join(labels, self.channels(weight, weight_dim), call)
            dead = product(self.dead(value)[dim], self.dead(weight)[weight_dim])
            folds = carries = False
        self.absorb(call, labels, dead, folds, carries, (weight, weight_dim))

    def _owns_bias(self, call: Call) -> bool:
        if call["bias"] is None and call.node.op == "call_function":
            return True  # a new bias is created for it
        held = call["bias"] or call["weight"]
        return isinstance(held, Ref) and self.slots.reads_alone(held)

    def absorb(
        self,
        call: Call,
        labels: Ids | None,
        dead: Dead,
        folds: bool,
        carries: bool = False,
        reader: tuple[Value, int] | None = None,
    ) -> None:
        """Make sure that dead channels add nothing when ``call`` sums over them; fold or freeze those that do.

        ``reader`` is the weight that reads them, and along which dimension, if there is one.
        """
        if labels is None or (isinstance(dead, float) and dead == 0.0):
            return
        for held, text in self.dead.absorb(call, labels, dead, folds, carries):
            if reader is not None and isinstance(reader[0], Ref) and self.dead.masks_readers:
                self.freeze_read(held, call.reason(text), self.slots.first_names[reader[0]], reader[1])
            else:
                self.freeze(held, call.reason(text))
