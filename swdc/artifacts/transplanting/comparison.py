"""Comparing a transplanted model with the slim program."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from swdc.artifacts.transplanting.call_hooks import copied
from swdc.artifacts.transplanting.copied_model import copied_model
from swdc.artifacts.transplanting.extrema import check_extrema
from swdc.artifacts.transplanting.float64 import Tensors, in_float64, wide_inputs, wide_program
from swdc.artifacts.transplanting.masked_model import masked_model
from swdc.artifacts.transplanting.other_sizes import differs_at_other_sizes, sizes_beyond
from swdc.capture.restore import buffers_kept, restored
from swdc.errors import TransplantError
from swdc.ir.differences import flat_outputs, relative_error
from swdc.ir.handed_state import results_of
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from swdc.ir.seeding import seed_all
from swdc.rewriting.certificate import TOLERANCE

BATCHES = (1, 3)
_AS_CALLED = 1e-3
"""Largest relative error of the model as the user calls it, if its weights are not in float64."""


class Comparison:
    """Compares a transplanted model with the slim program.

    A recorded slim program stands for its example inputs only, so the masked model takes its place.
    """

    def __init__(self, slim: Program, dense: Program, model: nn.Module) -> None:
        self.slim, self.dense, self.model = slim, dense, model
        self.recorded = slim.facts.example_only

    def inputs(self, batch: int, dtype: torch.dtype | None = torch.float64) -> Any:
        """Return inputs to compare on: random ones, or the example inputs of a recorded program.

        Without a ``dtype`` they have the types of the example.
        """
        if self.recorded:
            return wide_inputs(copied(self.slim.facts.example))
        return sample_inputs(self.dense, batch, 0, dtype)

    def in_float64(self, mine: nn.Module) -> None:
        """Raise ``TransplantError`` unless a model in float64 computes the same, also in training if it can.

        Extrema are judged by what is known of the signs of the channels: random ones rarely show a lacking zero.
        """
        check_extrema(self.slim, mine)
        with restored(mine):  # caches in float64
            self._in_float64(mine)

    def _in_float64(self, mine: nn.Module) -> None:
        expected = self.masked_model() if self.recorded else wide_program(self.slim).eval()
        for batch in BATCHES[:1] if self.recorded else BATCHES:
            self._compare(expected, mine, batch, f"at batch size {batch}")
        if not self.recorded and self._trains_alike():
            trained = copied_model(mine).train()
            self._compare(wide_program(self.slim).train(), trained, BATCHES[-1], "in training")

    def at_other_sizes(self, mine: nn.Module) -> str:
        """Return at which shapes of inputs a wide model fails or differs from the masked one, else an empty text."""
        if self.recorded:
            return ""
        mine = copied_model(mine)  # models keep what they have found for a size
        inputs, beyond = self.inputs(BATCHES[0]), sizes_beyond(self.slim)
        more = (sample_inputs(self.dense, BATCHES[0], 0, torch.float64, sizes=sizes) for sizes in beyond)
        return differs_at_other_sizes(self.masked_model(), mine, inputs, more)

    def as_called(self, mine: nn.Module) -> None:
        """Compare a model as the user gets and calls it: without gradients, in which torch may take fused paths.

        What it keeps from earlier runs is what it is handed out with. It is compared on the example, too, because what
        it keeps may be for that. Raises ``TransplantError`` if the model differs from the slim program.
        """
        if self.recorded:
            return
        floats = {t.dtype for t in mine.parameters() if t.is_floating_point()}
        dtype = next(iter(floats)) if len(floats) == 1 else None
        where = "in the types of the example" if dtype is None else f"in {dtype}"
        for inputs in (self.inputs(BATCHES[-1], dtype), self._example(dtype)):
            self._as_called(mine, inputs, where, TOLERANCE if dtype == torch.float64 else _AS_CALLED)

    def _example(self, dtype: torch.dtype | None) -> Any:
        """Return the example inputs, floating tensors in a type if one is given."""
        example = copied(self.slim.facts.example)
        if dtype is None:
            return example
        return pytree.tree_map_only(torch.Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, example)

    def _as_called(self, mine: nn.Module, inputs: Any, where: str, allowed: float) -> None:
        results = []
        for one in (self.slim.clone().eval(), copied_model(mine)):
            args, kwargs = copied(inputs)
            with restored(one), torch.no_grad(), buffers_kept(one):
                seed_all(0)  # what drops in every mode draws the same
                results.append(results_of(one, args, kwargs))
        wanted, got = ([str(t.dtype) for t in flat_outputs(result)] for result in results)
        if len(wanted) == len(got) and wanted != got:
            raise TransplantError(
                f"expected {type(self.model).__name__} to return {_some(wanted)} as the slim program does, got "
                f"{_some(got)}: what its code keeps from a run may have another type; make it in that of its input, "
                f"or use the slim program itself"
            )
        self._check(relative_error(*results), where, allowed)

    def _compare(self, expected: nn.Module, mine: nn.Module, batch: int, where: str) -> None:
        try:
            error = self._error(expected, mine, batch)
        except Exception as failure:  # whatever the user's code raises on sizes that it does not expect
            raise TransplantError(
                f"expected {type(self.model).__name__} to compute what the slim program computes, but {where} it fails "
                f"with {type(failure).__name__}: {str(failure).partition(chr(10))[0]}; use the slim program itself"
            ) from failure
        self._check(error, where)

    def _check(self, error: float, where: str, allowed: float = TOLERANCE) -> None:
        if not error <= allowed:
            raise TransplantError(
                f"expected {type(self.model).__name__} to compute what the slim program computes, but they differ by "
                f"{error:.1e} {where}; use the slim program itself"
            )

    def _error(self, one: nn.Module, other: nn.Module, batch: int) -> float:
        results = []
        for model in (one, other):
            args, kwargs = self.inputs(batch)
            with in_float64(), buffers_kept(model):
                results.append(results_of(model, args, kwargs))
        return relative_error(*results)

    def _trains_alike(self) -> bool:
        """Whether the user's model computes the same as its program in training, apart from dropout."""
        model = copied_model(self.model).train()
        Tensors().widen(model)
        try:
            return self._error(wide_program(self.dense).train(), model, BATCHES[-1]) <= TOLERANCE
        except (RuntimeError, ValueError, TypeError):  # the model asks for something else in training
            return False

    def masked_model(self) -> nn.Module:
        """Return a copy of the user's model in float64 with the removed channels set to zero."""
        return masked_model(self.model, self.dense, self.slim)


def _some(dtypes: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(dtypes)) or "no tensors"
