"""Random inputs for a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.ir.default_device import cpu_by_default
from swdc.ir.graph import SHAPE
from swdc.ir.program import Program
from swdc.ir.sizes import evaluate


@cpu_by_default()
def sample_inputs(
    program: Program,
    batch: int,
    seed: int,
    dtype: torch.dtype | None,
    shuffle: bool = True,
    sizes: Mapping[str, int] | None = None,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return random positional and keyword inputs.

    Floating-point inputs have the given dtype (``None``: that of the example). They are uniform over the range of the
    example, or normal if the example is constant; so are the parts of complex ones. Masks (of zeros and ones, or with
    infinities) are rows of the example. Integers are rows of the example, each shuffled along its first dimension, so
    that a row has as many special tokens and as much padding as before. Without ``shuffle``, integers are drawn from
    the row with replacement. Integers without a batch dimension (an edge list) are the example itself; if there is no
    batch and nothing else varies, slices of the first are drawn with replacement. A recorded program gets its example,
    because it takes nothing else. A batch for which the program does not stand becomes the next one.

    ``sizes`` gives symbols other than the batch another value than in the example; where values are taken from it, some
    are left out or repeated.
    """
    batch = program.facts.nearest_batch(batch)
    generator = torch.Generator().manual_seed(seed)
    leaves, spec = pytree.tree_flatten(program.facts.example)
    sizes = {**program.facts.sizes(batch), **(sizes or {})}
    seeds = torch.randint(2**31, (batch,), generator=generator)
    first = _first_integers(leaves) if program.facts.batch is None else None
    drawn = []
    for node, leaf in zip(program.graph.find_nodes(op="placeholder"), leaves, strict=True):
        if not isinstance(leaf, torch.Tensor):
            drawn.append(leaf)
        elif program.facts.example_only:
            drawn.append(leaf.to(dtype) if dtype is not None and leaf.is_floating_point() else leaf)
        elif leaf is first:
            drawn.append(fitted(_drawn_slices(leaf, generator), evaluate(node.meta[SHAPE], sizes)))
        else:
            rows = seeds if node.meta[SHAPE] and str(node.meta[SHAPE][0]) == program.facts.batch else None
            drawn.append(_draw(leaf, evaluate(node.meta[SHAPE], sizes), generator, dtype, rows, shuffle))
    positional, keywords = pytree.tree_unflatten(drawn, spec)
    return positional, keywords


def _draw(
    example: torch.Tensor,
    shape: tuple[int, ...],
    generator: torch.Generator,
    dtype: torch.dtype | None,
    seeds: torch.Tensor | None,
    shuffle: bool,
) -> torch.Tensor:
    """Return a tensor like the example; ``seeds`` picks a row of the example for each row of the batch."""
    if example.is_complex():
        parts = [_draw(part, shape, generator, dtype, seeds, shuffle) for part in (example.real, example.imag)]
        return torch.complex(*parts)
    dtype = dtype if dtype is not None and example.is_floating_point() else example.dtype
    if example.is_meta:
        return example.new_empty(shape, dtype=dtype)
    values = example.detach().cpu()
    if example.is_floating_point() and not (is_mask(values) and seeds is not None) and bool(values.isfinite().all()):
        values = _uniform(values, shape, generator)
    elif seeds is not None:
        values = values[seeds % len(values)] if is_mask(values) else _rows(values, seeds, shuffle)
    return fitted(values, shape).to(example.device, dtype)


@cpu_by_default()
def fitted(tensor: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Return a tensor of another shape of the same rank: the last indices of a dimension are left out, or repeated."""
    for dim, (before, after) in enumerate(zip(tensor.shape, shape, strict=True)):
        if after != before and before > 0:
            tensor = tensor.index_select(dim, torch.arange(after, device=tensor.device) % before)
    return tensor


def _first_integers(leaves: Sequence[Any]) -> torch.Tensor | None:
    """Return the first tensor if none of them has fractions; ``None`` otherwise."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    varies = any(t.is_floating_point() or t.is_complex() or t.is_meta for t in tensors)
    return None if varies else tensors[0]


def _drawn_slices(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return slices of a tensor, with replacement, along its last dimension of more than one."""
    dim = next((d for d in reversed(range(values.dim())) if values.shape[d] > 1), None)
    if dim is None:
        return values
    size = values.shape[dim]
    return values.index_select(dim, torch.randint(size, (size,), generator=generator).to(values.device))


def is_mask(values: torch.Tensor) -> bool:
    """Whether values are those of a mask: booleans, zeros and ones, or some that are infinite."""
    if values.dtype == torch.bool or not bool(values.isfinite().all()):
        return True
    return values.numel() > 1 and bool(((values == 0) | (values == 1)).all()) and bool((values == 1).any())


def _uniform(values: torch.Tensor, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    low, high = (float(values.min()), float(values.max())) if values.numel() else (0.0, 0.0)
    if low < high:
        return torch.rand(shape, generator=generator, dtype=torch.float64) * (high - low) + low
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _rows(values: torch.Tensor, seeds: torch.Tensor, shuffle: bool) -> torch.Tensor:
    rows = values[seeds % len(values)]
    if rows.dim() < 2:
        return rows
    drawn = []
    for row, seed in zip(rows, seeds, strict=True):
        generator, size = torch.Generator().manual_seed(int(seed)), row.shape[0]
        order = torch.randperm(size, generator=generator)
        drawn.append(row[order if shuffle else torch.randint(size, (size,), generator=generator)])
    return torch.stack(drawn) if drawn else rows
