"""Products that sum over dimensions: matmul, bmm, einsum and similar, of values and of parameters.

Each is written as an einsum: a letter for each dimension of each operand. Dimensions that share a letter are coupled.
A letter that the result lacks is summed over, and a dead channel along it must add nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from torch import fx

from swdc.channels.dead_values import UNKNOWN, Dead, product
from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref, Value
from swdc.ir.groups import READS, WRITES, Ids
from swdc.ir.trace_options import HEAD_DIM, HEADS
from swdc.ops.affine_rows import AffineRows, last_dimension
from swdc.ops.base import Operator, register
from swdc.ops.call_cost import Cost, ShapeOf, Use
from swdc.ops.product_cost import Term, matrices, product_costs, reads_input
from swdc.ops.sizes_of_parts import broadcast_sizes


class Product(Operator):
    """A product of operands, with sums over the letters that the result lacks."""

    repeats = True

    def terms(self, call: Call, ranks: Sequence[int]) -> tuple[list[Sequence[int]], Sequence[int]]:
        """Return the letters of each operand, and those of the result, given the ranks of the operands."""
        raise TypeError(f"{type(self).__name__} has to say how its dimensions go together")

    def operands(self, call: Call) -> list[Value]:
        """Return the factors."""
        return call.tensors()

    def _terms(self, call: Call, rank_of: Any) -> tuple[list[Term], Sequence[int]]:
        operands = self.operands(call)
        letters, result = self.terms(call, [rank_of(operand) for operand in operands])
        return list(zip(operands, letters, strict=True)), result

    def couple(self, call: Call, channels: Channels) -> None:
        """Join the dimensions that share a letter; dead channels that are summed over must be zero."""
        terms, result = self._terms(call, lambda value: len(channels.sizes(value)))
        labels: dict[int, Ids | None] = {}
        for letter in sorted({letter for _, letters in terms for letter in letters}):
            labels[letter] = self._joined(call, channels, _slots(channels, terms, letter), letter in result)
        if all(isinstance(value, fx.Node) for value, _ in terms):
            self._mark(channels, terms, result, labels)
        channels.set(call, [labels[letter] for letter in result])

    def _joined(self, call: Call, channels: Channels, slots: list[tuple[Value, int]], stays: bool) -> Ids | None:
        """Couple the dimensions of one letter, and return their labels."""
        if not slots:
            return None
        nodes: list[tuple[Value, int]] = [(value, dim) for value, dim in slots if not isinstance(value, Ref)]
        role = READS if nodes and not stays else WRITES
        held = [channels.channels(value, dim) for value, dim in nodes or slots]
        labels = held[0]
        for other in held[1:]:
            if labels is not None or other is not None:
                labels = channels.join(labels, other, call)
        for value, dim in slots:
            if isinstance(value, Ref):
                channels.bind(value, dim, labels, role, call)
        if not stays:
            channels.absorb(call, labels, _dead(channels, nodes or slots), folds=False)
        return labels

    def _mark(self, channels: Channels, terms: list[Term], result: Sequence[int], labels: dict[int, Any]) -> None:
        """Mark dimensions that all operands and the result share as heads, all others as positions within heads."""
        for letter, ids in labels.items():
            everywhere = letter in result and all(letter in letters for _, letters in terms)
            channels.mark(ids, HEADS if everywhere else HEAD_DIM)

    def fold(self, call: Call, channels: Channels) -> None:
        """A product is zero if a factor is zero."""
        terms, result = self._terms(call, lambda value: len(channels.sizes(value)))
        channels.set_dead(call, [_dead(channels, _slots(channels, terms, letter)) for letter in result])

    def cost(self, call: Call, shape_of: ShapeOf) -> tuple[Cost, ...]:
        """Each pair of factors, in the order in which torch multiplies them, has the size of all its letters."""
        terms, result = self._terms(call, lambda value: len(shape_of(value)))
        return product_costs(terms, result, call.arguments.get("path"), shape_of)

    def lower(self, call: Call, shape_of: ShapeOf) -> tuple[Use, ...]:
        """A product of matrices if two activations are multiplied, otherwise dense layers."""
        terms, result = self._terms(call, lambda value: len(shape_of(value)))
        if len(terms) == 2 and all(reads_input(value) for value, _ in terms):
            return (matrices(terms, result, shape_of),)
        return super().lower(call, shape_of)


def _slots(channels: Channels, terms: list[Term], letter: int) -> list[tuple[Value, int]]:
    """Return the dimensions that have a letter and are not broadcast."""
    return [
        (value, dim)
        for value, letters in terms
        for dim, one in enumerate(letters)
        if one == letter and channels.sizes(value)[dim] != 1
    ]


def _dead(channels: Channels, slots: list[tuple[Value, int]]) -> Dead:
    result: Dead = UNKNOWN
    for value, dim in slots:
        result = product(result, channels.dead(value)[dim])
    return result


def _rows(call: Call, values: Sequence[Value], bias: Any) -> AffineRows | None:
    """Return a product of a value with a parameter of two dimensions; ``None`` if it is another product."""
    if len(values) != 2 or not isinstance(values[0], fx.Node) or not isinstance(values[1], Ref):
        return None
    return AffineRows(values[0], values[1], bias, last_dimension, inputs_first=True)


@register
class Matmul(Product):
    """Products of matrices and vectors, with broadcast leading dimensions."""

    names: ClassVar[tuple[str, ...]] = ("aten.mm.default", "aten.mv.default", "aten.dot.default")

    def terms(self, call: Call, ranks: Sequence[int]) -> tuple[list[Sequence[int]], Sequence[int]]:
        """(..., n, k) x (..., k, m) -> (..., n, m); vectors lack n or m."""
        one, other = ranks
        rows, columns, summed = -2, -1, -3
        batch = max(one, other, 2) - 2
        left = [*range(batch - max(one - 2, 0), batch), *([rows] if one > 1 else []), summed]
        right = [*range(batch - max(other - 2, 0), batch), summed, *([columns] if other > 1 else [])]
        result = [*range(batch), *([rows] if one > 1 else []), *([columns] if other > 1 else [])]
        return [left, right], result

    def affine_rows(self, call: Call) -> AffineRows | None:
        """The rows of the first factor, if the second is a parameter."""
        return _rows(call, self.operands(call), None)


@register
class BatchedMatmul(Matmul):
    """Products of one matrix for each index of the leading dimensions, which may be heads."""

    names = ("aten.matmul.default", "aten.bmm.default", "aten.linalg_matmul.default")
    attention = "product"

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """The leading dimensions are broadcast; products of vectors are left to torch."""
        one, other = list(arguments.values())[:2]
        if min(one.dim(), other.dim()) < 2 or one.shape[-1] != other.shape[-2]:
            return None
        leading = broadcast_sizes([one.shape[:-2], other.shape[:-2]])
        return None if leading is None else [[*leading, one.shape[-2], other.shape[-1]]]


@register
class AddedMatmul(Matmul):
    """A matrix product added to a value: addmm, baddbmm."""

    names: ClassVar[tuple[str, ...]] = ("aten.addmm.default", "aten.baddbmm.default", "aten.addmv.default")

    def operands(self, call: Call) -> list[Value]:
        """Return the two matrices."""
        return call.tensors()[1:]

    def affine_rows(self, call: Call) -> AffineRows | None:
        """The rows of the first matrix, if the second and what is added are parameters, and neither is scaled."""
        scaled = any(call.arguments.get(name, 1) != 1 for name in ("alpha", "beta"))
        return None if scaled or not isinstance(call["self"], Ref) else _rows(call, self.operands(call), call["self"])

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the product with the added value."""
        super().couple(call, channels)
        labels = channels.labels(call.node)
        added = call["self"]
        sizes = channels.sizes(added)
        for dim, ids in enumerate(labels):
            own = dim - len(labels) + len(sizes)
            if own < 0 or sizes[own] == 1:
                continue
            if isinstance(added, Ref):
                channels.bind(added, own, ids, WRITES, call)
            elif ids is not None or channels.channels(added, own) is not None:
                labels[dim] = channels.join(ids, channels.channels(added, own), call)
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """The result is zero if both the product and the added value are zero."""
        super().fold(call, channels)
        added = call["self"]
        sizes, dead = channels.sizes(added), channels.dead(call.node)
        for dim, value in enumerate(dead):
            own = dim - len(dead) + len(sizes)
            if own < 0 or sizes[own] == 1:
                dead[dim] = value if call.arguments.get("beta") == 0 else UNKNOWN
            elif call.arguments.get("beta") != 0:
                both = np.logical_and(np.asarray(value) == 0, np.asarray(channels.dead(added)[own]) == 0)
                dead[dim] = 0.0 if both.all() else np.where(both, 0.0, UNKNOWN)
        channels.set_dead(call, dead)


@register
class Einsum(Product):
    """Products written with one letter for each dimension."""

    names = ("aten.einsum.default",)
    attention = "product"

    def operands(self, call: Call) -> list[Value]:
        """Return the factors."""
        return list(call["tensors"])

    def terms(self, call: Call, ranks: Sequence[int]) -> tuple[list[Sequence[int]], Sequence[int]]:
        """Return letters by their code; those of an ellipsis are negative."""
        inputs, _, output = call["equation"].replace(" ", "").partition("->")
        parts = inputs.split(",")
        hidden = max((rank - len(part) + 3 for part, rank in zip(parts, ranks, strict=True) if "." in part), default=0)
        numbered = [_letters(part, rank - len(part) + 3) for part, rank in zip(parts, ranks, strict=True)]
        if "->" in call["equation"]:
            return list(numbered), _letters(output, hidden)
        once = sorted(c for c in set(inputs) - {",", "."} if inputs.count(c) == 1)
        return list(numbered), [*range(-hidden, 0), *map(ord, once)]


def _letters(part: str, hidden: int) -> list[int]:
    """Return the numbers of the letters of one operand, whose ellipsis stands for ``hidden`` dimensions."""
    before, dots, after = part.partition("...")
    return [*map(ord, before), *(range(-hidden, 0) if dots else ()), *map(ord, after)]


@register
class Tensordot(Product):
    """Products summed over listed dimensions."""

    names = ("aten.tensordot.default", "aten.outer.default", "aten.ger.default")

    def operands(self, call: Call) -> list[Value]:
        """Return the two factors."""
        return call.tensors()[:2]

    def terms(self, call: Call, ranks: Sequence[int]) -> tuple[list[Sequence[int]], Sequence[int]]:
        """Number the dimensions of the first; the second shares those that are summed over."""
        summed = [d % ranks[0] for d in call.arguments.get("dims_self", ())]
        shared = [d % ranks[1] for d in call.arguments.get("dims_other", ())]
        left = list(range(ranks[0]))
        right = [summed[shared.index(d)] if d in shared else ranks[0] + d for d in range(ranks[1])]
        result = [d for d in left if d not in summed] + [n for d, n in enumerate(right) if d not in shared]
        return [left, right], result


@register
class Inner(Product):
    """Products summed over the last dimension of both factors."""

    names = ("aten.inner.default",)

    def terms(self, call: Call, ranks: Sequence[int]) -> tuple[list[Sequence[int]], Sequence[int]]:
        """(..., k) x (..., k) -> (..., ...)."""
        one, other = ranks
        left, right = list(range(one - 1)), list(range(one, one + other - 1))
        return [[*left, -1], [*right, -1]], [*left, *right]


@register
class VectorProducts(Product):
    """Products of vectors along one dimension; the other dimensions are broadcast."""

    names = ("aten.linalg_vecdot.default",)

    def terms(self, call: Call, ranks: Sequence[int]) -> tuple[list[Sequence[int]], Sequence[int]]:
        """(..., k) x (..., k) -> (...)."""
        rank = max(ranks)
        summed = call["dim"] % rank
        return [range(rank - own, rank) for own in ranks], [d for d in range(rank) if d != summed]


@register
class SummedMatmul(AddedMatmul):
    """A sum of the products of a batch of matrices, added to a value."""

    names = ("aten.addbmm.default",)

    def terms(self, call: Call, ranks: Sequence[int]) -> tuple[list[Sequence[int]], Sequence[int]]:
        """(b, n, k) x (b, k, m) -> (n, m)."""
        return [[0, 1, 2], [0, 2, 3]], [1, 3]
