"""One step of training: what a program returns, the statistics that it leaves, and the gradients of its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from swdc.channels.kept import Kept
from swdc.ir.differences import flat_outputs, widened
from swdc.ir.program import Program
from swdc.rewriting.cutting import cut_tensor
from swdc.rewriting.runs import called

_SMALL = 4096
"""The most elements of a tensor that is kept whole."""


@dataclass(frozen=True)
class Step:
    """The results of a step: its outputs, and the statistics and gradients that it leaves.

    ``left`` has them by what they are in words (``the gradient of fc.weight``), large ones as sums. ``failure`` says
    why there are no gradients, if they were wanted.
    """

    outputs: list[torch.Tensor]
    left: Mapping[str, torch.Tensor]
    failure: str

    def tensors(self, names: Iterable[str]) -> list[torch.Tensor]:
        """Return the outputs, and what the step leaves under the given names."""
        return [*self.outputs, *(self.left[name] for name in names)]

    def comparable(self, *others: Step) -> list[str]:
        """Return the names of all that every step leaves, and that is finite in this one."""
        return [n for n, t in self.left.items() if bool(t.isfinite().all()) and all(n in each.left for each in others)]


def training_step(
    program: Program,
    inputs: Any,
    seed: int,
    dtype: torch.dtype | None,
    gradients: bool = True,
    kept: Kept | None = None,
) -> Step:
    """Run a program in training, and return the step; the statistics of its batch norms move.

    The loss is a random sum of all outputs. If ``kept`` is given, only the channels are returned that it keeps.
    """
    outputs = flat_outputs(called(program.train(), inputs, seed, dtype, grad=True))
    plain, read, failure = [output.detach() for output in outputs], program.read_tensors(), ""
    buffers = {n: t for n, t in program.tensors.items() if n in read and not isinstance(t, nn.Parameter)}
    found: dict[str, torch.Tensor] = {}
    try:
        found = _gradients(program, outputs, seed) if gradients else {}
    except RuntimeError as error:
        failure = str(error).splitlines()[0]
    left = {**_digests("the statistic", buffers, kept), **_digests("the gradient of", found, kept)}
    return Step(plain, left, failure)


def _gradients(program: Program, outputs: list[torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    parameters = {n: p for n, p in program.read_parameters().items() if p.requires_grad}
    floating = [o for o in outputs if o.requires_grad]
    if not parameters or not floating:
        return {}
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(o.shape, generator=generator, dtype=widened(o).dtype).to(o) for o in floating]
    grads = torch.autograd.grad(floating, list(parameters.values()), weights, allow_unused=True)
    return {
        name: torch.zeros_like(parameters[name]) if g is None else g for name, g in zip(parameters, grads, strict=True)
    }


def _digests(what: str, tensors: Mapping[str, torch.Tensor], kept: Kept | None) -> dict[str, torch.Tensor]:
    """Return small tensors themselves, and of large ones random sums over the rows and over the columns."""
    found = {}
    for name, whole in tensors.items():
        tensor = whole.clone() if kept is None else cut_tensor(whole, name, kept)
        if tensor.dim() < 2 or tensor.numel() <= _SMALL:
            found[f"{what} {name}"] = tensor
            continue
        matrix = widened(tensor).flatten(1)
        generator = torch.Generator().manual_seed(tensor.numel())
        over, across = (torch.randn(n, generator=generator, dtype=torch.float64).to(matrix) for n in matrix.shape)
        found[f"{what} {name}, summed over rows"] = matrix.T @ over
        found[f"{what} {name}, summed over columns"] = matrix @ across
    return found
