"""Whether a transplanted model computes what the masked model computes at sizes other than the example's."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from swdc.artifacts.transplanting.call_hooks import copied
from swdc.artifacts.transplanting.float64 import in_float64
from swdc.capture.restore import buffers_kept
from swdc.ir.differences import relative_error
from swdc.ir.handed_state import results_of
from swdc.ir.program import Program
from swdc.rewriting.certificate import TOLERANCE

FAILS = "fails"
_MOST_SIZES = 3
_FARTHEST = 16
"""How many times the example's size a bound may be for code to be tried beyond it."""
_SECONDS = 1.0
"""The longest run of a model after which it also runs at twice the size."""


def differs_at_other_sizes(masked: nn.Module, mine: nn.Module, inputs: Any, more: Iterable[Any] = ()) -> str:
    """Return at which shapes of inputs a transplanted model fails or differs, empty if at none that are tried.

    Each size in the inputs is halved and doubled, wherever it occurs; ``more`` are tried first. Sizes that the masked
    model does not take are left out. Both models are in float64.
    """
    for changed in chain(more, resized(inputs)):
        began = time.perf_counter()
        expected = _result(masked, changed)
        if expected is None:
            continue
        result = _result(mine, changed)
        shapes = ", ".join(str(tuple(t.shape)) for t in _tensors(changed))
        if result is None:
            return f"{FAILS} at {shapes}"
        if not relative_error(expected, result) <= TOLERANCE:
            return f"computes something else at {shapes}"
        if time.perf_counter() - began > _SECONDS:
            return ""
    return ""


def sizes_beyond(program: Program) -> Iterator[dict[str, int]]:
    """Yield sizes at which code goes another way than the program: just beyond each bound that is not far."""
    facts = program.facts
    for condition in facts.conditions:
        name, step = str(condition.size), {"<=": 1, ">=": -1}.get(condition.relation, 0)
        size, known = condition.number + step, facts.symbols.get(name, 0)
        if step and name != facts.batch and 1 <= size <= _FARTHEST * known:
            yield {**facts.symbols, name: size}


def _result(model: nn.Module, inputs: Any) -> Any:
    args, kwargs = copied(inputs)
    try:
        with in_float64(), buffers_kept(model):
            return results_of(model, args, kwargs)
    except Exception:  # whatever the user's code raises on sizes that it does not take
        return None


def _tensors(inputs: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor)]


def resized(inputs: Any) -> Iterator[Any]:
    """Yield nested inputs in which one size is halved or doubled, the largest sizes first.

    It is changed wherever it occurs. If tensors have it more than once (square images), it is then changed in their
    last dimensions of that size alone, so that height and width are told apart.
    """
    sizes = sorted({size for tensor in _tensors(inputs) for size in tensor.shape if size > 1}, reverse=True)
    for size in sizes[:_MOST_SIZES]:
        for new in (size // 2, 2 * size):
            yield pytree.tree_map_only(torch.Tensor, partial(_with_size, size=size, new=new), inputs)
        if any(list(tensor.shape).count(size) > 1 for tensor in _tensors(inputs)):
            yield pytree.tree_map_only(torch.Tensor, partial(_with_size, size=size, new=size // 2, last=True), inputs)


def _with_size(tensor: torch.Tensor, size: int, new: int, last: bool = False) -> torch.Tensor:
    """Return a tensor whose dimensions of one size have another: its first part, or all of it twice."""
    dims = [dim for dim in range(tensor.dim()) if tensor.shape[dim] == size]
    for dim in dims[-1:] if last else dims:
        tensor = tensor.narrow(dim, 0, new) if new < size else torch.cat([tensor, tensor], dim)
    return tensor
