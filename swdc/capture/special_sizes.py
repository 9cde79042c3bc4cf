"""Sizes that code treats apart although it need not: it leaves out a padding of zero, or a resize to the same size.

A branch on whether two sizes are equal makes their equality a condition if they are equal in the example. If the model,
told that they differ, calls the same operators and others beside that change nothing there, it also does so where they
do differ: the condition goes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch

from swdc.capture.claims import Claim, multiple_of, without_number
from swdc.capture.graph_of_symbols import predicted
from swdc.capture.guards import Guards
from swdc.capture.input_symbols import BATCH
from swdc.capture.runs import Run
from swdc.capture.size_sums import Sum, number, value_of
from swdc.capture.solved_sizes import source
from swdc.capture.symbolic_follow import Followed, check
from swdc.capture.way import CannotCapture
from swdc.capture.whole_results import without_whole_results
from swdc.ir.conditions import broken

_MOST = 6
"""Lines of code that are tried; each takes a run."""

_MOST_ROUNDS = 2
_NEAR = 16
_FARTHEST = 512
"""How far beyond twice a size to look for one at which code finds equal what differs in the example."""

Again = Callable[..., Followed]
"""Follows the model once more, with the last arguments of ``followed_on``. Raises whatever the model does."""


def widest(first: Followed, again: Again, tensors: Mapping[str, torch.Tensor], ran: Callable[..., Run]) -> Followed:
    """Return the run that is valid for most sizes: of the example, or of larger sizes that code may treat apart.

    ``tensors`` are those of the model by name; ``ran`` runs it on inputs of given shapes.
    """
    wider, example = without_special_sizes(first, again, tensors, ran), first.symbols.example
    at: dict[str, int] = {}
    for _ in range(_MOST_ROUNDS if wider is first else 0):
        moved = _where_equal(first if not at else wider)
        if not moved:
            break
        at |= moved
        try:
            wider = again((), at)
        except Exception:  # the model refuses these sizes, or cannot be followed there
            return first
    if not at:
        return wider
    wider = without_special_sizes(wider, partial(again, at=at), tensors, ran)
    wider = replace(wider, symbols=replace(wider.symbols, example=example))
    fits = first.example.keys() <= wider.example.keys() and broken(wider.conditions, wider.example) is None
    return wider if fits and wider.solved.guards.supposed else first


def _where_equal(followed: Followed) -> dict[str, int]:
    """Return larger sizes, by the names of their symbols, at which all is equal that the code has found different."""
    solved, example = followed.solved, followed.symbols.example
    asked = [Claim(claim.relation, solved.of_inputs(claim.size)) for claim in solved.guards.apart]
    found: dict[str, int] = {}
    for value in {size for name, size in example.items() if name != BATCH}:
        names = [name for name, size in example.items() if size == value and name != BATCH]
        claims = [c for c in asked if c.size.symbols & {*names} and c.size.symbols <= {*names, BATCH}]
        for size in range(value, 2 * value + _FARTHEST) if claims else ():
            sizes = {**example, **dict.fromkeys(names, size)}
            if all(c.holds(sizes) for c in claims):
                found |= dict.fromkeys(names, size)
                break
    return found


def without_special_sizes(
    first: Followed, again: Again, tensors: Mapping[str, torch.Tensor], ran: Callable[..., Run]
) -> Followed:
    """Return a run of which fewer sizes are special than of the first one, or the first one.

    ``tensors`` are those of the model by name, and ``ran`` runs it on inputs of given shapes. Lines may depend on each
    other (``a or b``): those that are all tried together are the ones at which the model alone does the same.
    """
    guards = first.solved.guards
    felt = {*map(source, guards.lines.values()), *(condition.source for condition in first.conditions)}
    lines = [line for line in dict(guards.special) if source(line) in felt]
    if len(lines) > _MOST:
        return first
    found = {line for line in lines if len(lines) == 1 or _alike(first, again, tensors, ran, {line}) is not None}
    wider = _alike(first, again, tensors, ran, found) if found else None
    same = wider is not None and (wider.conditions, wider.example) == (first.conditions, first.example)
    return first if wider is None or same else wider


def _alike(
    first: Followed,
    again: Again,
    tensors: Mapping[str, torch.Tensor],
    ran: Callable[..., Run],
    supposed: Collection[str],
) -> Followed | None:
    """Return a run that goes on at some lines as if sizes differed, if it does the same as the first in the example."""
    try:
        wider = again(supposed)
        if not first.example.keys() <= wider.example.keys():
            return None
        skipped = _skipped(first, wider, supposed)
        if skipped is None:
            return None
        check(_at_example(wider, tensors), _at_example(first, tensors), first.example)
        for sizes in _where_one_differs(first, wider, supposed, skipped):
            shapes = wider.values(sizes)
            told = without_whole_results(predicted(wider.run, wider.solved, sizes), shapes, tensors)
            check(told, without_whole_results(ran(shapes), shapes, tensors), sizes)
    except Exception:  # the model's code runs where sizes are not what they are; without this run less is dynamic
        return None
    return wider


def _skipped(first: Followed, wider: Followed, supposed: Collection[str]) -> set[str] | None:
    """Return the lines at which fewer questions are asked as if sizes differed; all have to be whether some are equal.

    The second question of ``a or b`` is asked only if the first is not so. Returns ``None`` if code that runs only
    where sizes are equal has other questions of its own.
    """
    one, other = first.solved.guards, wider.solved.guards
    fixing = {*one.lines.values()} - {*supposed} - {*other.lines.values(), *other.claims.values()}
    fewer = {*(one.asked - other.asked), *fixing}
    equal = Counter(line for line, _ in one.special)
    return fewer if all(one.asked[line] == equal[line] > 0 for line in fewer) else None


def _where_one_differs(
    first: Followed, wider: Followed, supposed: Collection[str], skipped: Collection[str]
) -> Iterator[dict[str, int]]:
    """Yield sizes at which an equality that some lines ask for is the first that is not so.

    Code has not asked the later ones there, and what it has asked of them in the example rests on the first being so.
    Raises ``CannotCapture`` if there are no such sizes near for a line that was ``skipped``.
    """
    example, guards, names = first.symbols.example, first.solved.guards, wider.solved.names
    near = [
        {**example, name: size} for name in example if name != BATCH for size in range(2, 2 * example[name] + _NEAR)
    ]
    asked = [(line, claim) for line, claim in guards.special if line in supposed or line in skipped]
    for place, (line, claim) in enumerate(asked):
        earlier = [found for _, found in asked[:place]]
        for sizes in near:
            told, named = _with_quotients(sizes, guards), {names[name]: size for name, size in sizes.items()}
            if (
                claim.size.symbols <= told.keys()
                and not claim.holds(told)
                and all(found.holds(told) for found in earlier if found.size.symbols <= told.keys())
                and broken(wider.conditions, named) is None
            ):
                yield {name: named[name] for name in wider.example}
                break
        else:
            if line in skipped:
                raise CannotCapture(f"no sizes are near at which {line} finds other sizes different")


def _with_quotients(sizes: Mapping[str, int], guards: Guards) -> dict[str, int]:
    """Return sizes with those quotients that code has found whole, if they are whole at these sizes, too."""
    found = dict(sizes)
    for key, size in guards.solved.items():
        made, by = multiple_of(without_number(size))
        divided = Sum({(guards.atoms[key],): 1}) + number(-size.terms.get((), 0))
        if made is not None and made.kind in guards.made and divided.symbols <= found.keys():
            value, remainder = divmod(value_of(divided, found), by)
            if not remainder:
                found[made.kind] = value
    return found


def _at_example(followed: Followed, tensors: Mapping[str, torch.Tensor]) -> Run:
    sizes = followed.example
    told = predicted(followed.run, followed.solved, sizes)
    return without_whole_results(told, followed.values(sizes), tensors)
