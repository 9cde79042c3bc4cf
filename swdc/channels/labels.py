"""Channel labels: the state of a dependency analysis while it walks over a program.

Every dimension of every value that holds channels carries one integer label per index. Rules move labels from inputs
to outputs, join those that must go together and freeze those that may not go. Beside the labels walks the value that
a channel takes when it is dead, that is, when everything that writes it is set to zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import fx

from swdc.channels.factors import Grid, settle
from swdc.ir.call import Call, Ref, Value
from swdc.ir.graph import DTYPE, SHAPE
from swdc.ir.groups import READS, WRITES, Bools, Ids, Labelled, Reason
from swdc.ir.program import Program
from swdc.ir.sizes import evaluate, stand_ins
from swdc.ir.tensors import tensors_of

Dead = float | npt.NDArray[np.float64]
"""The value of dead channels along one dimension: one for all, or one per index; NaN where it is not a constant."""
UNKNOWN = float("nan")
_OTHER_FACTOR = "the dimension that it is a factor of loses channels along another factor"


class Channels:
    """Labels of all values of one program, filled in by the operators' rules in the order of the graph."""

    masked: ClassVar[bool] = True
    """Whether a dead channel is one that a mask sets to zero, in everything that writes it."""

    def __init__(self, program: Program, free: Mapping[fx.Node, tuple[fx.Node, ...]]) -> None:
        """Prepare for a program; ``free`` gives the operands of residual sums that keep channels of their own."""
        tensors = program.tensors
        first: dict[int, str] = {}
        self._canonical = {name: first.setdefault(id(t), name) for name, t in tensors.items()}
        self._tensor_shapes = {name: tuple(t.shape) for name, t in tensors.items()}
        self._tensor_dtypes = {name: t.dtype for name, t in tensors.items()}
        self._readers = _readers(program, self._canonical)
        self._free = free
        self._stand_ins = stand_ins(sorted(program.facts.symbols))
        self._node_labels: dict[Any, tuple[Ids | None, ...]] = {}
        self._node_dead: dict[Any, tuple[Dead, ...]] = {}
        self._tensor_labels: dict[str, list[Ids | None]] = {}
        self._roles: dict[tuple[str, int], set[str]] = {}
        self._bound: set[tuple[str, int]] = set()  # by the call at hand
        self._count = 0
        self._grids: list[Grid] = []
        self._marks: dict[str, list[Ids]] = {}
        self._joins: list[tuple[Ids, Ids]] = []
        self._freezes: list[tuple[Ids, int]] = []
        self._reasons: list[Reason] = []
        self._constants: dict[str, tuple[Ref, Ids, Dead]] = {}
        self._parts: list[Ids] = []
        self._held: dict[tuple[str, int], tuple[Call, str]] = {}

    # -- what rules ask -----------------------------------------------------------------------------------------

    def sizes(self, value: Value) -> tuple[int, ...]:
        """Return the shape of a value; each symbol is replaced by a distinct large prime."""
        if isinstance(value, Ref):
            return self._tensor_shapes[value]
        return evaluate(value.meta[SHAPE], self._stand_ins)

    def static(self, value: Value) -> list[bool]:
        """Return for each dimension of a value whether its size is known at trace time."""
        shape = self._tensor_shapes[value] if isinstance(value, Ref) else value.meta[SHAPE]
        return [isinstance(size, int) for size in shape]

    def dtype(self, value: Value) -> torch.dtype:
        """Return the data type of a value."""
        if isinstance(value, Ref):
            return self._tensor_dtypes[value]
        dtype: torch.dtype | None = value.meta.get(DTYPE)
        return torch.float64 if dtype is None else dtype

    def labels(self, value: Value) -> list[Ids | None]:
        """Return the labels along each dimension of a value, ``None`` for a dimension without channels.

        A tensor that is asked for the first time gets fresh labels. A dimension of symbolic size whose channels
        repeat (heads merged into the batch) has fewer labels than indices: those of one period.
        """
        if not isinstance(value, Ref):
            return list(self._node_labels.get(value, (None,) * len(value.meta.get(SHAPE) or ())))
        return [self.channels(value, dim) for dim in range(len(self._tensor_shapes[value]))]

    def channels(self, value: Value, dim: int) -> Ids | None:
        """Return the labels along one dimension of a value; a tensor gets fresh ones if it has none yet."""
        if not isinstance(value, Ref):
            return self.labels(value)[dim]
        slots = self._slots(value)
        size = self._tensor_shapes[value][dim]
        if slots[dim] is None and size > 1:
            self._label(value, dim, self.fresh(size))
        return slots[dim]

    def dead(self, value: Value) -> list[Dead]:
        """Return the value of dead channels along each dimension; a tensor's are zero, for a mask sets them so."""
        if isinstance(value, Ref):
            return [0.0] * len(self._tensor_shapes[value])
        return list(self._node_dead.get(value, (UNKNOWN,) * len(value.meta.get(SHAPE) or ())))

    def free(self, call: Call) -> tuple[fx.Node, ...]:
        """Return the operands of a sum that keep channels of their own."""
        return self._free.get(call.node, ())

    def written(self, call: Call, arriving: Dead, folds: bool) -> Dead:
        """Return the dead value of what a layer writes that reads ``arriving``: the bias where its filter is zero.

        ``folds`` says that a constant input adds the same at every position.
        """
        bias = call["bias"]
        return affine(self.dead(call["weight"])[0], 0.0 if bias is None else self.dead(bias)[0])

    # -- what rules say -----------------------------------------------------------------------------------------

    def fresh(self, size: int) -> Ids:
        """Return ``size`` new labels."""
        labels = np.arange(self._count, self._count + size, dtype=np.int64)
        self._count += size
        return labels

    def set(self, call: Call, labels: Sequence[Any]) -> None:
        """Set a result's labels: an array or ``None`` for each dimension, or a list of these for each of several."""
        self._node_labels[call.node] = tuple(labels)

    def set_input(self, node: fx.Node, labels: Sequence[Ids | None]) -> None:
        """Set the labels of an input of the program."""
        self._node_labels[node] = tuple(labels)

    def hold_repeated(self, value: Value, reason: Reason) -> None:
        """Freeze the channels that repeat along a dimension of a value, and let it hold none."""
        if isinstance(value, Ref) or value.meta.get(SHAPE) is None:
            return
        labels = self._node_labels.get(value, ())
        repeated = [
            isinstance(ids, np.ndarray) and not isinstance(size, int)
            for ids, size in zip(labels, value.meta[SHAPE], strict=False)
        ]
        if any(repeated):
            for ids, repeats in zip(labels, repeated, strict=True):
                self.freeze(ids if repeats else None, reason)
            self._node_labels[value] = tuple(
                None if repeats else ids for ids, repeats in zip(labels, repeated, strict=True)
            )

    def set_dead(self, call: Call, dead: Sequence[Any]) -> None:
        """Set the value of dead channels along each dimension of a call's result."""
        self._node_dead[call.node] = tuple(dead)

    def join(self, one: Ids | None, other: Ids | None, call: Call) -> Ids | None:
        """Couple two dimensions index by index, and return their labels.

        Where only one of them holds channels, these are frozen, and what comes of both holds none.
        """
        if one is None or other is None:
            labelled = one if other is None else other
            self.freeze(labelled, call.reason("aligned with a dimension that holds no removable channels"))
            return None
        if len(one) != len(other):
            for labels in (one, other):
                self.freeze(labels, call.reason("aligned with a dimension whose channels repeat otherwise"))
            return None
        if one is not other:
            self._joins.append((one, other))
        return one

    def bind(self, tensor: Value | None, dim: int, labels: Ids | None, role: str, call: Call) -> None:
        """Give a dimension of a tensor the labels of a value that it is used with, in the given role.

        Where the tensor is itself computed (a weight that is scaled first), the two are coupled.
        """
        if tensor is None or self.sizes(tensor)[dim] <= 1:
            return
        if not isinstance(tensor, Ref):
            self.join(self.channels(tensor, dim), labels, call)
            return
        self._bound.add((self._canonical[tensor], dim))
        self._roles.setdefault((self._canonical[tensor], dim), set()).add(role)
        slots = self._slots(tensor)
        if slots[dim] is None and labels is not None:
            self._label(tensor, dim, labels)
        elif labels is None:
            self.join(self.channels(tensor, dim), None, call)
        else:
            self.join(slots[dim], labels, call)

    def finish(self, call: Call) -> None:
        """Say that a call's rule is done: of a tensor that it bound to no role, it reads what is written there."""
        for value in call.tensors():
            if isinstance(value, Ref):
                name = self._canonical[value]
                for dim in range(len(self._tensor_shapes[value])):
                    if (name, dim) not in self._bound:
                        self._roles.setdefault((name, dim), set()).add(WRITES)
        self._bound.clear()

    def freeze(self, labels: Ids | None, reason: Reason) -> None:
        """Forbid the removal of channels."""
        if labels is not None and len(labels):
            self._reasons.append(reason)
            self._freezes.append((labels, len(self._reasons) - 1))

    def factor(self, whole: Ids, call: Call) -> list[Ids]:
        """Return labels along each axis of ``whole``: a channel of the product goes with its index of one of them.

        Of which one is decided when all uses are known.
        """
        factors = [self.fresh(size) for size in whole.shape]
        self._grids.append(Grid(whole, tuple(factors), call.reason(_OTHER_FACTOR)))
        return factors

    def product(self, factors: Sequence[Ids], call: Call) -> Ids:
        """Return labels for each index of the product of several dimensions, of the shape of these."""
        shape = tuple(len(labels) for labels in factors)
        whole = self.fresh(prod(shape)).reshape(shape)
        self._grids.append(Grid(whole, tuple(factors), call.reason(_OTHER_FACTOR)))
        return whole

    def mark(self, labels: Ids | None, kind: str) -> None:
        """Say that these are heads of an attention, or positions within its heads (``swdc.channels.factors``)."""
        if labels is not None:
            self._marks.setdefault(kind, []).append(labels)

    def hold(self, value: Value | None, dims: Iterable[int], call: Call) -> None:
        """Forbid removal along dimensions that an operator works along, should they hold channels now or later."""
        if value is None:
            return
        text = "works along this dimension, position by position"
        for dim in dims:
            if isinstance(value, Ref) and self._slots(value)[dim] is None:
                self._held.setdefault((self._canonical[value], dim), (call, text))
            elif (labels := self.channels(value, dim)) is not None:
                self.freeze(labels, call.reason(text))

    def freeze_value(self, value: Value, reason: Reason) -> None:
        """Forbid the removal of every channel of a value."""
        for labels in self.labels(value):
            self.freeze(labels, reason)

    def contract(self, call: Call, value: Value, dim: int, weight: Value, weight_dim: int, folds: bool) -> None:
        """Couple two dimensions that are summed over together, and see that dead channels add nothing.

        ``folds`` says that a constant other than zero can be added to the bias of this call instead, provided that
        its weight and bias are tensors and no other call reads that bias.
        """
        folds = folds and isinstance(weight, Ref) and self._owns_bias(call)
        labels = self.labels(value)[dim]
        if isinstance(weight, Ref):
            self.bind(weight, weight_dim, labels, READS, call)
            dead = self.arriving(value, dim, weight, weight_dim)
        else:
            self.join(labels, self.channels(weight, weight_dim), call)
            dead = product(self.dead(value)[dim], self.dead(weight)[weight_dim])
        self.absorb(call, labels, dead, folds)

    def arriving(self, value: Value, dim: int, weight: Ref, weight_dim: int) -> Dead:
        """Return the dead values along a dimension as a weight reads them."""
        return self.dead(value)[dim]

    def _owns_bias(self, call: Call) -> bool:
        if call["bias"] is None and call.node.op == "call_function":
            return True  # it is given a bias of its own
        held = call["bias"] or call["weight"]
        return isinstance(held, Ref) and self.reads_alone(held)

    def reads_alone(self, tensor: Ref) -> bool:
        """Whether a single call reads a tensor, under any of its names."""
        return self._readers[self._canonical[tensor]] == 1

    def part(self, labels: Ids | None) -> None:
        """Say that these channels are a tensor of their own, cut out of another: one of them has to stay."""
        if labels is not None:
            self._parts.append(labels)

    def absorb(self, call: Call, labels: Ids | None, dead: Dead, folds: bool) -> None:
        """See that dead channels add nothing where ``call`` sums over them; note or freeze those that do."""
        if labels is None or (isinstance(dead, float) and dead == 0.0):
            return
        values = np.broadcast_to(np.asarray(dead, dtype=np.float64), labels.shape)
        known = np.isfinite(values) if folds else values == 0
        if not known.all():
            text = "its dead value is not a constant that can be folded into the bias here"
            self.freeze(labels[~known], call.reason(f"sums over the channel, and {text}"))
        if folds and (values[known] != 0).any():
            self._constants[call.node.name] = (call["weight"], labels, np.where(known, values, 0.0))

    # -- the end ------------------------------------------------------------------------------------------------

    def _label(self, tensor: Ref, dim: int, labels: Ids) -> None:
        self._slots(tensor)[dim] = labels
        held = self._held.get((self._canonical[tensor], dim))
        if held is not None:
            call, text = held
            self.freeze(labels, call.reason(text))

    def _slots(self, tensor: str) -> list[Ids | None]:
        name = self._canonical[tensor]
        if name not in self._tensor_labels:
            self._tensor_labels[name] = [None] * len(self._tensor_shapes[name])
        return self._tensor_labels[name]

    def settle(self, preferred: str) -> None:
        """Decide along which factor each dimension that is split or merged loses channels; ``preferred`` if it can."""
        if not self._grids:
            return
        count, ids = self.components()
        frozen, marked = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
        for labels, _ in self._freezes:
            frozen[ids[labels]] = True
        for labels in self._marks.get(preferred, ()):
            marked[ids[labels]] = True
        settled = settle(self._grids, ids, frozen, marked)
        self._joins += settled.joins
        for labels, reason in settled.freezes:
            self.freeze(labels, reason)

    def components(self) -> tuple[int, Ids]:
        """Return the number of sets of coupled labels, and the set of each label."""
        if not self._joins:
            return self._count, np.arange(self._count, dtype=np.int64)
        one = np.concatenate([a for a, _ in self._joins])
        other = np.concatenate([b for _, b in self._joins])
        links = coo_array((np.ones(len(one), dtype=bool), (one, other)), shape=(self._count, self._count))
        count, ids = connected_components(links, directed=False)
        return int(count), ids.astype(np.int64)

    def frozen(self, count: int, ids: Ids) -> tuple[Ids, list[Reason]]:
        """Return for each set the index of its first reason, or -1 where it is free; and the reasons."""
        first = np.full(count, -1, dtype=np.int64)
        for labels, reason in reversed(self._freezes):
            first[ids[labels]] = reason
        return first, self._reasons

    def tensors(self) -> dict[str, Labelled]:
        """Return the labels of every tensor that a rule touched, by its first name."""
        return {name: tuple(slots) for name, slots in self._tensor_labels.items()}

    def parts(self) -> list[Ids]:
        """Return the labels of the parts that values are cut into."""
        return self._parts

    def canonical(self) -> dict[str, str]:
        """Return for each name of a tensor its first name (tied tensors have several)."""
        return self._canonical

    def nodes(self) -> dict[str, Labelled]:
        """Return the labels of every node, by its name."""
        return {node.name: labels for node, labels in self._node_labels.items()}

    def constants(self) -> dict[str, tuple[Ids, Dead]]:
        """Return for each node that must fold constants the labels that it reads and their dead values.

        A weight that also writes these channels (a tied embedding) is masked itself, and then adds nothing.
        """
        return {
            node: (labels, dead)
            for node, (weight, labels, dead) in self._constants.items()
            if WRITES not in self.roles(self._canonical[weight], 1)
        }

    def roles(self, tensor: str, dim: int) -> frozenset[str]:
        """Return what a tensor does with the channels along a dimension; it writes them unless a rule says else."""
        return frozenset(self._roles.get((tensor, dim), {WRITES}))


def _readers(program: Program, canonical: Mapping[str, str]) -> Counter[str]:
    """Count the calls that read each tensor, by its first name."""
    count: Counter[str] = Counter()
    for node in program.graph.nodes:
        if node.op == "get_attr":
            count[canonical[str(node.target)]] += len(node.users)
        elif node.op == "call_module":
            own = tensors_of(program.get_submodule(str(node.target)))
            count.update(canonical[f"{node.target}.{name}"] for name in own)
    return count


def affine(gain: Dead, shift: Dead) -> Dead:
    """Return the dead value of ``gain * x + shift`` for any x: the shift where the gain is zero."""
    a, b = np.broadcast_arrays(np.asarray(gain, dtype=np.float64), np.asarray(shift, dtype=np.float64))
    return plain(np.where(a == 0, b, UNKNOWN))


def product(one: Dead, other: Dead) -> Dead:
    """Return the dead value of a product: zero where either factor is zero."""
    a, b = np.broadcast_arrays(np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64))
    return plain(np.where((a == 0) | (b == 0), 0.0, a * b))


def plain(values: Any) -> Dead:
    """Return a number for a result without dimensions."""
    return float(values) if np.ndim(values) == 0 else values


def at(dead: Dead, where: Ids | Bools | slice) -> Dead:
    """Return the dead values at some indices."""
    return dead if isinstance(dead, float) else dead[where]
