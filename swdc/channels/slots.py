"""Slots: the dimensions of a program's tensors, with their labels and the roles in which calls use them.

A tensor with several names (a tied weight) has one slot for each dimension, under the first of its names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import torch

from swdc.ir.call import Call, Ref
from swdc.ir.groups import WRITES, Ids
from swdc.ir.module_tensors import tensors_of
from swdc.ir.program import Program


class Slots:
    """Labels and roles of every tensor that a rule has touched."""

    def __init__(self, program: Program, tensors: Mapping[str, torch.Tensor]) -> None:
        first: dict[int, str] = {}
        self.first_names = {name: first.setdefault(id(t), name) for name, t in tensors.items()}
        """The first name of each tensor, by each of its names."""
        self.labels: dict[str, list[Ids | None]] = {}
        """The labels along each dimension, by first names; ``None`` if they have not been asked for yet."""
        self.rests: dict[str, float] = {}
        """The values at which tensors write zeros, by first names, if they are not zero."""
        self._ranks = {name: t.dim() for name, t in tensors.items()}
        self._readers = _readers(program, self.first_names)
        self._roles: dict[tuple[str, int], set[str]] = {}
        self._held: dict[tuple[str, int], Call] = {}
        self._bound: set[tuple[str, int]] = set()  # by the current call

    def of(self, tensor: Ref) -> list[Ids | None]:
        """Return the labels along each dimension of a tensor, as they are stored."""
        name = self.first_names[tensor]
        if name not in self.labels:
            self.labels[name] = [None] * self._ranks[name]
        return self.labels[name]

    def roles(self, tensor: str, dim: int) -> frozenset[str]:
        """Return the roles of a tensor's dimension; it writes channels unless a rule says otherwise."""
        return frozenset(self._roles.get((self.first_names[tensor], dim), {WRITES}))

    def bind(self, tensor: Ref, dim: int, role: str) -> None:
        """Note that the current call uses a dimension in the given role."""
        slot = (self.first_names[tensor], dim)
        self._bound.add(slot)
        self._roles.setdefault(slot, set()).add(role)

    def finish(self, call: Call) -> None:
        """Note that a call's rule is done: dimensions that it has not bound to a role write the call's result."""
        for value in call.tensors():
            if isinstance(value, Ref):
                name = self.first_names[value]
                for slot in {(name, dim) for dim in range(self._ranks[name])} - self._bound:
                    self._roles.setdefault(slot, set()).add(WRITES)
        self._bound.clear()

    def hold(self, tensor: Ref, dim: int, call: Call) -> None:
        """Note that a call works along a dimension without labels, in case it gets labels later."""
        self._held.setdefault((self.first_names[tensor], dim), call)

    def holder(self, tensor: Ref, dim: int) -> Call | None:
        """Return the first call that works along a dimension, or ``None``."""
        return self._held.get((self.first_names[tensor], dim))

    def reads_alone(self, tensor: Ref) -> bool:
        """Whether a single call reads a tensor, under any of its names."""
        return self._readers[self.first_names[tensor]] == 1


def _readers(program: Program, first_names: dict[str, str]) -> Counter[str]:
    """Count the calls that read each tensor, by its first name."""
    count: Counter[str] = Counter()
    for node in program.graph.nodes:
        if node.op == "get_attr":
            count[first_names[str(node.target)]] += len(node.users)
        elif node.op == "call_module":
            own = tensors_of(program.get_submodule(str(node.target)))
            count.update(first_names[f"{node.target}.{name}"] for name in own)
    return count
