"""One step of training: what a program returns, the statistics that it leaves, and the gradients of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from swdc.analysis.channel_order import arranged
from swdc.channels.kept import Kept
from swdc.ir.differences import flat_outputs
from swdc.ir.program import Program
from swdc.rewriting.cutting import cut_tensor
from swdc.rewriting.runs import called

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Step:
    """The results of a step, by name. ``failure`` says why there are no gradients, if there are none."""

    outputs: list[torch.Tensor]
    statistics: Tensors = field(default_factory=dict)
    gradients: Tensors = field(default_factory=dict)
    failure: str = ""

    def tensors(self, names: tuple[str, ...]) -> list[torch.Tensor]:
        """Return outputs, and the statistics and digests of gradients of the given names."""
        found = {**self.statistics, **self.gradients}
        return [*self.outputs, *(digest for name in names for digest in _digests(found[name]))]

    def labels(self, names: tuple[str, ...]) -> list[str]:
        """Return in words what each tensor of ``tensors`` is."""
        found = {**self.statistics, **self.gradients}
        kinds = {n: "the statistic" if n in self.statistics else "the gradient of" for n in names}
        digests = [f"{kinds[name]} {name}, after a step of training" for name in names for _ in _digests(found[name])]
        return [*(f"output {number}" for number in range(len(self.outputs))), *digests]

    def comparable(self, *others: Step) -> tuple[str, ...]:
        """Return the names of statistics and gradients that all steps have, and that are finite in this one."""
        mine = {**self.statistics, **self.gradients}
        theirs = [{**step.statistics, **step.gradients} for step in others]
        return tuple(n for n, t in mine.items() if bool(t.isfinite().all()) and all(n in each for each in theirs))


def training_step(program: Program, inputs: Any, seed: int, dtype: torch.dtype | None, gradients: bool = True) -> Step:
    """Run a program in training, and return the step; the statistics of its batch norms move.

    The loss is a random sum of all outputs.
    """
    result = called(program.train(), inputs, seed, dtype, grad=gradients)
    outputs = flat_outputs(result)
    plain = [output.detach() for output in outputs]
    read, tensors = program.read_tensors(), program.tensors
    buffers = {n: t.clone() for n, t in tensors.items() if n in read and not isinstance(t, nn.Parameter)}
    try:
        return Step(plain, buffers, _gradients(program, outputs, seed) if gradients else {})
    except RuntimeError as error:
        return Step(plain, buffers, failure=str(error).splitlines()[0])


def _gradients(program: Program, outputs: list[torch.Tensor], seed: int) -> Tensors:
    parameters = {n: p for n, p in program.read_parameters().items() if p.requires_grad}
    floating = [o for o in outputs if o.requires_grad]
    if not parameters or not floating:
        return {}
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(o.shape, generator=generator, dtype=torch.float64) for o in floating]
    grads = torch.autograd.grad(
        floating,
        list(parameters.values()),
        [w.to(o) for w, o in zip(weights, floating, strict=True)],
        allow_unused=True,
    )
    return {name: grad for name, grad in zip(parameters, grads, strict=True) if grad is not None}


def of_kept(step: Step, masked: Program) -> Step:
    """Return the step of a masked program with the statistics and gradients of the channels that its plan keeps."""
    kept = kept_by_plan(masked)

    def cut(tensors: Tensors) -> Tensors:
        return {name: cut_tensor(tensor, name, kept) for name, tensor in tensors.items()}

    return replace(step, statistics=cut(step.statistics), gradients=cut(step.gradients))


def kept_by_plan(masked: Program) -> Kept:
    """Return what stays of a masked program in the slim one of its plan, in the order that it has there."""
    plan, coupling = masked.facts.origin.plan, masked.coupling  # type: ignore[union-attr]
    stays = coupling.keep({name: channels or (0,) for name, channels in plan.kept.items()})
    return Kept(coupling, stays, arranged(masked, coupling, stays))


def _digests(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return a small tensor itself, and random sums over the rows and over the columns of a large one."""
    if tensor.dim() < 2 or tensor.numel() < 4096:
        return [tensor]
    matrix = tensor.flatten(1)
    generator = torch.Generator().manual_seed(tensor.numel())
    over, across = (torch.randn(n, generator=generator, dtype=torch.float64) for n in matrix.shape)
    matrix = matrix.double()
    return [matrix.T @ over, matrix @ across]
