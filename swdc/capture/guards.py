"""What a model's code has asked of the sizes of its inputs while it ran: the conditions under which it does the same.

An equality is solved where this can be done: two sizes become one, or a size becomes a multiple of another symbol.
What is left of an equality with a number fixes the sizes in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import gcd

from swdc.capture.asking import asking_line, model_asks
from swdc.capture.claims import Claim, atom_of, multiple_of, primitive, without_number
from swdc.capture.real_numbers import Real
from swdc.capture.size_algebra import rewritten
from swdc.capture.size_sums import ONE, Atom, Sum, number, symbol, value_of


class Guards:
    """The claims that a run has relied on, each with the line of the user's code that asked.

    ``hints`` are the sizes of the run. ``solved`` says what an atom has turned out to be, by its key; ``atoms`` and
    ``lines`` hold the atom, and the line that asked. ``made`` are the symbols that solving has added. ``present``
    are the symbols of which the code has asked whether they are zero, each with the line: no size in a run is.
    ``special`` are the lines that asked whether two sizes are equal which are so in this run, and that went on with
    the answer, each with what is so, in the order of the run; at those in ``supposed`` the answer is no, also where
    the same is asked again. ``apart`` are equalities that the code has asked for, and that are not so. ``asked`` counts
    what each line of the user's code has asked.
    """

    def __init__(self, hints: Mapping[str, int], supposed: Collection[str] = ()) -> None:
        self.hints = dict(hints)
        self.supposed = frozenset(supposed)
        self.special: list[tuple[str, Claim]] = []
        self.asked: Counter[str] = Counter()
        self.apart: list[Claim] = []
        self.solved: dict[str, Sum] = {}
        self.lines: dict[str, str] = {}
        self.claims: dict[Claim, str] = {}
        self.atoms: dict[str, Atom] = {}
        self.made: set[str] = set()
        self.present: dict[str, str] = {}
        self._inside = 0
        self._denied: set[Claim] = set()

    @contextmanager
    def inside_operator(self) -> Iterator[None]:
        """Note only equalities: what else torch asks concerns memory layout, or sizes of one, which no run has."""
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    @property
    def is_inside(self) -> bool:
        """Whether torch asks, and not the user's code."""
        return self._inside > 0

    # -- sizes --------------------------------------------------------------------------------------------------

    def settled(self, size: Sum) -> Sum:
        """Return a size in terms of what is known by now."""
        while self.solved and size.keys & self.solved.keys():
            size = rewritten(size, self.solved)
        return size

    def hint(self, size: Sum) -> int:
        """Return the value of a size in this run."""
        return value_of(size, self.hints)

    def fixing_line(self, name: str) -> str:
        """Return the line that asked last of what the symbol with a name has turned out to be."""
        line = self.lines.get(name, "")
        parts = [made for made in self.solved.get(name, ONE).symbols if made in self.solved]
        return next(filter(None, map(self.fixing_line, parts)), line)

    # -- claims -------------------------------------------------------------------------------------------------

    def decide(self, claim: Claim, demanded: bool = False) -> bool:
        """Return whether a claim is true in this run; note it if it is not true or false for all sizes.

        An operator of torch would fail if a claim that it has ``demanded`` were not true.
        """
        settled = Claim(claim.relation, primitive(self.settled(claim.size)))
        proven = settled.proven()
        if proven is not None:
            return proven
        truth = settled.holds(self.hints)
        found = settled if truth else settled.negated()
        if not self._inside and not demanded and model_asks():
            line = asking_line()
            self.asked[line] += 1
            if not found.equates and found.negated().equates:
                self.apart.append(found.negated())
            if found.as_equality().equates:
                self.special.append((line, found))
                if line in self.supposed or found in self._denied:
                    self._denied.add(found)
                    return not truth
        named = demanded and len(found.size.symbols) == 1  # of more symbols, it is that there are elements at all
        if not self._inside or named or found.relation == "==":
            self.note(found)
        return truth

    def proven(self, claim: Claim) -> bool | None:
        """Return whether a claim is true for all sizes; note the symbols whose size of zero would make it another."""
        truth = claim.proven()
        if truth is not None and not self._inside and claim.size.constant is None:
            for name in claim.size.symbols - self.present.keys():
                with suppress(ZeroDivisionError):
                    if claim.holds({**self.hints, name: 0}) != truth and model_asks():
                        self.present[name] = asking_line()
        return truth

    def note(self, claim: Claim, line: str = "") -> None:
        """Rely on a claim that is true in this run."""
        if claim in self.claims:
            return
        line = line or asking_line()
        if claim.equates:
            self._solve(claim.size, line)
        else:
            self.claims[claim] = line

    def fixed(self, size: Sum, line: str = "") -> int:
        """Return the value of a size as a plain number, which fixes the size."""
        size = self.settled(size)
        if size.constant is not None:
            return size.constant
        value = self.hint(size)
        self.note(Claim("==", size - number(value)), line)
        return value

    def fix_all(self, real: Real) -> None:
        """Fix the sizes that a number is computed from."""
        for part in real.parts:
            if isinstance(part, Sum):
                self.fixed(part)
            elif isinstance(part, Real):
                self.fix_all(part)

    # -- equalities ---------------------------------------------------------------------------------------------

    def _solve(self, size: Sum, line: str) -> None:
        """Rely on a size being zero."""
        while (size := primitive(self.settled(size))).constant is None:
            if not any(
                step(size, line) for step in (self._elimination, self._extremes, self._remainder, self._leftover)
            ):
                for atom in dict.fromkeys(atom for product in size.terms for atom in product):
                    self._fix(atom, line)

    def _elimination(self, size: Sum, line: str) -> bool:
        """Solve for a symbol that stands alone, such as one of two that have to be equal."""
        order = {name: place for place, name in enumerate(self.hints)}
        alone = [(p[0], t) for p, t in size.terms.items() if len(p) == 1 and not p[0].of and abs(t) == 1]
        for atom, times in sorted(alone, key=lambda found: -order[found[0].kind]):
            rest = Sum({p: t for p, t in size.terms.items() if p != (atom,)}) * number(-times)
            if atom.kind in rest.symbols or rest.constant is not None:
                continue
            if not Claim(">=", rest - ONE).proven():
                self.note(Claim(">=", rest - ONE), line)
            self._put(atom, rest, line)
            return True
        return False

    def _remainder(self, size: Sum, line: str) -> bool:
        """Solve that a quotient in it leaves no remainder: what is divided becomes a multiple of a new symbol.

        A number may be added to what is divided, so that the quotient is rounded up.
        """
        for atom in size.atoms:
            by = atom.of[1].constant if atom.kind == "//" else None
            divided, times = multiple_of(without_number(atom.of[0])) if by else (None, 0)
            if not by or divided is None:
                continue
            by //= gcd(times, by)
            value = self.hint(Sum({(divided,): 1}))
            if value % by or not value:
                continue
            made = symbol(f"{divided.key} / {by}")
            left = rewritten(size, {divided.key: number(by) * made})
            if left.constant is None and not _is_simpler(left, size):
                continue
            self._divide(divided, by, made, 0, line)
            return True
        return False

    def _leftover(self, size: Sum, line: str) -> bool:
        """Solve that a division leaves a certain remainder: with what is lacking, it is a multiple of a new symbol."""
        for atom in size.atoms:
            by = atom.of[1].constant if atom.kind == "//" else None
            divided = atom_of(without_number(atom.of[0])) if by else None
            times = size.terms.get((atom,), 0) // -by if by else 0
            if not by or divided is None or not times:
                continue
            rest = Sum({(divided,): 1}) - number(by) * Sum({(atom,): 1})
            if without_number(size - number(times) * rest).terms:
                continue
            lacking = -self.hint(Sum({(divided,): 1})) % by
            self._divide(divided, by, symbol(f"({divided.key} + {lacking}) / {by}"), lacking, line)
            return True
        return False

    def _divide(self, divided: Atom, by: int, made: Sum, lacking: int, line: str) -> None:
        """Rely on a size being ``by`` times a new symbol, but for what is ``lacking``."""
        (name,) = made.symbols
        self.hints[name] = (self.hint(Sum({(divided,): 1})) + lacking) // by
        self.made.add(name)
        self._put(divided, number(by) * made - number(lacking), line)

    def _extremes(self, size: Sum, line: str) -> bool:
        """Solve a maximum or minimum: it is the one of two sizes that it is in this run."""
        for atom in size.atoms:
            if atom.kind not in ("max", "min"):
                continue
            larger, smaller = atom.of if self.hint(atom.of[0] - atom.of[1]) >= 0 else atom.of[::-1]
            self.note(Claim(">=", larger - smaller), line)
            self._put(atom, larger if atom.kind == "max" else smaller, line)
            return True
        return False

    def _fix(self, atom: Atom, line: str) -> None:
        """Rely on a symbol or a quotient being what it is in this run; a quotient by a number is so in a range."""
        value = number(self.hint(Sum({(atom,): 1})))
        by = self.settled(atom.of[1]) if atom.kind == "//" and Claim(">=", atom.of[1] - ONE).proven() else None
        if atom.of and by is None:
            for part in atom.of:
                self.fixed(part, line)
            return
        if by is not None:
            above = self.settled(atom.of[0] - value * by)
            for claim in (Claim(">=", above), Claim(">=", by - ONE - above)):
                if not claim.proven():
                    self.note(claim, line)
        self._put(atom, value, line)

    def _put(self, atom: Atom, size: Sum, line: str) -> None:
        self.solved[atom.key] = size
        self.lines.setdefault(atom.key, line)
        self.atoms[atom.key] = atom


def _is_simpler(left: Sum, size: Sum) -> bool:
    """Whether what is left of an equality has fewer terms, or fewer quotients and no number that would fix a size."""
    if len(left.terms) != len(size.terms):
        return len(left.terms) < len(size.terms)
    return () not in left.terms and _quotients(left) < _quotients(size)


def _quotients(size: Sum) -> int:
    return sum(atom.kind == "//" for atom in size.atoms)
