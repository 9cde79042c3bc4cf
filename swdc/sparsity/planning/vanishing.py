"""Tensors that vanish with single channels: a weight for each channel that a loop takes out by its number."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any

import torch
from torch import fx

from swdc.ir.call import Ref
from swdc.ir.groups import Coupling
from swdc.ir.program import Program
from swdc.sparsity.planning.dimensions import Dimensions

Numbers = frozenset[int]
Kind = tuple[tuple[int, ...], tuple[tuple[Any, ...], ...], torch.dtype]
"""The groups of the channels that a tensor vanishes with, its sizes, and its type."""


def vanishing(program: Program, dimensions: Dimensions, tensors: Mapping[str, torch.Tensor]) -> dict[str, list[int]]:
    """Return, for tensors of which as many are left as some groups keep channels, the slots of the groups' widths.

    The widths tell how many tensors are left only if each channel of a group (each combination, for several groups)
    takes tensors of the same sizes along. Others are left out here: a budget counts them as if they stayed.
    """
    alike: dict[Kind, dict[tuple[int, ...], list[str]]] = {}
    for name, place in _places(program, dimensions.coupling, tensors).items():
        tensor = tensors[name]
        sizes = tuple(dimensions.form(dimensions.slot(Ref(name), dim)) for dim in range(tensor.dim()))
        key = (tuple(place), sizes, tensor.dtype)
        alike.setdefault(key, {}).setdefault(tuple(place.values()), []).append(name)
    found: dict[str, list[int]] = {}
    for (groups, _, _), at in alike.items():
        counts = {len(names) for names in at.values()}
        if len(counts) == 1 and len(at) == prod(int(dimensions.widths[group]) for group in groups):
            slots = [dimensions.share(group) for group in groups]
            found |= {name: slots for names in at.values() for name in names}
    return found


def _places(program: Program, coupling: Coupling, tensors: Mapping[str, torch.Tensor]) -> dict[str, dict[int, int]]:
    """Return the channels with which each tensor vanishes, one of each group, by the numbers of the groups."""
    if not coupling.singles:
        return {}
    found: dict[str, dict[int, int]] = {}
    for name, tensor in tensors.items():
        same = {other for other, one in program.tensors.items() if one is tensor}
        ids = _common([_needed(node, coupling) for node in _readers(program.graph, same)])
        free = [number for number in sorted(ids) if coupling.group_of[number] >= 0]
        place = {int(coupling.group_of[number]): int(coupling.channel_of[number]) for number in free}
        if place and len(place) == len(free):
            found[name] = dict(sorted(place.items()))
    return found


def _readers(graph: fx.Graph, names: set[str]) -> Iterator[fx.Node]:
    """Yield the calls that read a tensor, which has some names; the output is one of them."""
    owners = {name.rpartition(".")[0] for name in names}
    for node in graph.nodes:
        if node.op == "get_attr" and str(node.target) in names:
            yield from node.users
        elif node.op == "call_module" and str(node.target) in owners:
            yield node


def _needed(node: fx.Node, coupling: Coupling) -> Numbers:
    """Return the ids of channels without which nothing that a node returns is computed."""
    return _common([frozenset(ids.tolist()) for ids in coupling.singles.get(node.name, ())])


def _common(sets: list[Numbers]) -> Numbers:
    return frozenset.intersection(*sets) if sets else frozenset()
