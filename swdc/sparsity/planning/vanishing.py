"""Tensors that vanish with single channels: a weight for each channel that a loop takes out by its number."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import prod

import torch
from torch import fx

from swdc.ir.call import Ref
from swdc.ir.groups import Coupling
from swdc.ir.program import Program
from swdc.sparsity.planning.dimensions import Dimensions

Numbers = frozenset[int]


def vanishing(program: Program, dimensions: Dimensions, tensors: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    """Return, for tensors of which as many are left as some groups keep channels, the slots of the groups' widths.

    The widths tell how many tensors are left only if each channel of a group (each combination, for several groups)
    takes tensors of the same sizes along. Others are left out here: a budget counts them as if they stayed.
    """
    alike: dict[Hashable, dict[tuple[int, ...], list[str]]] = {}
    for name, place in _places(program, dimensions.coupling, tensors).items():
        tensor = tensors[name]
        sizes = tuple(dimensions.form(dimensions.slot(Ref(name), dim)) for dim in range(tensor.dim()))
        key = (tuple(place), sizes, tensor.dtype)
        alike.setdefault(key, {}).setdefault(tuple(place.values()), []).append(name)
    found: dict[str, list[int]] = {}
    for (groups, *_), at in alike.items():  # type: ignore[misc]
        counts = {len(names) for names in at.values()}
        if len(counts) == 1 and len(at) == prod(int(dimensions.widths[group]) for group in groups):
            slots = [dimensions.share(group) for group in groups]
            found |= {name: slots for names in at.values() for name in names}
    return found


def _places(program: Program, coupling: Coupling, tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[int, int]]:
    """Return the channels with which each tensor vanishes, one of each group, by the numbers of the groups."""
    if not coupling.singles:
        return {}
    gone = _gone_with(program.graph, coupling)
    found: dict[str, dict[int, int]] = {}
    for name, tensor in tensors.items():
        same = {other for other, one in program.tensors.items() if one is tensor}
        ids = _common([gone[node] for node in program.graph.nodes if _reads(node, same)])
        free = [number for number in sorted(ids) if coupling.group_of[number] >= 0]
        place = {int(coupling.group_of[number]): int(coupling.channel_of[number]) for number in free}
        if place and len(place) == len(free):
            found[name] = dict(sorted(place.items()))
    return found


def _reads(node: fx.Node, names: set[str]) -> bool:
    """Whether a node is one of some tensors, or a leaf module that holds one."""
    path = str(node.target)
    return (
        path in names
        if node.op == "get_attr"
        else node.op == "call_module" and any(name.rpartition(".")[0] == path for name in names)
    )


def _gone_with(graph: fx.Graph, coupling: Coupling) -> dict[fx.Node, Numbers]:
    """Return the ids of channels without which a node is not computed, or what it computes is not used."""
    found: dict[fx.Node, Numbers] = {}
    for node in reversed(graph.nodes):
        several = coupling.singles.get(node.name, ())
        own = _common([frozenset(ids.tolist()) for ids in several])
        found[node] = own | _common([found[user] for user in node.users])
    return found


def _common(sets: list[Numbers]) -> Numbers:
    return frozenset.intersection(*sets) if sets else frozenset()
