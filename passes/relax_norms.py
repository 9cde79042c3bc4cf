"""Go back to torch's norms and statistics over the channels that are left: faster, but another function."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from swdc.errors import PassError
from swdc.ir.call import Call
from swdc.ir.differences import relative_error
from swdc.ir.graph import SHAPE
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from swdc.ops import Leaf, Operator, calls
from swdc.rewriting.pass_base import Pass, PassResult
from swdc.rewriting.rebuild import rebuild


@dataclass(frozen=True)
class RelaxNorms(Pass):
    """Ignore the removed channels: every statistic divides by the number of channels that are left.

    With 32 of 64 channels left::

        x -> swdc.layer_norm(normalized_shape=[64]) -> swdc.mean(dim=[1], widths=[None, 64])
        x -> LayerNorm(32) -> mean(dim=[1])

    The function changes, so this pass is never a part of slimming, and the result has no plan to be certified against.
    The change, relative to the output, is measured in evaluation on ``batch`` random samples, and noted in
    ``program.facts.notes``.
    """

    batch: int = 4
    seed: int = 0

    def apply(self, program: Program) -> PassResult:
        """Return a program that shares no tensor with the given one, or that one if it has nothing to relax."""
        relaxed = [node.name for node in program.graph.nodes if _relaxation(program, node)]
        if not relaxed:
            return PassResult(program, modified=False)

        def change(call: Call, operator: Operator) -> Mapping[str, Any]:
            return operator.relax(call) if isinstance(operator, Leaf) else {}

        own = program.clone()
        result = rebuild(own, own.tensors, change, lambda node: node.meta.get(SHAPE, ()))
        note = f"{len(relaxed)} norms and statistics were relaxed, {self._effect(program, result)}"
        return PassResult(result.with_facts(notes=(*result.facts.notes, note)), modified=True)

    def ensures(self, program: Program) -> None:
        """Check that no statistic over removed channels is left."""
        left = [node.name for node in program.graph.nodes if _relaxation(program, node)]
        if left:
            raise PassError(f"expected statistics over the channels that are left only, got others at {left}")

    def _effect(self, before: Program, after: Program) -> str:
        """Return by how much the output changes."""
        tensors = [t for t in before.tensors.values() if t.is_floating_point()]
        if any(t.is_meta for t in tensors):
            return "which changes the function; by how much is not known on the meta device"
        dtype = tensors[0].dtype if tensors else torch.float32
        args, kwargs = sample_inputs(before, self.batch, self.seed, dtype)
        with torch.no_grad():
            outputs = [program.clone().eval()(*args, **kwargs) for program in (before, after)]
        return f"which changes the output by {relative_error(*outputs):.2e}, relative to its largest magnitude"


def _relaxation(program: Program, node: Any) -> Mapping[str, Any]:
    operator, call = calls(program).get(node, (None, None))
    return operator.relax(call) if isinstance(operator, Leaf) and call is not None else {}
