"""Whether a program draws as its model does, if they take random numbers in another order, so that no run is alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from swdc.capture.results import dense, difference
from swdc.errors import TraceError

_RUNS = 16
_FAR = 8.0
"""Standard errors by which two means differ at most; by chance it happens less than once in 10 ** 7 elements."""
_WIDER = 4.0
"""How much wider the one may spread than the other, as far as so few runs tell."""
_FROZEN = 1 / 50
"""Share of the model's spread below which an element of the program does not vary."""

Run = Callable[[Any], Any]
"""Returns the result of a run in a case, which has a seed."""


def drawn_alike(model: Run, program: Run, case: Any) -> bool:
    """Whether two that both depend on the seed have results of the same means and spreads, over some seeds."""
    cases = [replace(case, seed=seed) for seed in range(_RUNS)]
    first, second = (_stacked([run(each) for each in cases]) for run in (model, program))
    if first is None or second is None or [t.shape for t in first] != [t.shape for t in second]:
        return False
    return all(_alike(one, other) for one, other in zip(first, second, strict=True))


def _stacked(results: list[Any]) -> list[torch.Tensor] | None:
    """Return each tensor of all results, stacked; ``None`` if these have no form in common, or are all alike."""
    if any(isinstance(result, Exception) for result in results) or difference(results[0], results[1]) is None:
        return None
    leaves = [[dense(t) for t in pytree.tree_leaves(r) if isinstance(t, torch.Tensor)] for r in results]
    if any([t.shape for t in each] != [t.shape for t in leaves[0]] for each in leaves):
        return None
    return [torch.stack(list(column)).double() for column in zip(*leaves, strict=True)]


def _alike(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two stacks of runs have the same mean and spread in each element."""
    if not one.numel():
        return True
    means, spreads = [x.mean(0) for x in (one, other)], [x.std(0) for x in (one, other)]
    scale = float(means[0].abs().max()) * torch.finfo(torch.float32).eps ** 0.5
    error = (spreads[0].square() + spreads[1].square()).div(_RUNS).sqrt()
    if not bool(((means[0] - means[1]).abs() <= _FAR * error + scale).all()):
        return False
    if bool((spreads[1] < _FROZEN * spreads[0] - scale).any()):
        return False
    wide, narrow = sorted(float(s.square().mean().sqrt()) for s in spreads)[::-1]
    return bool(wide <= _WIDER * narrow + scale)


def draws_outside_torch(model: nn.Module) -> TraceError:
    """Return the error for a model whose results depend on random numbers of Python or NumPy."""
    return TraceError(
        f"expected a model whose random numbers come from torch, got {type(model).__name__}, which draws them in "
        f"Python or NumPy, so that a program would keep those of one run; draw with torch.rand, or not in evaluation"
    )
