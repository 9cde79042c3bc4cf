"""What a product costs that is written as an einsum: the pairs of factors that are multiplied, one after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import fx

from swdc.ir.call import Ref, Value
from swdc.ops.call_cost import Cost, Dim, Quotient, ShapeOf, Use

Term = tuple[Value, Sequence[int]]
"""An operand, and for each of its dimensions the number of its letter."""


@dataclass(frozen=True)
class _Factor:
    """A factor or a product of factors: its letters, those not broadcast, and whether the model's inputs enter it."""

    named: frozenset[int]
    letters: tuple[int, ...]
    moves: bool


def product_costs(
    terms: Sequence[Term], result: Sequence[int], path: Sequence[int] | None, shape_of: ShapeOf
) -> tuple[Cost, ...]:
    """Return a cost for each pair of factors that is multiplied and summed, in the order of ``path`` as torch reads it.

    A pair is a dense layer if the model's inputs enter one of its factors only; products of two activations are counted
    by ``macs`` alone. A letter that one factor alone has is summed before, if it is summed over. A pair without a sum
    over both is multiplied elementwise, and costs nothing.
    """
    dims = _dims(terms, shape_of)
    left = [_Factor(frozenset(term[1]), _present(term, shape_of), reads_input(term[0])) for term in terms]
    found: list[Cost] = []
    for one, other in _pairs(path, len(left)):
        first, second = left[one], left[other]
        left = [factor for number, factor in enumerate(left) if number not in (one, other)]
        named = first.named | second.named
        later = frozenset(result).union(*(factor.named for factor in left))
        stay = tuple(n for n in dict.fromkeys((*first.letters, *second.letters)) if n in later)
        if (first.named & second.named) - later:
            dense = int(first.moves != second.moves)
            order = _ordered(first, second, stay)
            found.append(Cost(tuple(dims[letter] for letter in order), dense, dense, 1))
        product = _Factor(named & later, stay, first.moves or second.moves)
        left = [*left, product] if path is not None else [product, *left]
    return tuple(found)


def _pairs(path: Sequence[int] | None, factors: int) -> Iterator[tuple[int, int]]:
    """Yield the places of the factors that are multiplied in each step; without a path the first two."""
    if path is None:
        yield from [(0, 1)] * (factors - 1)
    else:
        yield from ((min(pair), max(pair)) for pair in zip(path[::2], path[1::2], strict=True))


def _ordered(first: _Factor, second: _Factor, stay: Iterable[int]) -> list[int]:
    """Return the letters of a pair that cost: those of the rows, then those written, then those summed over.

    The letters written are those of the second factor alone, or, if only the first holds weights, of the first.
    """
    weight, other = (first, second) if second.moves and not first.moves else (second, first)
    written = [n for n in stay if n in weight.letters and n not in other.letters]
    rows = [n for n in stay if n not in written]
    both = [n for n in first.letters if n in second.letters and n not in stay]
    return [*rows, *written, *both]


def _present(term: Term, shape_of: ShapeOf) -> tuple[int, ...]:
    """Return the letters of the dimensions of an operand that are not broadcast."""
    value, letters = term
    return tuple(dict.fromkeys(n for n, size in zip(letters, shape_of(value), strict=True) if size != 1))


def _dims(terms: Iterable[Term], shape_of: ShapeOf) -> dict[int, Dim]:
    """Return a dimension for each letter: not broadcast if there is such a one, and that of a tensor if possible."""
    dims: dict[int, Dim] = {}
    for value, letters in sorted(terms, key=lambda term: isinstance(term[0], Ref)):
        for dim, letter in enumerate(letters):
            if letter not in dims or shape_of(value)[dim] != 1:
                dims[letter] = (value, dim)
    return dims


def matrices(terms: Sequence[Term], result: Sequence[int], shape_of: ShapeOf) -> Use:
    """Return a product of two activations as one of matrices: how many, rows, summed dimension, columns."""
    dims = _dims(terms, shape_of)
    one, other = (_present(term, shape_of) for term in terms)
    parts = (
        [n for n in one if n in other and n in result],
        [n for n in one if n not in other],
        [n for n in one if n in other and n not in result],
        [n for n in other if n not in one],
    )
    return Use("MatMul", (), tuple(Quotient(tuple(dims[n] for n in part)) for part in parts))


def reads_input(value: Value) -> bool:
    """Whether a value depends on the model's inputs: not if it is computed from parameters and buffers alone."""
    if isinstance(value, Ref):
        return False
    seen: set[fx.Node] = set()
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if node.op == "placeholder":
            return True
        fresh = [before for before in node.all_input_nodes if before not in seen]
        seen.update(fresh)
        waiting += reversed(fresh)
    return False
