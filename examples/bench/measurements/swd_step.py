"""What a step of SWD costs beside a step of training: ours, and Algorithm 1 written naively."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from examples.bench.measurements import naive_swd
from examples.bench.measurements.naive_swd import Masks
from examples.bench.networks.entry import known
from examples.bench.networks.trained import NETWORKS, Trainee
from examples.bench.running.row_files import Row
from swdc import SWD, Program, trace
from swdc.costs.clock import medians_ms
from swdc.ir.trace_options import FREE
from swdc.sparsity.targets import Target

STRUCTURES = ("weights", "channels")
NAIVE: dict[str, Callable[[nn.Module, float], Masks]] = {
    "weights": naive_swd.weights,
    "channels": naive_swd.channels,
}
STRENGTH = 5e-4
STEPS = 1000
"""Steps of the course of ``a="auto"``, of which the runs are the first."""
LIMIT = 60.0
"""Seconds for the runs of one network and batch size; five are made in any case."""
WARM_UP, LEAST_RUNS = 2, 5


def steps(
    names: Iterable[str], batches: Iterable[int], target: float = 0.9, repeats: int = 30, seed: int = 0,
    announce: Callable[[str], None] = lambda text: None,
) -> Iterator[Row]:  # fmt: skip
    """Yield for each network, batch size and structure the seconds of a step: medians of runs that take turns.

    ``plain`` is a step of training without SWD; ``naive`` and ``ours`` are the step of SWD alone, which finds the set
    and adds its pull to gradients that are there, each time on weights that a step of training has moved. ``auto`` is
    that with ``a="auto"``, together with what follows the optimizer's step, on a copy of these weights and gradients.
    ``same_set`` says whether the naive step and ours found the same set, before the runs and after them.
    """
    chosen, sizes = [known(name, NETWORKS) for name in names], list(batches)
    for name in chosen:
        for batch in sizes:
            announce(f"{name}, batch {batch}")
            yield from _rows(name, batch, target, repeats, seed)


def _rows(name: str, batch: int, target: float, repeats: int, seed: int) -> Iterator[Row]:
    torch.manual_seed(seed)
    model = _spread(NETWORKS[name].model())
    program = trace(model, NETWORKS[name].inputs(2), policy=FREE)
    plain = _training(model, NETWORKS[name], batch)
    ours = {s: SWD(program, target, s, a_min=1, a_max=1, steps=1, mu=STRENGTH) for s in STRUCTURES}
    plain()
    twin = copy.deepcopy(program)
    idle = torch.optim.SGD(twin.parameters(), lr=0.01)
    autos = {s: SWD(twin, target, s, a="auto", steps=STEPS, optimizer=idle) for s in STRUCTURES}
    calls: dict[tuple[str, str], Callable[[], object]] = {("plain", ""): plain}
    for structure in STRUCTURES:
        calls["naive", structure] = partial(_naive_step, model, structure, target)
        calls["ours", structure] = ours[structure].step
    for structure in STRUCTURES:
        calls["copy", structure] = partial(_copy, program, twin)
        calls["auto", structure] = partial(_automatic_step, autos[structure])
    same = {s: _same(NAIVE[s](model, target), swd.targeted()) for s, swd in ours.items()}
    start = time.perf_counter()
    for call in calls.values():
        call()
    runs = max(LEAST_RUNS, min(repeats, int(LIMIT / (time.perf_counter() - start))))
    times = medians_ms([*calls.values()], runs, WARM_UP)
    seconds = {key: ms / 1000 for key, ms in zip(calls, times, strict=True)}
    for structure in STRUCTURES:
        step, naive = seconds["plain", ""], seconds["naive", structure]
        own, auto = seconds["ours", structure], seconds["auto", structure]
        again = _same(NAIVE[structure](model, target), ours[structure].targeted())
        yield {
            "network": name, "structure": structure, "batch": batch, "plain": step, "naive": naive, "ours": own,
            "auto": auto, "same_set": same[structure] and again, "ours_over_plain": own / step,
            "ours_over_naive": own / naive, "auto_over_plain": auto / step,
            "target": target, "runs": runs, "threads": torch.get_num_threads(), "seed": seed,
        }  # fmt: skip


def _spread(model: nn.Module) -> nn.Module:
    """Give batch norms gains that differ, as they do once a network has trained a little."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1.0)
    return model


def _training(model: nn.Module, trainee: Trainee, batch: int) -> Callable[[], object]:
    inputs, labels = trainee.inputs(batch), trainee.labels(batch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=STRENGTH)

    def step() -> None:
        optimizer.step()  # with the gradients of the run before, and with what both have added to them
        optimizer.zero_grad()
        functional.cross_entropy(model(*inputs), labels).backward()  # type: ignore[no-untyped-call]

    return step


def _naive_step(model: nn.Module, structure: str, target: float) -> None:
    naive_swd.step(model, NAIVE[structure](model, target), STRENGTH)


@torch.no_grad()
def _copy(program: Program, twin: Program) -> None:
    """Give a program the weights and the gradients of another."""
    for mine, other in zip(program.parameters(), twin.parameters(), strict=True):
        other.copy_(mine)
        other.grad = None if mine.grad is None else mine.grad.clone()


def _automatic_step(method: SWD) -> None:
    method.step()
    method._follow()  # which the optimizer would call


def _same(masks: Masks, targets: list[Target]) -> bool:
    """Whether masks and targets are the same set; a parameter without a target is one of which nothing goes."""
    found = {target.name: target.chosen for target in targets}
    whole = {name for name, mask in masks.items() if bool(mask.any())}
    return whole <= set(found) <= set(masks) and all(torch.equal(mask, masks[name]) for name, mask in found.items())
