"""Counting multiply-adds in an ONNX file, and comparing them with ``swdc.count`` of the exported program."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from swdc.artifacts.onnx.node_macs import NodeCount, count_nodes
from swdc.costs.count import count
from swdc.costs.counted_sizes import sizes_at
from swdc.ir.graph import SHAPE
from swdc.ir.program import Program
from swdc.ir.sizes import evaluate
from swdc.ops.base import family_of


@dataclass(frozen=True)
class Difference:
    """Multiply-adds of an operator in the file, minus those that ``swdc.count`` gives it."""

    operator: str
    macs: int
    reason: str

    def __str__(self) -> str:
        return f"{self.macs:+,} of {self.operator}: {self.reason}"


@dataclass(frozen=True)
class MacsCheck:
    """Multiply-adds of a file for one sample, their excess over ``swdc.count(program).macs``, and the reasons.

    The entries of ``explanation`` sum up to ``difference``; it is empty if every operator agrees.
    """

    macs: int
    difference: int
    explanation: tuple[Difference, ...]


def check_macs(program: Program, path: str | os.PathLike[str]) -> MacsCheck:
    """Count the multiply-adds of a program's ONNX file for one sample, and compare them with ``swdc.count``."""
    placeholders = program.graph.find_nodes(op="placeholder")
    sizes = sizes_at(program)
    inputs = {node.name: evaluate(node.meta[SHAPE], sizes) for node in placeholders if node.meta.get(SHAPE) is not None}
    nodes = count_nodes(path, inputs)
    counted = count(program, "macs")
    ours: dict[str, int] = {}
    for layer in counted.layers:
        name = family_of(layer.operator)
        ours[name] = ours.get(name, 0) + layer.operations
    total = sum(node.macs or 0 for node in nodes)
    return MacsCheck(total, total - counted.macs, tuple(_explain(nodes, ours)))


def _explain(nodes: list[NodeCount], ours: Mapping[str, int]) -> Iterable[Difference]:
    for operator in dict.fromkeys([*(node.origin for node in nodes), *ours]):
        found = [node for node in nodes if node.origin == operator]
        excess = sum(node.macs or 0 for node in found) - ours.get(operator, 0)
        if excess:
            yield Difference(operator, excess, _reason(found, ours.get(operator, 0)))
    unknown = [node for node in nodes if node.macs is None]
    if unknown:
        yield Difference("nodes of unknown shape", 0, f"shape inference leaves open what {_nodes(unknown)} reads")


def _reason(found: list[NodeCount], ours: int) -> str:
    if not found:
        return "swdc.count has it, but the file computes it by other operators or holds its result as constant"
    if not ours:
        return f"{_nodes(found)} multiplies, where swdc.count gives this operator no multiply-adds"
    return f"{_nodes(found)} does not have the {ours:,} multiply-adds that swdc.count gives this operator"


def _nodes(nodes: list[NodeCount]) -> str:
    names = ", ".join(f"{node.operator} {node.name}" for node in nodes[:3])
    return names + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
