"""Eliminate nodes, modules, parameters and buffers that no output needs, and outputs that nobody asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from torch import fx
from torch.fx.graph import _PyTreeCodeGen

from swdc.errors import PassError
from swdc.ir.plain_results import is_tensor, narrowed, output_names
from swdc.ir.program import Program
from swdc.ops.in_place import acts
from swdc.rewriting.pass_base import Pass, PassResult
from swdc.rewriting.rebuild import revise, still_standing


@dataclass(frozen=True)
class EliminateUnused(Pass):
    """Keep only the parts of a program that its outputs need.

    With ``outputs=("logits",)``::

        x -> body -> head -> {"logits": head, "aux": aux}        x -> body -> head -> {"logits": head}
               `---> aux                                         (aux is gone, and its tensors)

    ``outputs`` are the tensors to keep among those that the program returns: by the names that they have in its ONNX
    file (``logits``, ``output_0``), or by their positions. With ``None`` all stay; otherwise all other outputs are
    removed, including those that are not tensors.

    The result keeps its form with fewer items, so that ``result["logits"]`` stays valid: a dict or a tuple with one
    item left is still a dict or a tuple, not a bare tensor. The later items of a tuple move up. A named tuple or an
    object that loses a part becomes a dict of the parts that are left.

    Inputs stay even if nothing reads them, and so do operators that overwrite something or check values. The result
    holds the given program's own tensors.
    """

    outputs: tuple[int | str, ...] | None = None

    def requires(self, program: Program) -> None:
        """Check that the wanted outputs exist."""
        self.kept(program)

    def apply(self, program: Program) -> PassResult:
        """Return the program without unused parts, or the given one if all is used."""
        copy = revise(program)
        modified = _return_only(copy.graph, self._wanted(program))
        for node in reversed(list(copy.graph.nodes)):
            if not node.users and node.op not in ("placeholder", "output") and not acts(node):
                copy.graph.erase_node(node)
        own = program.tensors
        read = {id(own[name]) for name in copy.read_tensors()}  # a tied tensor keeps all its names
        tensors = {name: tensor for name, tensor in own.items() if id(tensor) in read}
        if not modified and len(copy.graph.nodes) == len(program.graph.nodes) and len(tensors) == len(own):
            return PassResult(program, modified=False)
        leaves = copy.leaves
        for module in leaves.values():
            module._modules.clear()  # modules below a leaf in the tree of names are attached anew
        facts = replace(program.facts, origin=still_standing(program, tensors))
        return PassResult(program.rebuilt(graph=copy.graph, tensors=tensors, leaves=leaves, facts=facts), modified=True)

    def kept(self, program: Program) -> list[int]:
        """Return which of the tensors that a program returns are kept, by position, in their order.

        Raises ``PassError`` for an output that does not exist, and if none is asked for.
        """
        number = sum(map(is_tensor, _returned(program.graph)))
        if self.outputs is None:
            return list(range(number))
        names = output_names(program)
        unknown = [one for one in self.outputs if one not in names and one not in range(number)]
        if unknown or not self.outputs:
            raise PassError(
                f"expected outputs to keep of {names}, or positions below {number}, got {list(self.outputs)}; "
                f"name at least one of them"
            )
        return sorted({one if isinstance(one, int) else names.index(one) for one in self.outputs})

    def _wanted(self, program: Program) -> list[bool]:
        """Return for each value that the program returns whether it stays."""
        values = _returned(program.graph)
        if self.outputs is None:
            return [True] * len(values)
        places = [place for place, value in enumerate(values) if is_tensor(value)]
        wanted = {places[position] for position in self.kept(program)}
        return [place in wanted for place in range(len(values))]


def _returned(graph: fx.Graph) -> tuple[Any, ...]:
    """Return the values that a program returns, flat."""
    (output,) = graph.find_nodes(op="output")
    return tuple(output.args[0])


def _return_only(graph: fx.Graph, wanted: list[bool]) -> bool:
    """Let a graph return only the wanted values, in a structure that fits; return whether any are dropped."""
    if all(wanted):
        return False
    (output,) = graph.find_nodes(op="output")
    output.args = (tuple(value for value, stays in zip(_returned(graph), wanted, strict=True) if stays),)
    codegen = graph._codegen
    assert isinstance(codegen, _PyTreeCodeGen)
    structure = codegen.pytree_info
    assert structure.out_spec is not None
    graph.set_codegen(_PyTreeCodeGen(structure._replace(out_spec=narrowed(structure.out_spec, wanted))))
    return True
