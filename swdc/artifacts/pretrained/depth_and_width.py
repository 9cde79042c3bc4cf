"""A slim program without some layers and channels, as two cuts: of layers first, then of channels.

The class of the model is made anew with fewer layers, and its program has other names for nodes and tensors. The plan
for the channels is carried over by the tensors in which they lie.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from swdc.artifacts.pretrained.shortening import removed_layers, renamed, tensor_of
from swdc.artifacts.transplanting.same_program import traced_as
from swdc.channels.kept import Kept
from swdc.errors import ExportError
from swdc.ir.call import Ref
from swdc.ir.groups import ChannelGroup
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.rewriting.cutting import kept_under
from swdc.rewriting.rewrites import slim as slimmed


def in_depth_alone(slim: Program, dense: Program) -> Program:
    """Return the slim program of the plan that removes the same layers, and no channel."""
    plan = _plan(slim)
    whole = {name: tuple(range(width)) for name, width in plan.widths.items()}
    return slimmed(dense, replace(plan, kept=whole, program_hash=dense.hash()))


def in_width_alone(slim: Program, dense: Program, model: Any, short: Any) -> Program:
    """Return the slim program of the model with fewer layers, ``short``, that has the tensors of ``slim``.

    ``dense`` is the program of ``model``. Raises ``ExportError`` if the channels of ``short`` are not coupled as those
    of the dense program.
    """
    removed = removed_layers(model, slim)
    old_names = {renamed(name, removed): name for name in dense.tensors}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = traced_as(short, slim)
    kept = kept_under(dense, _plan(slim))
    channels = {group.name: _kept_of(group, kept, old_names) for group in program.groups}
    widths = {group.name: group.width for group in program.groups}
    narrow = slimmed(program, Plan(channels, widths, program.hash(), {"policy": program.facts.policy}))
    own = model.state_dict()
    with torch.no_grad():
        for name, tensor in narrow.tensors.items():
            if old_names.get(name) in own:
                tensor.copy_(tensor_of(model, slim, old_names[name]))
    return narrow


def _plan(slim: Program) -> Plan:
    assert slim.facts.origin is not None
    return slim.facts.origin.plan


def _kept_of(group: ChannelGroup, kept: Kept, old_names: dict[str, str]) -> tuple[int, ...]:
    """Return the channels of a group whose places in the dense program's tensors are kept."""
    found = set()
    for member in (one for one in group.members if one.tensor in old_names):
        places = kept.indices(Ref(old_names[member.tensor]), member.dim)
        stays = np.ones(group.width, dtype=bool) if places is None else np.isin(member.indices, places).all(1)
        found.add(tuple(np.flatnonzero(stays).tolist()))
    if len(found) != 1:
        raise ExportError(
            f"expected channels that are coupled in the model with fewer layers as they were before, got others in "
            f"{group.name}; save the model with fewer layers, load it, and cut its channels then"
        )
    (channels,) = found
    return channels
