"""Sizes that code treats apart although it need not: it leaves out a padding of zero, or a resize to the same size.

A branch on whether two sizes are equal makes their equality a condition if they are equal in the example. If the model,
told that they differ, calls the same operators and others beside that change nothing there, it also does so where they
do differ: the condition goes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import torch

from swdc.capture.graph_of_symbols import predicted
from swdc.capture.recorder import Run
from swdc.capture.symbolic_follow import Followed, check
from swdc.capture.whole_results import without_whole_results

_MOST = 6
"""Lines of code that are tried; each takes a run."""

Again = Callable[[Collection[str]], Followed]
"""Follows the model once more; at some lines the answer is that sizes differ. Raises whatever the model does."""


def without_special_sizes(first: Followed, again: Again, tensors: Mapping[str, torch.Tensor]) -> Followed:
    """Return a run of which fewer sizes are special than of the first one, or the first one.

    ``tensors`` are those of the model by name. Lines may depend on each other (``a or b``): those that are all tried
    together are the ones at which the model alone does the same.
    """
    lines = [line for line in first.solved.guards.special if line]
    if len(lines) > _MOST:
        return first
    found = {line for line in lines if len(lines) == 1 or _alike(first, again, tensors, {line}) is not None}
    wider = _alike(first, again, tensors, found) if found else None
    same = wider is not None and (wider.conditions, wider.example) == (first.conditions, first.example)
    return first if wider is None or same else wider


def _alike(
    first: Followed, again: Again, tensors: Mapping[str, torch.Tensor], supposed: Collection[str]
) -> Followed | None:
    """Return a run that goes on at some lines as if sizes differed, if it does the same as the first in the example."""
    try:
        wider = again(supposed)
        if not first.example.keys() <= wider.example.keys():
            return None
        if not _asks_no_more(first, wider, supposed):
            return None
        check(_at_example(wider, tensors), _at_example(first, tensors), first.example)
    except Exception:  # whatever a model raises where sizes are not what they are
        return None
    return wider


def _asks_no_more(first: Followed, wider: Followed, supposed: Collection[str]) -> bool:
    """Whether code that runs only where sizes are equal has no questions of its own."""
    one, other = first.solved.guards, wider.solved.guards
    fixing = {*one.lines.values()} - {*supposed}
    return one.asked <= other.asked and fixing <= {*other.lines.values(), *other.claims.values()}


def _at_example(followed: Followed, tensors: Mapping[str, torch.Tensor]) -> Run:
    sizes = followed.example
    told = predicted(followed.run, followed.solved, sizes)
    return without_whole_results(told, followed.values(sizes), tensors)
