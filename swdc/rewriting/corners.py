"""Inputs at the corners of what a program takes: zeros of both signs, ones, tiny and huge numbers, closed masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.ir.graph import SHAPE
from swdc.ir.program import Program
from swdc.ir.random_inputs import is_mask, sample_inputs

Corner = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Changes a random input (one sample of it); the second tensor is the whole example."""

_TINY, _HUGE = 2.0**-24, 2.0**16


def _signed_zeros(x: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    zeros = torch.zeros_like(x)
    zeros.view(-1)[1::2] = -0.0
    return zeros


def _huge(x: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    return x.mul(min(_HUGE, torch.finfo(x.dtype).max ** 0.5))


def _at(place: float, value: float) -> Corner:
    """Put a value at one element; ``place`` says where, from 0 for the first element to 1 for the last."""

    def change(x: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
        changed = x.clone()
        changed.view(-1)[int(place * (x.numel() - 1))] = value
        return changed

    return change


def _none(x: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    """Return the mask that lets nothing through: False, zero, or minus infinity."""
    if bool(example.isfinite().all()):
        return torch.zeros_like(x)
    return (torch.zeros_like(x) + example.min()).to(x)


def _all(x: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    return (torch.zeros_like(x) + example.max()).to(x)


def _any(x: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    low, high = int(example.min()), int(example.max())
    generator = torch.Generator().manual_seed(0)
    return torch.randint(low, high + 1, x.shape, generator=generator).to(x)


NUMBERS: Mapping[str, Corner] = {
    "zeros of both signs": _signed_zeros,
    "a zero": _at(0, 0.0),
    "ones": lambda x, _: torch.ones_like(x),
    "tiny numbers": lambda x, _: x * _TINY,
    "huge numbers": _huge,
}
MASKS: Mapping[str, Corner] = {"a mask that lets nothing through": _none, "a mask that lets all through": _all}
INTEGERS: Mapping[str, Corner] = {
    "the smallest index": lambda x, example: torch.full_like(x, int(example.min())),
    "the largest index": lambda x, example: torch.full_like(x, int(example.max())),
    "indices of the whole range": _any,
}
NAN: Mapping[str, Corner] = {
    f"NaN in the {name} element": _at(place, float("nan"))
    for name, place in (("first", 0), ("middle", 0.5), ("last", 1))
}


def corners(
    program: Program,
    seed: int,
    finite: bool = True,
    together: bool = True,
    sizes: Mapping[str, int] | None = None,
) -> list[tuple[tuple[str, ...], Any]]:
    """Return inputs at the corners, each with the names of its corners, in the types of the example.

    If the program has a batch, all corners stand ``together`` in one batch, a sample each. A corner is left out if no
    input is of its kind. Without ``finite``, one element of each input of numbers is NaN. ``sizes`` are those of inputs
    that differ from the example's. A program that stands for its example only has no other inputs.
    """
    if program.facts.example_only or not program.graph.find_nodes(op="placeholder"):
        return []
    kinds = (NUMBERS, MASKS, INTEGERS) if finite else (NAN, {}, {})
    found = [(name, number, corner) for number, kind in enumerate(kinds) for name, corner in kind.items()]
    present = _kinds(program)
    wanted = [(name, number, corner) for name, number, corner in found if number in present]
    if not wanted:
        return []
    if together and program.facts.batch is not None:
        return [(tuple(name for name, *_ in wanted), _inputs(program, seed, [w[1:] for w in wanted], sizes))]
    return [((name,), _inputs(program, seed, [(number, corner)], sizes)) for name, number, corner in wanted]


def _kinds(program: Program) -> set[int]:
    return {_kind(leaf) for leaf in _example(program) if _varies(program, leaf)}


def _example(program: Program) -> list[Any]:
    return pytree.tree_leaves(program.facts.example)


def _varies(program: Program, leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.numel() > 0 and not leaf.is_complex() and not leaf.is_meta


def _kind(example: torch.Tensor) -> int:
    """Return 0 for numbers, 1 for a mask, 2 for integers."""
    if is_mask(example):
        return 1
    return 0 if example.is_floating_point() else 2


def _inputs(program: Program, seed: int, wanted: Sequence[tuple[int, Corner]], sizes: Mapping[str, int] | None) -> Any:
    """Return inputs with one sample for each corner; in each, the inputs of that corner's kind are changed."""
    leaves, spec = pytree.tree_flatten(sample_inputs(program, len(wanted), seed, None, sizes=sizes))
    nodes = program.graph.find_nodes(op="placeholder")
    changed = []
    for node, example, leaf in zip(nodes, _example(program), leaves, strict=True):
        if not _varies(program, example):
            changed.append(leaf)
            continue
        batched = program.facts.batch is not None
        with_batch = bool(node.meta[SHAPE]) and str(node.meta[SHAPE][0]) == program.facts.batch
        if batched and not with_batch:
            changed.append(leaf)
            continue
        rows = leaf.clone() if batched else leaf.clone().unsqueeze(0)
        for row, (number, corner) in enumerate(wanted):
            if number == _kind(example) and (number < 2 or batched):
                rows[row] = corner(rows[row], example)
        changed.append(rows if batched else rows[0])
    return pytree.tree_unflatten(changed, spec)
