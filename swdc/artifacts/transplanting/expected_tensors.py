"""The tensors that each call of a module should take and return once the model is slim."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from swdc.artifacts.transplanting.call_hooks import IN, OUT, Calls, Frame, Mismatch, Watch
from swdc.artifacts.transplanting.float64 import wide_program
from swdc.artifacts.transplanting.integers import Keys
from swdc.artifacts.transplanting.tensor_fingerprints import Known, Mark, mark, marks_of
from swdc.artifacts.transplanting.written_integers import WrittenIntegers
from swdc.errors import TransplantError
from swdc.ir.differences import relative_error
from swdc.ir.handed_state import without_state
from swdc.ir.plain_results import plain
from swdc.ir.program import Program
from swdc.rewriting.certificate import TOLERANCE

Names = tuple[str, ...]
OTHER_VALUES = "other values"


@dataclass(frozen=True)
class Side:
    """The inputs or the result of a call: its leaves, each tensor as the nodes that have its value."""

    leaves: tuple[Any, ...]
    spec: pytree.TreeSpec

    def tensors(self) -> list[Names]:
        """Return the names of the nodes for each tensor, in order."""
        return [leaf.names for leaf in self.leaves if isinstance(leaf, Nodes)]

    def tensors_like(self, value: Any) -> list[Names]:
        """Return the same without the tensors that nothing reads, and that are ``None`` in ``value``."""
        leaves = pytree.tree_leaves(value)
        if len(leaves) != len(self.leaves):
            return self.tensors()
        pairs = zip(self.leaves, leaves, strict=True)
        return [one.names for one, got in pairs if isinstance(one, Nodes) and (one.names or got is not None)]


@dataclass(frozen=True)
class Nodes:
    """The nodes of the program that have the value of a tensor."""

    names: Names


@dataclass
class Reference:
    """The calls of the user's modules by path and number, and the marks of the slim program's nodes.

    ``after`` counts the calls of every module up to the end of each call, and ``written`` has the integers of each
    module that the run has overwritten.

    The first ``known`` checks of a run are skipped, because an earlier run has passed them.
    """

    calls: dict[tuple[str, int], dict[str, Side]]
    slim: dict[str, Mark]
    after: Calls = field(default_factory=dict)
    written: dict[str, set[Keys]] = field(default_factory=dict)
    passed: int = 0
    known: int = 0

    def begin(self, known: int = 0) -> None:
        """Count the checks of a run from zero."""
        self.passed, self.known = 0, known

    def check(self, frame: Frame, kind: str, value: Any) -> None:
        """Raise ``Mismatch`` unless the inputs or the result of a call match the slim program."""
        side = self.calls.get((frame.path, frame.number), {}).get(kind) if self.passed >= self.known else None
        if side is not None:
            wanted, got = side.tensors_like(value), _tensors(value)
            if len(wanted) != len(got):
                raise Mismatch(f"{len(got)} tensors as its {kind} instead of {len(wanted)}")
            for names, tensor in zip(wanted, got, strict=True):
                self._compare(names, tensor, kind)
        self.passed += 1

    def _compare(self, names: Names, tensor: torch.Tensor, kind: str) -> None:
        expected = [self.slim[name] for name in names if name in self.slim]
        if not expected:
            return
        given = mark(tensor)
        if not any(one.same(given) for one in expected):
            shapes = {one.shape for one in expected}
            what = OTHER_VALUES if given.shape in shapes else f"{given.shape} instead of {shapes.pop()}"
            raise Mismatch(f"{what} as its {kind}")


def observe(model: nn.Module, dense: Program, slim: Program, inputs: Any) -> Reference:
    """Run the user's model, its program and the slim one in float64, and return the nodes that its calls see.

    Raises ``TransplantError`` if the model does not compute what its program computes.
    """
    marks, outputs = marks_of(wide_program(dense).eval(), inputs)
    known = Known(marks)
    calls: dict[tuple[str, int], dict[str, Side]] = {}
    results: list[Any] = []

    def report(frame: Frame, kind: str, value: Any) -> None:
        calls.setdefault((frame.path, frame.number), {})[kind] = _side(value, known)
        if kind == OUT and not frame.path:
            results.append(plain(without_state(model, inputs[0], inputs[1], value)[0]))

    after: Calls = {}
    written = WrittenIntegers(model)
    failure = Watch(model, report, after, lambda: written.look(model)).run(model, *inputs)
    if failure is not None or (outputs is not None and relative_error(outputs, results[-1]) > TOLERANCE):
        why = str(failure.error).splitlines()[0] if failure is not None and str(failure.error) else "its output differs"
        raise TransplantError(
            f"expected {type(model).__name__} to compute in float64 what its program computes, but it does not: {why}; "
            f"use the slim program itself"
        )
    return Reference(calls, marks_of(wide_program(slim).eval(), inputs)[0], after, written.keys)


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _side(value: Any, known: Known) -> Side:
    leaves, spec = pytree.tree_flatten(value)
    named = (Nodes(known.names(leaf)) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves)
    return Side(tuple(named), spec)


__all__ = ["IN", "OTHER_VALUES", "OUT", "Nodes", "Reference", "Side", "observe"]
