"""The gap: a metric of the model as it is now, and as it would be if the targets were cut now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import SupportsFloat

import torch
from torch import nn

from swdc.errors import PlanError
from swdc.ir.module_tensors import modes_kept

Metric = Callable[[], SupportsFloat]


@dataclass(frozen=True)
class Gap:
    """A metric ``before`` and ``after`` a cut, in the metric's own unit."""

    before: float
    after: float

    @property
    def difference(self) -> float:
        """By how much the cut raises the metric; negative if it lowers it."""
        return self.after - self.before


@torch.no_grad()
def gap_of(model: nn.Module, parameters: Iterable[nn.Parameter], remove: Callable[[], None], metric: Metric) -> Gap:
    """Evaluate a metric now, and again after ``remove`` has set parts of some parameters to zero; then restore all.

    Values of parameters and buffers are restored bit for bit, and so are the modes of modules and the state of torch's
    random generators, even if the metric raises. Both evaluations draw the same random numbers. Raises ``PlanError`` if
    the metric does not return a number.
    """
    before = _evaluated(model, metric)
    with _values_kept(parameters):
        remove()
        return Gap(before, _evaluated(model, metric))


def _evaluated(model: nn.Module, metric: Metric) -> float:
    cards = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
    with modes_kept(model), _values_kept(model.buffers()), torch.random.fork_rng(sorted(card.index for card in cards)):
        value = metric()
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PlanError(
            f"expected a metric that returns one number, such as a loss or an accuracy, got {type(value).__name__}"
        ) from error


@contextmanager
def _values_kept(tensors: Iterable[torch.Tensor]) -> Iterator[None]:
    kept = [(tensor, tensor.detach().clone()) for tensor in tensors]
    try:
        yield
    finally:
        for tensor, values in kept:
            tensor.copy_(values)
