"""Residual branches: what a sum adds to a stream that the branch itself has read. A removed one adds zeros.

In ``y = x + f(x)`` the layer that writes ``f(x)`` is the producer of the branch. If its weight and its bias are zero,
so is what it returns, and so is what the calls between it and the sum make of that, if they read nothing else and
map zeros to zeros (norms that are written out do). Then ``y`` is ``x``. In ``y = x + (f(x) + g(x))`` the branch has two
producers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from swdc.analysis.residual import sums
from swdc.analysis.zeros import zeros_after
from swdc.ir.call import Ref
from swdc.ir.graph import DTYPE, SHAPE
from swdc.ir.module_tensors import is_meta, modes_kept
from swdc.ir.program import Program
from swdc.ops.base import OPERATORS, calls
from swdc.ops.creation import computes_sizes


@dataclass(frozen=True)
class Branch:
    """A branch of a residual sum. Nodes are given by name.

    ``total`` is the sum, ``stream`` what remains of it without the branch, and ``tensors`` are the parameters of its
    producers, which write zeros when these are zero.
    """

    name: str
    total: str
    stream: str
    tensors: tuple[str, ...]


def branches_of(program: Program) -> dict[str, Branch]:
    """Return the branches that can be removed, by the name of the layer that writes each, in the order of the graph."""
    return program.derived("branches", lambda: _branches(program), OPERATORS.version)


def _branches(program: Program) -> dict[str, Branch]:
    bits = {node: 1 << number for number, node in enumerate(program.graph.nodes)}
    before: dict[fx.Node, int] = {}
    for node in program.graph.nodes:
        before[node] = 0
        for source in node.all_input_nodes:
            before[node] |= bits[source] | before[source]
    producers = _Producers(program)
    found: list[tuple[fx.Node, fx.Node, fx.Node]] = []
    made: dict[fx.Node, tuple[fx.Node, ...]] = {}
    for total in sums(program):
        _, call = calls(program)[total]
        one, other = call["self"], call["other"]
        alike = all(isinstance(v, fx.Node) and v.meta.get(SHAPE) == call.shape for v in (one, other))
        if not alike or call.arguments.get("alpha", 1) != 1 or one is other:
            continue
        for stream, added in ((one, other), (other, one)):
            writers = producers.of(added)
            read = all(bits[stream] & before[writer] for writer in writers)
            if writers and read and stream.meta.get(DTYPE) == total.meta.get(DTYPE):
                made[added] = writers
                found.append((total, stream, added))
    silent = producers.silent(made) if found else set()
    branches = []
    for total, stream, added in found:
        if added in silent:
            tensors = tuple(name for writer in made[added] for name in producers.written_by(writer))
            branches.append(Branch(tensors[0].removesuffix(".weight"), total.name, stream.name, tensors))
    return {branch.name: branch for branch in branches}


class _Producers:
    """The layers that write branches, and a run in which they return zeros."""

    def __init__(self, program: Program) -> None:
        self._program, self._own = program, program.tensors
        self._sums = set(sums(program))
        self._carrying: set[fx.Node] = set()
        """The nodes that carry something of the inputs, which is no size."""
        for node in program.graph.nodes:
            if node.op == "placeholder" or (
                self._carrying.intersection(node.all_input_nodes) and not computes_sizes(node)
            ):
                self._carrying.add(node)
        self._times: dict[int, int] = {}
        for _, call in calls(program).values():
            for one in {id(self._own[value]) for value in call.tensors() if isinstance(value, Ref)}:
                self._times[one] = self._times.get(one, 0) + 1

    def of(self, value: fx.Node) -> tuple[fx.Node, ...]:
        """Return the calls that write a value; whether it is zero when they return zeros remains to be tried.

        It is the layer through which all goes that the value carries. If there is none, it is a call that reads a
        parameter (those of experts), or what writes the sides of a call, all of them if it is a sum.
        """
        one = self._one(value)
        if one is not None:
            return (one,)
        if value.op != "call_function" or len(value.users) != 1:
            return ()
        if self._reads_own(value):
            return (value,)
        sides = [self.of(side) for side in value.all_input_nodes if side in self._carrying]
        if value in self._sums and not all(sides):
            return ()
        return tuple(dict.fromkeys(writer for side in sides for writer in side))

    def _one(self, value: fx.Node) -> fx.Node | None:
        """Return the last layer through which all goes that a value carries, and that only this value reads."""
        passed: set[fx.Node] = set()
        waiting = {value}
        while waiting:
            node = max(waiting)
            waiting.remove(node)
            readers = {user for user in node.users if not computes_sizes(user)}
            if len(readers) != 1 if node is value else not readers <= passed:
                return None
            if not waiting and self._is_own(node):
                return node
            if node.op not in ("call_module", "call_function"):
                return None
            passed.add(node)
            waiting |= self._carrying.intersection(node.all_input_nodes)
        return None

    def _reads_own(self, node: fx.Node) -> bool:
        """Whether a call reads parameters that no other call reads, none of them as a layer does."""
        names = self._parameters(node)
        return bool(names) and all(self._times[id(self._own[name])] == 1 for name in names)

    def _parameters(self, node: fx.Node) -> tuple[str, ...]:
        call = calls(self._program).get(node)
        found = () if call is None else tuple(str(value) for value in call[1].tensors() if isinstance(value, Ref))
        return tuple(name for name in found if isinstance(self._own[name], nn.Parameter))

    def _is_own(self, node: fx.Node) -> bool:
        """Whether a node is a layer of which no other call reads the tensors."""
        tensors = self.tensors(node)
        return bool(tensors) and all(self._times[id(self._own[name])] == 1 for name in tensors)

    def written_by(self, writer: fx.Node) -> tuple[str, ...]:
        """Return the parameters with which a writer returns zeros when they are zero."""
        return self.tensors(writer) or self._parameters(writer)

    def tensors(self, node: fx.Node) -> tuple[str, ...]:
        """Return the weight and bias of a layer or norm, which returns zeros when both are zero; empty for others."""
        if node not in calls(self._program):
            return ()
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

    def silent(self, made: Mapping[fx.Node, Sequence[fx.Node]]) -> set[fx.Node]:
        """Return the values that are zero if their producers return zeros, in a run on the example inputs.

        Without values of weights, only what reads these zeros is run.
        """
        program = self._program
        if is_meta(program):
            return made.keys() & zeros_after(program, {writer for writers in made.values() for writer in writers})
        buffers = [(buffer, buffer.detach().clone()) for buffer in program.buffers()]
        run = _Zeroed(program, made)
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

    def __init__(self, program: Program, made: Mapping[fx.Node, Sequence[fx.Node]]) -> None:
        super().__init__(program.held, graph=program.graph)
        self._made = made
        self._zeros = {writer for writers in made.values() for writer in writers}
        self.silent: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> object:
        """Return the result of a node."""
        result = super().run_node(n)
        if n in self._zeros:
            result = torch.zeros_like(result)
        if n in self._made and isinstance(result, torch.Tensor) and not bool(result.any()):
            self.silent.add(n)
        return result
