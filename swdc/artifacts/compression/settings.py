"""What a compression is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from swdc.ir.content_hash import content_hash
from swdc.ir.program import Program
from swdc.sparsity.fingerprints import of_code, of_function
from swdc.sparsity.metrics import Metric
from swdc.sparsity.planning.criteria import CRITERIA, Criterion
from swdc.sparsity.planning.width_multiples import RoundTo, plain


@dataclass(frozen=True)
class Settings:
    """The arguments of ``swdc.compress`` that decide what comes out; it says what each of these is."""

    data: Any
    metric: Metric
    budget: str
    most_drop: float
    loss: Callable[..., Any] | None
    inputs: Callable[..., Any]
    epochs: int
    rate: float
    criterion: str | Criterion
    round_to: RoundTo
    ignore: tuple[str, ...]
    seed: int

    def described(self, dense: Program) -> dict[str, Any]:
        """Return the settings as plain data, with hashes of the program and of functions."""
        named = self.criterion if isinstance(self.criterion, str) else of_function(self.criterion, CRITERIA.values())
        return {
            "program": content_hash(dense), "metric": of_code(self.metric), "budget": self.budget,
            "most_drop": self.most_drop, "loss": None if self.loss is None else of_code(self.loss),
            "inputs": of_code(self.inputs), "epochs": self.epochs, "rate": self.rate, "criterion": named,
            "round_to": plain(self.round_to),
            "ignore": list(self.ignore), "seed": self.seed,
        }  # fmt: skip


def first_of(batch: Any) -> Any:
    """Return the inputs in a batch: the first of a pair such as (inputs, labels), or the batch if it is no pair."""
    return batch[0] if isinstance(batch, list | tuple) and len(batch) > 1 else batch
