"""Comparing two runs with a third: does the model do at its batch, and in its mode, what they tell?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swdc.captured import Value
from swdc.following.runs import CannotFollow, Run, Step


def check_witness(one: Run, other: Run, witness: Run) -> None:
    """Raise ``CannotFollow`` unless a run did what the two others tell of its batch."""
    if not bears_witness(one, other, witness, lambda step: (step.args, step.kwargs)):
        raise CannotFollow(f"the model does something else for a batch of {witness.batch}")


def bears_witness(one: Run, other: Run, witness: Run, said: Callable[[Step], Any]) -> bool:
    """Whether a run did what the two others tell of its batch; ``said`` gives what counts of a step's arguments."""

    def told(a: Any, b: Any) -> Any:
        return a + (b - a) // (other.batch - one.batch) * (witness.batch - one.batch)

    def agree(a: Any, b: Any, c: Any) -> bool:
        if isinstance(a, list | tuple) and isinstance(b, list | tuple):
            return isinstance(c, list | tuple) and len(a) == len(b) == len(c) and all(map(agree, a, b, c))
        if isinstance(a, dict):
            return a.keys() == b.keys() == c.keys() and all(agree(a[k], b[k], c[k]) for k in a)
        if isinstance(a, Value):
            return isinstance(b, Value) and isinstance(c, Value) and agree(a.shape, b.shape, c.shape)
        if type(a) is int and type(b) is int and a != b:
            return bool(c == told(a, b))
        return bool(a == c or (a != a and c != c))

    def all_of(run: Run) -> Any:
        return [run.outputs, *((said(step), step.results) for step in run.steps)]

    same = one.structure == witness.structure and [s.target for s in one.steps] == [s.target for s in witness.steps]
    return same and agree(all_of(one), all_of(other), all_of(witness))
