"""Finds calls that return their input unchanged, and tells whether the result is a copy or shares its memory."""

from __future__ import annotations

from collections.abc import Mapping

from torch import fx

from swdc.ir.graph import DTYPE, SHAPE
from swdc.ir.program import Program
from swdc.ops import calls
from swdc.ops.identity import Evaluation, Identity


class Identities:
    """Finds the identities of a program, in evaluation."""

    def __init__(self, program: Program, instead: Mapping[fx.Node, fx.Node]) -> None:
        """``instead`` maps identities already found to the nodes that replace them; it may grow."""
        self._calls, tensors = calls(program), program.tensors
        read = [tensors[name] for name in program.read_tensors()]
        traced = {node.meta.get(DTYPE) for node in program.graph.nodes}
        self._evaluation = Evaluation(
            self._calls,
            tensors,
            devices=frozenset(tensor.device for tensor in read),
            has_traced_types={tensor.dtype for tensor in read if tensor.is_floating_point()} <= traced,
            instead=instead,
        )

    def of(self, node: fx.Node) -> Identity | None:
        """Return the identity that a node is; ``None`` if the node computes something."""
        if node not in self._calls or node.meta.get(DTYPE) is None:
            return None
        operator, call = self._calls[node]
        found = operator.identity(call, self._evaluation)
        same = found is not None and all(found.source.meta.get(key) == node.meta.get(key) for key in (SHAPE, DTYPE))
        return found if same else None
