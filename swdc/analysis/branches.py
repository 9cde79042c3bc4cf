"""Residual branches: what a sum adds to a stream that the branch itself has read. A removed one adds zeros.

In ``y = x + f(x)`` the layer that writes ``f(x)`` is the producer of the branch. If its weight and its bias are zero,
so is what it returns, and so is what the calls between it and the sum make of that, if each reads nothing else and
maps zeros to zeros. Then ``y`` is ``x``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx
from torch.utils import _pytree as pytree

from swdc.analysis.residual import sums
from swdc.ir.call import Ref
from swdc.ir.graph import DTYPE, SHAPE
from swdc.ir.module_tensors import is_meta, modes_kept
from swdc.ir.program import Program
from swdc.ops.base import OPERATORS, calls
from swdc.ops.creation import computes_sizes


@dataclass(frozen=True)
class Branch:
    """A branch of a residual sum. Nodes are given by name.

    ``total`` is the sum, ``stream`` what remains of it without the branch, ``producer`` the layer that writes the
    branch, and ``tensors`` are the parameters with which it writes zeros when they are zero.
    """

    name: str
    total: str
    stream: str
    producer: str
    tensors: tuple[str, ...]


def branches_of(program: Program) -> dict[str, Branch]:
    """Return the branches that can be removed, by the name of the layer that writes each, in the order of the graph.

    A program on the meta device has none, because calls cannot be tried on zeros there.
    """
    return program.derived("branches", lambda: _branches(program), OPERATORS.version)


def _branches(program: Program) -> dict[str, Branch]:
    if is_meta(program):
        return {}
    before: dict[fx.Node, set[fx.Node]] = {}
    for node in program.graph.nodes:
        before[node] = set().union(*({n, *before[n]} for n in node.all_input_nodes))
    producers = _Producers(program)
    found: list[tuple[fx.Node, fx.Node, fx.Node]] = []
    for total in sums(program):
        _, call = calls(program)[total]
        one, other = call["self"], call["other"]
        alike = all(isinstance(v, fx.Node) and v.meta.get(SHAPE) == call.shape for v in (one, other))
        if not alike or call.arguments.get("alpha", 1) != 1 or one is other:
            continue
        for stream, added in ((one, other), (other, one)):
            producer = producers.of(added)
            if producer is not None and stream in before[producer] and stream.meta.get(DTYPE) == total.meta.get(DTYPE):
                producers.zeros[producer] = added
                found.append((total, stream, producer))
    silent = producers.silent() if found else set()
    branches = [_branch(producers, *each) for each in found if each[2] in silent]
    return {branch.name: branch for branch in branches}


def _branch(producers: _Producers, total: fx.Node, stream: fx.Node, producer: fx.Node) -> Branch:
    tensors = producers.tensors(producer)
    return Branch(tensors[0].removesuffix(".weight"), total.name, stream.name, producer.name, tensors)


class _Producers:
    """The layers that write branches, and a run in which they return zeros."""

    def __init__(self, program: Program) -> None:
        self._program, self._own = program, program.tensors
        self.zeros: dict[fx.Node, fx.Node] = {}
        """Each producer with the value that a sum adds."""
        self._times: dict[int, int] = {}
        for _, call in calls(program).values():
            for one in {id(self._own[value]) for value in call.tensors() if isinstance(value, Ref)}:
                self._times[one] = self._times.get(one, 0) + 1

    def of(self, value: fx.Node) -> fx.Node | None:
        """Return the layer before a value, with nothing but calls of one input between; ``None`` if there is none."""
        while len(value.users) == 1 and value.op in ("call_module", "call_function"):
            tensors = self.tensors(value)
            if tensors and all(self._times[id(self._own[name])] == 1 for name in tensors):
                return value
            inputs = [node for node in value.all_input_nodes if node.op != "get_attr" and not computes_sizes(node)]
            if len(inputs) != 1:
                return None
            (value,) = inputs
        return None

    def tensors(self, node: fx.Node) -> tuple[str, ...]:
        """Return the weight and bias of a layer or norm, which returns zeros when both are zero; empty for others."""
        operator, call = calls(self._program)[node]
        weight, bias = call.arguments.get("weight"), call.arguments.get("bias")
        rows = operator.affine_rows(call)
        if rows is not None:
            weight, bias = rows.weight, rows.bias
        if rows is None and not getattr(operator, "writes_channels", False):
            return ()
        if not isinstance(weight, Ref) or not (bias is None or isinstance(bias, Ref)):
            return ()
        return tuple(str(name) for name in (weight, bias) if name is not None)

    def silent(self) -> set[fx.Node]:
        """Return the producers whose zeros arrive as zeros at their sums, in a run on the example inputs."""
        program = self._program
        buffers = [(buffer, buffer.detach().clone()) for buffer in program.buffers()]
        run = _Zeroed(program, self.zeros)
        try:
            with torch.no_grad(), modes_kept(program), torch.random.fork_rng(devices=[]):
                program.eval()
                run.run(*pytree.tree_leaves(program.facts.example), enable_io_processing=False)
        except (RuntimeError, ValueError, IndexError):  # the example is on another device, or zeros find nothing
            return set()
        finally:
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
        return run.silent


class _Zeroed(fx.Interpreter):
    """Lets layers return zeros, and notes which of the values that sums add are zero."""

    def __init__(self, program: Program, zeros: dict[fx.Node, fx.Node]) -> None:
        super().__init__(program.held, graph=program.graph)
        self._zeros = zeros
        self._added = {added: producer for producer, added in zeros.items()}
        self.silent: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> object:
        """Return the result of a node."""
        result = super().run_node(n)
        if n in self._zeros:
            result = torch.zeros_like(result)
        if n in self._added and isinstance(result, torch.Tensor) and not bool(result.any()):
            self.silent.add(self._added[n])
        return result
