"""Fingerprints (marks) of tensors: a few numbers that identify a tensor by its values, wherever they appear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from swdc.artifacts.transplanting.float64 import in_float64
from swdc.ir.differences import flat_outputs
from swdc.ir.program import Program
from swdc.rewriting.certificate import TOLERANCE

_LARGEST = 1e6
_weights_kept = [torch.empty(0, dtype=torch.float64)]


@dataclass(frozen=True)
class Mark:
    """The shape of a tensor, its norm, and its product with a fixed vector."""

    shape: tuple[int, ...]
    norm: float
    product: float

    def same(self, other: Mark) -> bool:
        """Whether two tensors hold the same values, up to rounding."""
        allowed = TOLERANCE * self.norm
        return (
            self.shape == other.shape
            and abs(self.norm - other.norm) <= allowed
            and abs(self.product - other.product) <= allowed
        )


def mark(tensor: torch.Tensor) -> Mark:
    """Return the mark of a tensor of any type."""
    values = tensor.detach()
    values = (torch.view_as_real(values.resolve_conj()) if values.is_complex() else values).double().reshape(-1)
    norm = float(values.norm())
    if not norm < _LARGEST:
        values = values.nan_to_num(_LARGEST / 3, _LARGEST, -_LARGEST).clamp(-_LARGEST, _LARGEST)
        norm = float(values.norm())
    return Mark(tuple(tensor.shape), norm, float(values @ _weights(values.numel()).to(values.device)))


def _weights(length: int) -> torch.Tensor:
    """Return the start of the fixed vector of the marks, which is cached because its sines are slow to compute."""
    if _weights_kept[0].numel() < length:
        _weights_kept[0] = torch.arange(length, dtype=torch.float64).mul_(1.618).sin_()
    return _weights_kept[0][:length]


class _Marking(fx.Interpreter):
    def __init__(self, program: Program) -> None:
        super().__init__(program.held, graph=program.graph)
        self.marks: dict[str, Mark] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.marks[n.name] = mark(value)
        return value


def marks_of(program: Program, inputs: Any) -> tuple[dict[str, Mark], list[torch.Tensor] | None]:
    """Run a program in float64, and return the mark of each node that has a tensor, and the output tensors.

    A recorded program stands for certain values. If other values stop it, the marks end there, and the output tensors
    are ``None``.
    """
    marking = _Marking(program)
    try:
        with in_float64():
            result = marking.run(*pytree.tree_leaves(inputs), enable_io_processing=False)
    except (RuntimeError, IndexError, ValueError, AssertionError):  # of operators, and of checks that were recorded
        if not program.facts.example_only:
            raise
        return marking.marks, None
    return marking.marks, flat_outputs(result)


class Known:
    """Finds the names of the nodes whose value a tensor may be."""

    def __init__(self, marks: dict[str, Mark]) -> None:
        self._by_shape: dict[tuple[int, ...], list[tuple[str, Mark]]] = {}
        for name, one in marks.items():
            self._by_shape.setdefault(one.shape, []).append((name, one))

    def names(self, tensor: torch.Tensor) -> tuple[str, ...]:
        """Return the names of all nodes whose value equals a tensor, in order."""
        wanted = mark(tensor)
        return tuple(name for name, one in self._by_shape.get(wanted.shape, ()) if one.same(wanted))
