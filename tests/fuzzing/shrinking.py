"""Making a network that fails smaller, as long as it fails in the same way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tests.fuzzing.checking import Check, Outcome
from tests.fuzzing.network import Spec

LIMIT = 150
"""Networks tried at most."""


@dataclass
class _Search:
    signature: str
    left: int = LIMIT

    def fails(self, spec: Spec, kept: Mapping[str, tuple[int, ...]] | None = None) -> Outcome | None:
        """Return the outcome if a network fails in the way that is looked for."""
        self.left -= 1
        outcome = Check(spec, kept).run()
        return outcome if outcome.result == "failed" and outcome.signature == self.signature else None


def shrink(outcome: Outcome) -> Outcome:
    """Drop the blocks of a failing network one by one, then the groups of its plan, while it fails alike."""
    search = _Search(outcome.signature)
    smallest, changed = outcome, True
    while changed and search.left > 0:
        changed = False
        for number in reversed(range(len(smallest.spec.steps))):
            spec = smallest.spec.without(number)
            # another network draws other plans, of which any may fail
            found = next((o for seed in range(3) if (o := search.fails(_seeded(spec, seed)))), None)
            if found is not None:
                smallest, changed = found, True
    return _with_smaller_plan(smallest, search)


def _seeded(spec: Spec, number: int) -> Spec:
    return spec if number == 0 else replace(spec, seed=spec.seed + 7919 * number)


def _with_smaller_plan(outcome: Outcome, search: _Search) -> Outcome:
    """Leave groups of the plan whole, one by one."""
    smallest = outcome
    for name in list(outcome.kept):
        if len(smallest.kept) < 2 or search.left <= 0:
            break
        kept = {n: k for n, k in smallest.kept.items() if n != name}
        found = search.fails(smallest.spec, kept)
        if found is not None:
            found.kept = kept
            smallest = found
    return smallest


def reproduction(outcome: Outcome) -> dict[str, Any]:
    """Return a failure as plain data: how to build it again, its plan, what went wrong, and its graph."""
    again = Check(outcome.spec, outcome.kept or None)
    again.run()
    return {
        "spec": outcome.spec.to_dict(), "kept": {n: list(k) for n, k in outcome.kept.items()}, "stage": outcome.stage,
        "error": outcome.error, "details": outcome.details, "graph": again.code().splitlines(),
    }  # fmt: skip
