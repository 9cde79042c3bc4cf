"""Multiply-adds that swdc counts, beside those that torchvision publishes and those that torch counts in a run."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

from examples.bench.measurements import published
from examples.bench.networks import catalogue
from examples.bench.networks.entry import Entry, call
from examples.bench.running.row_files import Row
from swdc import count, trace
from swdc.errors import brief

DETECTORS = "detectors"
"""The detectors of torchvision at the sizes of their published figures; these run on values, in minutes."""
LIBRARIES = (published.TORCHVISION, DETECTORS, *(name for name in catalogue.LIBRARIES if name != published.TORCHVISION))


@dataclass(frozen=True)
class Case:
    """A network to count; ``published`` are its multiply-adds in billions, if they are published."""

    name: str
    entry: Entry
    published: float | None = None
    values: bool = False
    """Whether it can only be followed on values, so that the meta device is not tried."""


def cases(library: str) -> list[Case]:
    """Return the networks of a library: of torchvision those with weights, at the sizes of the published figures."""
    if library == published.TORCHVISION:
        return [Case(f.name, f.entry, f.billions) for f in published.figures()]
    if library == DETECTORS:
        return [Case(f.name, f.entry, f.billions, values=True) for f in published.detectors()]
    return [Case(name, catalogue.entry(name, library)) for name in catalogue.names(library)]


def counts(library: str, chosen: list[Case], announce: Callable[[str], None] = lambda name: None) -> Iterator[Row]:
    """Yield for each network the three counts, in multiply-adds, or why there are none."""
    for case in chosen:
        announce(case.name)
        start = time.perf_counter()
        try:
            row = _row(case)
        except Exception as error:  # whatever a model raises
            row = {"reason": brief(error)}
        yield {"library": library, "name": case.name, **row, "seconds": round(time.perf_counter() - start, 1)}


def _row(case: Case) -> Row:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing tells what does not matter for a count
        model, inputs, device, theirs = _run(case)
        program = trace(model, inputs, check=False)
        batch = program.facts.symbols.get(program.facts.batch or "")
        counted = count(program, "macs", batch=batch)
    shapes = [list(x.shape) for x in pytree.tree_leaves(inputs) if isinstance(x, torch.Tensor)]
    exactly = None if case.published is None else round(case.published * 1e9)
    as_published = round(counted.macs, -6)  # published figures are in millions
    return {
        "inputs": shapes, "device": device, "captured_by": program.facts.captured_by,
        "parameters": counted.parameters, "macs": counted.macs, "published": exactly, "torch": theirs,
        "to_published": _ratio(as_published, exactly), "to_torch": _ratio(counted.macs, theirs), "reason": "",
    }  # fmt: skip


def _run(case: Case) -> tuple[nn.Module, Any, str, int]:
    """Return a model with inputs, the device that it runs on, and the multiply-adds that torch counts in the run.

    Tensors without values are tried first, because a count needs none.
    """
    try:
        if case.values:
            raise TypeError("its code asks for values")
        with torch.device("meta"):
            model = case.entry.model().eval()
        inputs = pytree.tree_map(lambda x: x.to("meta") if isinstance(x, torch.Tensor) else x, case.entry.inputs())
        return model, inputs, "meta", _counted(model, inputs)
    except Exception:  # some models cannot be built, or run, without values
        torch.manual_seed(0)
        model, inputs = case.entry.model().eval(), case.entry.inputs()
        return model, inputs, "cpu", _counted(model, inputs)


def _counted(model: nn.Module, inputs: Any) -> int:
    """Return half of the operations that torch counts in a run without gradients, which its counter stumbles over.

    Fused layers that the counter sees nothing of are off: of transformers, and, in models that have some, recurrent
    ones, because without them convolutions on values take long.
    """
    args, kwargs = call(inputs)
    fused = not any(isinstance(part, nn.RNNBase) for part in model.modules())
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    model.requires_grad_(False)
    try:
        with torch.no_grad(), torch.backends.mkldnn.flags(enabled=fused), FlopCounterMode(display=False) as counter:
            model(*args, **kwargs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops()) // 2


def _ratio(ours: int, theirs: int | None) -> float | None:
    return round(ours / theirs, 5) if theirs else None
