"""Fold batch norms into the layers beside them; the algebra is in ``swdc.ops.affine_layers``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from swdc.errors import PassError
from swdc.ir.call import Call, Ref
from swdc.ir.graph import DTYPE
from swdc.ir.module_tensors import need_values
from swdc.ir.program import Program
from swdc.ops import calls
from swdc.ops.base import Affine
from swdc.ops.in_place import overwrites, written
from swdc.rewriting.pass_base import Pass, PassResult
from swdc.rewriting.rebuild import name_of_new, revise

NOTE = "batch norms were folded, so that it computes the same in evaluation only; do not train it"


@dataclass(frozen=True)
class FoldBatchnorm(Pass):
    """Fold a batch norm, which is an affine map y = s x + t in evaluation, into the layer before it or those after it.

    ::

        x -> conv(W) -> bn -> relu                 x -> conv(s W, t) -> relu
        x -> bn -> linear(W, b)                    x -> linear(W s, b + W t)
        x -> add -> bn -> bn                       x -> add -> bn

    A norm is folded into the layer before it if that is a convolution (also grouped or transposed) or a dense layer
    that only the norm reads; reshapes and transposes in between are fine if they keep channels together. Otherwise it
    is folded into all layers and norms that read it, if that is exact: a convolution that pads cannot take a shift.
    Weights that another call reads stay as they are, and so does a norm that uses the statistics of its input. Layers
    without a bias get one. New weights are computed in float64 and rounded once.

    **For deployment only**: the result computes the same in evaluation, but in training it is another network, as
    ``program.facts.notes`` says. ``eliminate-unused`` removes the tensors of folded norms. Tensors that are not folded
    are the given program's own.
    """

    def requires(self, program: Program) -> None:
        """Check that the program has values to fold."""
        need_values(program, PassError, "folding batch norms")

    def apply(self, program: Program) -> PassResult:
        """Return the program with batch norms folded, or the given one if none can be."""
        current = program
        exact: dict[str, torch.Tensor] = {}
        while (found := _Folding(current, exact).found()) is not None:
            exact |= found.exact
            current = revise(current, {**current.tensors, **found.tensors}, found.arguments, found.instead)
        if current is program:
            return PassResult(program, modified=False)
        current = current.with_facts(notes=tuple(dict.fromkeys((*current.facts.notes, NOTE))))
        read = current.read_tensors()  # a norm that took over another may itself be folded by now
        return PassResult(current, modified=True, exact={name: value for name, value in exact.items() if name in read})


@dataclass
class _Found:
    """Norms to replace by their inputs, and new tensors and arguments for the calls that take over their work."""

    instead: dict[fx.Node, fx.Node] = field(default_factory=dict)
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    exact: dict[str, torch.Tensor] = field(default_factory=dict)
    arguments: dict[str, dict[str, Any]] = field(default_factory=dict)


class _Folding:
    """Finds norms to fold; no call takes part in two folds at once."""

    def __init__(self, program: Program, exact: Mapping[str, torch.Tensor]) -> None:
        """``exact`` holds tensors of the program as they were before they were rounded."""
        self.calls, self.stored = calls(program), program.tensors
        self.tensors = {**self.stored, **exact}
        self.readers = Counter(id(self.stored[name]) for name in _read(program))
        self.called = Counter(str(node.target) for node in program.graph.find_nodes(op="call_module"))
        self.overwrites = any(map(overwrites, program.graph.nodes))
        self.written = written(program.graph)
        self.result = _Found()
        self.taken: set[fx.Node] = set()

    def found(self) -> _Found | None:
        """Return what to fold; ``None`` if there is nothing."""
        for norm, (operator, call) in self.calls.items():
            affine, x = operator.affine(call, self.tensors), call.arguments.get("input")
            if affine is None or not isinstance(x, fx.Node) or norm in self.taken or self._changes(call):
                continue
            if x.meta.get(DTYPE) != norm.meta.get(DTYPE):
                continue
            changes = self._before(norm, x, affine)
            if changes is None and not self.overwrites:  # its readers might find the input overwritten
                changes = self._after(norm, affine)
            if changes and self._write(changes):
                self.result.instead[norm] = x
                self.taken.update((norm, x, *(call.node for call, _ in changes)))
        return self.result if self.result.instead else None

    def _before(self, norm: fx.Node, x: fx.Node, affine: Affine) -> list[tuple[Call, Affine]] | None:
        """Return the new affine map of the layer before the norm; its result may be reshaped in between."""
        reader, dim = norm, 1
        while self._readers(x) == [reader] and x in self.calls and x not in self.taken:
            operator, call = self.calls[x]
            both = operator.then_affine(call, self.tensors, affine, dim)
            if both is not None:
                return [(call, both)] if self._is_free(call, norm) else None
            found = operator.laid_out_from(call, dim)
            if found is None:
                return None
            reader, (x, dim) = x, found
        return None

    def _after(self, norm: fx.Node, affine: Affine) -> list[tuple[Call, Affine]] | None:
        """Return the new affine map of every reader of the norm; ``None`` if one of them cannot take it."""
        changes: list[tuple[Call, Affine]] = []
        for user in self._readers(norm):
            operator, call = self.calls.get(user, (None, None))
            if operator is None or call is None or call.tensors().count(norm) != 1 or not self._is_free(call, norm):
                return None
            both = operator.after_affine(call, self.tensors, affine)
            if both is None:
                return None
            changes.append((call, both))
        return changes

    def _changes(self, call: Call) -> bool:
        """Whether the program changes a tensor that a call reads."""
        return any(name in self.written for name in call.tensors() if isinstance(name, Ref))

    def _readers(self, value: fx.Node) -> list[fx.Node]:
        """Return the nodes that read a value, except for those that read only its sizes."""
        return [user for user in value.users if not self._asks_sizes(user, value)]

    def _asks_sizes(self, user: fx.Node, value: fx.Node) -> bool:
        if user not in self.calls:
            return False
        operator, call = self.calls[user]
        return operator.asks_sizes(call, value)

    def _is_free(self, call: Call, norm: fx.Node) -> bool:
        """Whether a call has the type of the norm, and is the only one that reads its weight and its bias."""
        node = call.node
        if node in self.taken or node.meta.get(DTYPE) != norm.meta.get(DTYPE) or self.called[str(node.target)] > 1:
            return False
        own = [call.arguments.get(name) for name in ("weight", "bias")]
        return all(self.readers[id(self.stored[name])] == 1 for name in own if isinstance(name, Ref))

    def _write(self, changes: list[tuple[Call, Affine]]) -> bool:
        """Note the new weights and biases, unless one is too large for its type."""
        exact: dict[str, torch.Tensor] = {}
        tensors: dict[str, torch.Tensor] = {}
        arguments: dict[str, dict[str, Any]] = {}
        for call, values in changes:
            like = self.stored[call["weight"] or call["running_var"]]
            for argument, value in zip(("weight", "bias"), values, strict=True):
                name = call[argument] or name_of_new(argument, call, self.stored)
                old = self.stored.get(name)
                is_buffer = old is not None and not isinstance(old, nn.Parameter)
                rounded = value.to((like if old is None else old).dtype)
                tensors[name] = rounded if is_buffer else nn.Parameter(rounded, like.requires_grad)
                exact[name] = value
                arguments.setdefault(call.node.name, {})[argument] = name
        if not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
            return False
        self.result.exact |= exact
        self.result.tensors |= tensors
        self.result.arguments |= arguments
        return True


def _read(program: Program) -> Iterator[str]:
    """Yield the name of every tensor that a call reads or the program returns, as often as that happens."""
    for _, call in calls(program).values():
        yield from (name for name in call.tensors() if isinstance(name, Ref))
    for node in program.graph.find_nodes(op="output"):
        yield from (str(value.target) for value in node.all_input_nodes if value.op == "get_attr")
