"""Random inputs of the form that a program takes."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.program import SHAPE, Program
from swdc.results import plain
from swdc.sizes import evaluate


def sample_inputs(
    program: Program, batch: int, seed: int, dtype: torch.dtype
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return random positional and keyword inputs.

    Floating inputs are uniform over the range of the example (normal where the example is constant), of the given
    dtype; integers are uniform over the example's range, or the example itself where there is no batch (an edge
    list). Everything else is as in the example.
    """
    generator = torch.Generator().manual_seed(seed)
    args, kwargs = program.facts.example
    leaves, spec = pytree.tree_flatten((args, kwargs))
    nodes = [n for n in program.graph.nodes if n.op == "placeholder"]
    sizes = program.facts.sizes(batch)
    drawn = []
    for node, leaf in zip(nodes, leaves, strict=True):
        if not isinstance(leaf, torch.Tensor):
            drawn.append(leaf)
            continue
        shape = evaluate(node.meta[SHAPE], sizes)
        drawn.append(_draw(leaf, shape, generator, dtype, program.facts.batch is not None))
    positional, keywords = pytree.tree_unflatten(drawn, spec)
    return positional, keywords


def _draw(
    example: torch.Tensor, shape: tuple[int, ...], generator: torch.Generator, dtype: torch.dtype, batched: bool
) -> torch.Tensor:
    cpu = example.detach().cpu()
    if cpu.dtype.is_floating_point:
        low, high = (float(cpu.min()), float(cpu.max())) if cpu.numel() else (0.0, 0.0)
        if low < high:
            values = torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low
        else:
            values = torch.randn(shape, generator=generator, dtype=torch.float64)
        return values.to(example.device, dtype)
    if not batched or cpu.dtype.is_complex:
        return example
    low_int, high_int = int(cpu.min()), int(cpu.max())
    integers = torch.randint(low_int, high_int + 1, shape, generator=generator)
    return integers.to(example.device, example.dtype)


def flat_outputs(result: Any) -> list[torch.Tensor]:
    """Return the tensors of a possibly nested output, in order; those inside objects (a cache) included."""
    return [leaf for leaf in pytree.tree_leaves(plain(result)) if isinstance(leaf, torch.Tensor)]


def relative_error(expected: Any, actual: Any) -> float:
    """Return the largest difference of two nested outputs, over the largest magnitude of each expected tensor.

    Where a tensor is all zeros, the difference itself counts; where shapes, NaNs or infinities do not match, it is
    infinite.
    """
    wanted, got = flat_outputs(expected), flat_outputs(actual)
    if [t.shape for t in wanted] != [t.shape for t in got]:
        return float("inf")
    worst = 0.0
    for one, other in zip(wanted, got, strict=True):
        if one.numel() == 0:
            continue
        a, b = one.detach().double(), other.detach().double()
        if not bool(((a == b) | (a.isnan() & b.isnan()) | (a.isfinite() & b.isfinite())).all()):
            return float("inf")
        a, b = a[a.isfinite()], b[b.isfinite()]
        if a.numel() == 0:
            continue
        scale = float(a.abs().max())
        worst = max(worst, float((a - b).abs().max()) / (scale or 1.0))
    return worst
