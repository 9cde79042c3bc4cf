"""Square roots of sizes: code that counts the patches of a square image takes the root for its side."""

from __future__ import annotations

from collections import Counter
from math import isqrt

from swdc.capture.claims import Claim
from swdc.capture.guards import Guards
from swdc.capture.real_numbers import Real, ratio_of
from swdc.capture.size_sums import ONE, Product, Sum


def root_of(real: Real, guards: Guards) -> Sum | None:
    """Return the root of a product of two equal sizes, which has no fraction; ``None`` if it is no such root.

    Sizes that are equal in the run are taken to be equal, which a condition says.
    """
    base, *exponent = real.parts
    is_root = real.operation == "root" or (real.operation == "power" and exponent == [0.5])
    size, parts = (ratio_of(base) if is_root else None) or (None, None)
    if size is None or parts != ONE:
        return None
    found = _root(guards.settled(size))
    if found is None:
        _make_square(guards.settled(size), guards)
        found = _root(guards.settled(size))
    return found


def _root(size: Sum) -> Sum | None:
    (product, times), *more = [*size.terms.items()] or [((), 0)]
    atoms = Counter(product)
    if more or times <= 0 or isqrt(times) ** 2 != times or any(count % 2 for count in atoms.values()):
        return None
    half: Product = tuple(atom for atom, count in atoms.items() for _ in range(count // 2))
    return Sum({half: isqrt(times)})


def _make_square(size: Sum, guards: Guards) -> None:
    """Take two factors to be equal that are so in the run, if the size is a square then."""
    (product, times), *more = [*size.terms.items()] or [((), 0)]
    left = [Sum({(atom,): 1}) for atom, count in Counter(product).items() if count % 2]
    if more or isqrt(abs(times)) ** 2 != times or len(left) != 2 or guards.hint(left[0]) != guards.hint(left[1]):
        return
    guards.note(Claim("==", left[0] - left[1]))
