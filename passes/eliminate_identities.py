"""Eliminate calls that change nothing in evaluation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from swdc.analysis.identities import Identities
from swdc.ir.program import Program
from swdc.ops.in_place import depends_on_memory, is_view
from swdc.rewriting.pass_base import Pass, PassResult
from swdc.rewriting.rebuild import revise


@dataclass(frozen=True)
class EliminateIdentities(Pass):
    """Let the readers of an identity read its input instead.

    ::

        x -> dropout -> view[N, 8] -> relu -> relu -> add(0) -> fc         x: (N, 8)
        x -> relu -> fc

    The following are identities if shape and type stay the same: dropout; batch norms of scale 1 and shift 0;
    reshapes, expansions, permutations, slices, splits and concatenations that keep every element in place; casts,
    copies and ``contiguous``; adding or subtracting 0, multiplying or dividing by 1, whether a number or a tensor of
    the program; padding by nothing; pools over one element; a function applied once more (``relu``, ``clamp``, ...).

    Copies stay if memory matters: in programs that overwrite something, or with operators that depend on the memory
    layout of a value or are not torch's own. They also stay if the caller would otherwise receive an input of the
    program, one of its tensors, or the same memory twice. The memory layout of a result may change.

    The result is for evaluation: in training a removed dropout no longer drops. The result holds the given program's
    own tensors.
    """

    def apply(self, program: Program) -> PassResult:
        """Return the program without identities, or the given one if there are none."""
        instead = _Elimination(program).found()
        if not instead:
            return PassResult(program, modified=False)
        return PassResult(revise(program, instead=instead), modified=True)


class _Elimination:
    def __init__(self, program: Program) -> None:
        self.nodes = list(program.graph.nodes)
        self.instead: dict[fx.Node, fx.Node] = {}
        self.identities = Identities(program, self.instead)
        self.readers = {node: set(node.users) for node in self.nodes}
        self.memory_matters = any(map(depends_on_memory, self.nodes))

    def found(self) -> dict[fx.Node, fx.Node]:
        """Return for each node that can be removed the node that replaces it."""
        while any([self._eliminate(node) for node in self.nodes if node not in self.instead]):  # noqa: C419
            pass  # a copy may become removable once others are removed
        return self.instead

    def _eliminate(self, node: fx.Node) -> bool:
        identity = self.identities.of(node)
        if identity is None:
            return False
        source = self.instead.get(identity.source, identity.source)
        if identity.copies and (self.memory_matters or self._is_needed_apart(node, source)):
            return False
        self.instead[node] = source
        self.readers[source] = self.readers[source] - {node} | self.readers[node]
        for other, stands in self.instead.items():
            if stands is node:
                self.instead[other] = source
        return True

    def _is_needed_apart(self, node: fx.Node, source: fx.Node) -> bool:
        """Whether a copy is returned by the program, and its source is not a new value that only the copy reads."""
        is_fresh = source.op in ("call_function", "call_module") and not is_view(source)
        return self._is_handed_out(node) and not (is_fresh and self.readers[source] == {node})

    def _is_handed_out(self, node: fx.Node) -> bool:
        return any(user.op == "output" or (is_view(user) and self._is_handed_out(user)) for user in self.readers[node])
