"""The sizes of a run on symbols in their final form: named symbols, fixed sizes, and the conditions that are left."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sympy
from torch.utils._sympy import functions

from swdc.capture.claims import Claim, multiple_of, primitive, without_number
from swdc.capture.factored_sizes import is_large
from swdc.capture.guards import Guards
from swdc.capture.size_algebra import floor_div, rewritten
from swdc.capture.size_sums import ONE, Atom, Sum, number, symbol
from swdc.ir.conditions import Condition, not_empty
from swdc.ir.sizes import Size, simplify


@dataclass(frozen=True)
class Root:
    """A size that is a number of ``parts`` times a symbol, if not for what is ``lacking``."""

    of: Atom
    lacking: int
    parts: int

    @property
    def filled(self) -> Sum:
        """The size with what is lacking."""
        return Sum({(self.of,): 1}) + number(self.lacking)


class SolvedSizes:
    """What the guards of a run say of its sizes.

    ``names`` gives the final name of each symbol of the inputs.
    """

    def __init__(self, guards: Guards, inputs: Sequence[str], names: Mapping[str, str]) -> None:
        self.guards, self.inputs, self.names = guards, inputs, names
        self._sympy: dict[Sum, Size] = {}
        self._final: dict[Sum, Sum] = {}

    @cached_property
    def roots(self) -> dict[str, Root]:
        """For each symbol that solving has made: the size of which it counts the parts."""
        found: dict[str, Root] = {}
        settled = {key: self.guards.settled(self.guards.solved[key]) for key in self.guards.atoms}
        for whole in (True, False):  # what is a multiple of a symbol tells more than what leaves a remainder
            for key, atom in self.guards.atoms.items():
                made, parts = multiple_of(without_number(settled[key]))
                lacking = -settled[key].terms.get((), 0)
                if made is not None and made.kind in self.guards.made and (not lacking if whole else lacking > 0):
                    found.setdefault(made.kind, Root(atom, lacking, parts))
        return found

    def final(self, size: Sum) -> Sum:
        """Return a size in terms of the symbols of the inputs, by their final names."""
        if size not in self._final:
            self._final[size] = self._renamed(self.of_inputs(self.guards.settled(size)))
        return self._final[size]

    def of_inputs(self, size: Sum) -> Sum:
        """Return a size without the symbols that solving has made: their multiples are sizes of inputs again."""
        for name, root in self.roots.items():
            if name not in size.symbols:
                continue
            total = number(0)
            for product, times in size.terms.items():
                term = Sum({(): times})
                for atom in product:
                    whole = atom.key == name and all(t % root.parts == 0 for t in term.terms.values())
                    term = (
                        Sum({p: t // root.parts for p, t in term.terms.items()}) * root.filled
                        if whole
                        else term * Sum({(atom,): 1})
                    )
                total = total + term * ONE
            size = rewritten(total, {name: floor_div(root.filled, number(root.parts))})
        return size

    def _renamed(self, size: Sum) -> Sum:
        return rewritten(size, {name: symbol(new) for name, new in self.names.items() if name != new})

    def size(self, size: Sum) -> Size:
        """Return a size as the graph holds it."""
        return self.expression(self.final(size))

    def expression(self, final: Sum) -> Size:
        """Return a size in final form as the graph holds it."""
        if final not in self._sympy:
            self._sympy[final] = _expression(final)
        return self._sympy[final]

    # -- inputs -------------------------------------------------------------------------------------------------

    def is_free(self, name: str) -> bool:
        """Whether a symbol of an input stands for itself: it is neither fixed nor told by others."""
        settled = self.guards.settled(symbol(name))
        if settled == symbol(name):
            return True
        return any(root.of.key == name for made, root in self.roots.items() if made in settled.symbols)

    def of_input(self, name: str) -> Sum:
        """Return the size that a symbol of an input stands for, in final form."""
        return self._renamed(symbol(name)) if self.is_free(name) else self.final(symbol(name))

    # -- conditions ---------------------------------------------------------------------------------------------

    def conditions(self) -> tuple[Condition, ...]:
        """Return the conditions on the sizes that are left, each once."""
        found = [*self._multiples(), *self._bounds(), *self._others()]
        return tuple(dict.fromkeys([*found, *self._presence({str(c.size) for c in found if c.relation == ">="})]))

    def _presence(self, bounded: Collection[str]) -> Iterator[Condition]:
        """Yield that a size is not zero, if the code asks and no bound says more."""
        lines = {
            final: line for name, line in self.guards.present.items() for final in self.final(symbol(name)).symbols
        }
        for name, line in lines.items():
            if name not in bounded:
                yield not_empty(name, source(line))

    def _multiples(self) -> Iterator[Condition]:
        for root in self.roots.values():
            size = Sum({(root.of,): 1})
            final = self._renamed(self.of_inputs(size) if root.of.of else size)
            if final.constant is None:
                rest = functions.Mod(_expression(final), sympy.Integer(root.parts))
                yield Condition(rest, "==", -root.lacking % root.parts, source(self.guards.lines[root.of.key]))

    @cached_property
    def _claims(self) -> list[tuple[Claim, str]]:
        settled = [(Claim(c.relation, self.guards.settled(c.size)), line) for c, line in self.guards.claims.items()]
        open_still = [(claim, line) for claim, line in settled if claim.proven() is None and not is_large(claim)]
        found = [(Claim(c.relation, primitive(self.final(c.size))), line) for c, line in open_still]
        return [(claim, line) for claim, line in found if claim.proven() is None]

    @cached_property
    def _hints(self) -> dict[str, int]:
        return {self.names[name]: self.guards.hints[name] for name in self.inputs}

    def _bounds(self) -> Iterator[Condition]:
        """Yield the tightest bounds of each symbol."""
        for relation, pick in ((">=", max), ("<=", min)):
            best: dict[str, tuple[int, str]] = {}
            for (name, kind, bound), line in self._simple.values():
                if kind != relation or (kind == ">=" and bound <= 1):
                    continue
                if name not in best or pick(bound, best[name][0]) != best[name][0]:
                    best[name] = bound, line
            for name, (bound, line) in best.items():
                yield Condition(_symbol(name), relation, bound, source(line))

    def _others(self) -> Iterator[Condition]:
        for claim, line in self._claims:
            if claim not in self._simple:
                yield _condition(claim, source(line))

    @cached_property
    def _simple(self) -> dict[Claim, tuple[tuple[str, str, int], str]]:
        """The claims that say no more than a bound of one symbol, each with that bound and its line."""
        found = {}
        for claim, line in self._claims:
            bound = _bound(claim, self._hints) if claim.relation == ">=" and len(claim.size.symbols) == 1 else None
            if bound is not None:
                found[claim] = bound, line
        return found


def _bound(claim: Claim, hints: Mapping[str, int]) -> tuple[str, str, int] | None:
    """Return the bound of one symbol that a claim is equal to, for all values of the symbol; ``None`` if it is none."""
    (name,) = claim.size.symbols
    first = hints[name]
    times, rest = claim.size.terms.get((Atom(name),), 0), claim.size.terms.get((), 0)
    if times and claim.size == number(times) * symbol(name) + number(rest):
        return (name, ">=", -(rest // times)) if times > 0 else (name, "<=", rest // -times)

    def beyond(value: int, claim: Claim) -> bool:
        """Whether a claim is proven from a value on."""
        above = rewritten(claim.size, {name: symbol(name) + number(value - 1)})
        return Claim(claim.relation, above).proven() is True

    true = [value for value in range(1, first) if claim.holds({name: value})]
    for last in (first, 2 * first + 64):
        true += [
            value for value in range(first if last == first else first + 1, last + 1) if claim.holds({name: value})
        ]
        if beyond(last, claim) and true == list(range(true[0], last + 1)):
            return name, ">=", true[0]
        if beyond(last, claim.negated()) and true[:1] == [1] and true[-1] == len(true):
            return name, "<=", len(true)
    return None


def _condition(claim: Claim, line: str) -> Condition:
    """Return a claim as a condition, with its number on the right side; a remainder is named as one."""
    number_of = claim.size.terms.get((), 0)
    size = claim.size - number(number_of)
    for atom in size.atoms:
        by = atom.of[1].constant if atom.kind == "//" else None
        times = -size.terms.get((atom,), 0) // by if by else 0
        if by and times and size == number(times) * (atom.of[0] - number(by) * Sum({(atom,): 1})):
            rest = functions.Mod(_expression(atom.of[0]), sympy.Integer(by))
            return _turned(rest * times, claim.relation, -number_of, line)
    return _turned(_expression(size), claim.relation, -number_of, line)


def _turned(size: Any, relation: str, value: int, line: str) -> Condition:
    """Return a condition without a minus before its size."""
    if size.could_extract_minus_sign():
        return Condition(-size, {">=": "<="}.get(relation, relation), -value, line)
    return Condition(size, relation, value, line)


def source(line: str) -> str:
    """Return ``file:line`` of a line of a traceback."""
    if not line.startswith('File "'):
        return line
    path, _, rest = line.removeprefix('File "').partition('", line ')
    return f"{path}:{rest.partition(',')[0]}"


def _symbol(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, integer=True, positive=True)


def _expression(size: Sum) -> Size:
    total: Any = sympy.Integer(0)
    for product, times in size.terms.items():
        term: Any = sympy.Integer(times)
        for atom in product:
            term = term * _of_atom(atom)
        total = total + term
    return simplify(total)


def _of_atom(atom: Atom) -> Any:
    if not atom.of:
        return _symbol(atom.kind)
    parts = [sympy.sympify(_expression(part)) for part in atom.of]
    return {"//": functions.FloorDiv, "max": functions.Max, "min": functions.Min}[atom.kind](*parts)
