"""Collecting the statistics of a program's channels on data, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from swdc.capture.restore import buffers_kept
from swdc.errors import PlanError, told_as
from swdc.ir.argument_types import checked
from swdc.ir.groups import READS, WRITES
from swdc.ir.input_check import InputCheck
from swdc.ir.module_tensors import modes_kept, need_values
from swdc.ir.program import Program
from swdc.ir.progress import progress_bar
from swdc.ir.value_checks import told_as_unmet
from swdc.sparsity.calibration.batches import arguments_of, length_of, read
from swdc.sparsity.calibration.moments import Moments
from swdc.sparsity.calibration.observing import Influences, Observing, Products
from swdc.sparsity.calibration.points import Point, placed, points_of
from swdc.sparsity.calibration.statistics import Calibration, Floats, Observed

Loss = Callable[..., Any]


@checked(PlanError)
def calibrate(
    program: Program,
    batches: Any,
    inputs: Callable[..., Any] | None = None,
    loss: Loss | None = None,
    moments: bool | Iterable[str] = False,
    progress: bool = True,
) -> Calibration:
    """Run a program on batches and return the statistics of its channels, for criteria of ``swdc.plan``.

    ``batches`` is an iterable, such as a data loader; it is read once, batch by batch. A batch is what the program
    takes: a tensor, a tuple of positional arguments, or a dict of keyword arguments. If a batch holds more (labels),
    ``inputs`` returns the program's part of it: ``inputs=lambda batch: batch[0]``.

    Without ``loss`` the squares of all channels that layers read are collected, for ``activation`` and ``wanda``. With
    ``loss``, a function of the program's output and the batch that returns a number, gradients are collected, too, for
    ``taylor``, ``taylor_weight`` and ``fisher``. They are those of the loss as it is given: of a mean over the batch,
    if it is a mean.

    ``moments`` collects second moments of what layers read, for ``swdc.refit``: for all layers, or for those whose
    weight matches one of some shell patterns. A layer that reads C columns (channels times positions of a kernel) takes
    C x C numbers in float64; layers that read the same share them.

    The program runs in evaluation, on its own device and in its own types. Afterwards its parameters, their gradients,
    its buffers and its modes are as before. Memory is that of one run (with ``loss`` of one training step) and a few
    numbers for each channel. With ``progress`` a bar shows the batches on a terminal.

    Raises ``PlanError`` if there is no batch, if a pattern matches nothing, or if the loss is no single number, and
    ``InputError`` for batches that the program does not stand for.

    Example::

        statistics = swdc.calibrate(program, batches)
        plan = swdc.plan(program, 0.5, criterion="activation", statistics=statistics)
    """
    need_values(program, PlanError, "calibration")
    if not program.groups:
        raise PlanError("expected groups of channels to observe, got none; program.explain() says what is frozen")
    collecting = _Collecting(program, inputs, loss, moments)
    with ExitStack() as stack:
        stack.enter_context(modes_kept(program))
        stack.enter_context(buffers_kept(program))
        stack.enter_context(_all_take_gradients(program, loss is not None))
        bar = stack.enter_context(progress_bar(hidden=not progress))
        program.eval()
        for batch in read(batches):
            bar.show("calibrating", collecting.batches, length_of(batches))
            collecting.add(batch)
    return collecting.result()


class _Collecting:
    """Sums of statistics over the batches seen so far."""

    def __init__(
        self, program: Program, inputs: Callable[..., Any] | None, loss: Loss | None, moments: bool | Iterable[str]
    ) -> None:
        self.batches = 0
        self._program, self._inputs, self._loss = program, inputs, loss
        self._points = points_of(program)
        self._places = placed(program, self._points)
        self._influences = Influences(program)
        self._moments = Moments.of(program, self._points, moments)
        tensors = program.tensors
        self._shapes = {point.weight: tensors[point.weight].shape for point in self._points}
        facts = program.facts
        given = facts.example, facts.conditions, facts.fixed, facts.example_only, facts.by_name
        self._check = InputCheck(program.graph, *given)
        self._squares: dict[tuple[str, int], Floats] = {}
        self._rows: dict[tuple[str, int], int] = {}
        self._seen: set[tuple[str, int]] = set()
        self._samples = 0
        self._signed: dict[int, tuple[Floats, Floats, int]] = {}
        self._weighted: dict[str, Floats] = {}

    def add(self, batch: Any) -> None:
        """Run the program on a batch and add what is seen."""
        args, kwargs = arguments_of(batch, self._inputs)
        self._check(self._program, args, kwargs)
        leaves = self._check.leaves(args, kwargs)
        self._seen.clear()
        self._moments.begin()
        products = None if self._loss is None else Products(self._program.facts.batch, self._places)
        run = Observing(self._program, self._points, self._see, products, self._influences)
        with told_as_unmet(), torch.set_grad_enabled(products is not None):
            output = self._program.graph.process_outputs(run.run(*leaves, enable_io_processing=False))
            if products is not None:
                self._differentiate(output, batch, products)
        self.batches += 1
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        self._samples += len(tensors[0]) if self._program.facts.batch and tensors and tensors[0].dim() else 1

    def result(self) -> Calibration:
        """Return the means; ``PlanError`` if there was no batch."""
        if not self._samples:
            raise PlanError(
                "expected at least one batch to calibrate with, got none; an iterator can be read once only"
            )
        groups, observed = self._program.groups, []
        for point in self._points:
            key = (point.value.name, point.dim)
            if key in self._squares:
                mean = self._squares[key] / max(self._rows[key], 1)
                weight = point.weight, point.weight_dim
                observed.append(Observed(point.node.name, *key, *weight, point.ids, mean, self._rows[key]))
        signed = {groups[k].name: (one / times, two / times) for k, (one, two, times) in self._signed.items()}
        weighted = {name: total / self.batches for name, total in self._weighted.items()}
        rest = signed, weighted, self._moments.means(), self._influences.means()
        return Calibration(self._program.hash(), self._samples, self.batches, tuple(observed), *rest)

    def _see(self, point: Point, value: torch.Tensor) -> None:
        """Add the squares and moments of a value, once for each run."""
        self._moments.see(point, value, self._shapes[point.weight])
        key = (point.value.name, point.dim)
        if key in self._seen or not value.is_floating_point():
            return
        self._seen.add(key)
        others = [dim for dim in range(value.dim()) if dim != point.dim]
        wide = value.double() if value.numel() <= _WIDE else value.float()
        squares = wide.square().sum(others) if others else wide.square()
        found = squares.double().cpu().numpy()
        self._squares[key] = self._squares.get(key, 0.0) + found
        self._rows[key] = self._rows.get(key, 0) + value.numel() // max(value.shape[point.dim], 1)

    def _differentiate(self, output: Any, batch: Any, products: Products) -> None:
        assert self._loss is not None
        with told_as(PlanError, "loss as a function of output and batch", "return a single number"):
            loss = self._loss(output, batch)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1 or not loss.requires_grad:
            got = f"{tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise PlanError(f"expected a loss that is a single number with a gradient, got {got}; return a mean")
        parameters = {id(p): p for p in self._program.parameters() if p.is_floating_point()}
        wanted = [*parameters.values(), *products.starts]
        gradients = torch.autograd.grad(loss.sum(), wanted, allow_unused=True)
        self._add_weights(dict(zip(parameters, gradients, strict=False)))
        for number, sums in products.sums.items():
            one, two, times = self._signed.get(number, (0.0, 0.0, 0))
            found = sums.numpy()
            self._signed[number] = one + np.abs(found).sum(0), two + np.square(found).sum(0), times + len(found)

    def _add_weights(self, gradients: dict[int, torch.Tensor | None]) -> None:
        """Add, for each channel, the magnitudes of gradient times weight."""
        tensors = self._program.tensors
        for group in self._program.groups:
            total = self._weighted.setdefault(group.name, np.zeros(group.width))
            for member in group.members:
                tensor, gradient = tensors[member.tensor], gradients.get(id(tensors[member.tensor]))
                if gradient is None or not member.roles & {WRITES, READS}:
                    continue
                change = (gradient * (tensor.detach() - member.rest)).abs()
                others = [d for d in range(change.dim()) if d != member.dim]
                sums = (change.sum(others) if others else change).double().cpu().numpy()
                total += sums[member.indices].sum(1)


_WIDE = 1 << 24
"""Values with more elements are squared in their own precision of at least float32, to keep memory bounded."""


@contextmanager
def _all_take_gradients(program: nn.Module, wanted: bool) -> Iterator[None]:
    """Let parameters that are not trained take gradients for a while, because they can be removed as well."""
    still = [p for p in program.parameters() if wanted and not p.requires_grad and p.is_floating_point()]
    try:
        for parameter in still:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter in still:
            parameter.requires_grad_(False)
