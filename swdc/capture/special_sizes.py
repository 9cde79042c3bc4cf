"""Sizes that code treats apart although it need not: it leaves out a padding of zero, or a resize to the same size.

A branch on whether two sizes are equal makes their equality a condition if they are equal in the example. If the model,
told that they differ, calls the same operators and others beside that change nothing there, it also does so where they
do differ: the condition goes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial

import torch

from swdc.capture.claims import Claim
from swdc.capture.graph_of_symbols import predicted
from swdc.capture.input_symbols import BATCH
from swdc.capture.runs import Run
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
    lines = [line for line in guards.special if source(line) in felt]
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
        if not _asks_no_more(first, wider, supposed):
            return None
        check(_at_example(wider, tensors), _at_example(first, tensors), first.example)
        for sizes in _where_one_differs(first, wider, _skipped(first, wider, supposed)):
            shapes = wider.values(sizes)
            told = without_whole_results(predicted(wider.run, wider.solved, sizes), shapes, tensors)
            check(told, without_whole_results(ran(shapes), shapes, tensors), sizes)
    except Exception:  # the model's code runs where sizes are not what they are; without this run less is dynamic
        return None
    return wider


def _asks_no_more(first: Followed, wider: Followed, supposed: Collection[str]) -> bool:
    """Whether code that runs only where sizes are equal has no questions of its own.

    At a line that is supposed it may: the second of ``a or b`` is asked only if the first is not so.
    """
    one, other = first.solved.guards, wider.solved.guards
    fixing = {*one.lines.values()} - {*supposed}
    more = (one.asked - other.asked).keys() - {*_skipped(first, wider, supposed)}
    return not more and fixing <= {*other.lines.values(), *other.claims.values()}


def _skipped(first: Followed, wider: Followed, supposed: Collection[str]) -> list[str]:
    """Return the lines at which fewer questions are asked as if sizes differed, all of them whether sizes are equal."""
    one, other = first.solved.guards, wider.solved.guards
    return [s for s in supposed if one.asked[s] > other.asked[s] and one.asked[s] == len(one.special.get(s, ()))]


def _where_one_differs(first: Followed, wider: Followed, lines: Collection[str]) -> Iterator[dict[str, int]]:
    """Yield sizes at which one alone of the equalities that lines ask for is not so; for each there has to be some."""
    example, solved = first.symbols.example, first.solved
    for line in lines:
        asked = [Claim(c.relation, solved.of_inputs(c.size)) for c in solved.guards.special[line]]
        for claim in asked:
            others = [other for other in asked if other != claim]
            near = (
                {**example, name: size}
                for name in sorted(claim.size.symbols)
                for size in range(2, 2 * example[name] + _NEAR)
            )
            for sizes in near:
                named = {wider.solved.names[name]: size for name, size in sizes.items()}
                if claim.holds(sizes) or not all(other.holds(sizes) for other in others):
                    continue
                if broken(wider.conditions, named) is None:
                    yield {name: named[name] for name in wider.example}
                    break
            else:
                raise CannotCapture(f"no sizes are near at which {line} finds other sizes different")


def _at_example(followed: Followed, tensors: Mapping[str, torch.Tensor]) -> Run:
    sizes = followed.example
    told = predicted(followed.run, followed.solved, sizes)
    return without_whole_results(told, followed.values(sizes), tensors)
