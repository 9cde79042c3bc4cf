"""An account of a program: what can be removed, and what freezes the rest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from swdc.ir.groups import READS, WRITES, ChannelGroup, Coupling, Frozen, Ids, Reason

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Held:
    """The channels that one reason freezes, at all calls made by one line of the user's code.

    ``reason`` is that of the first call. ``parameters`` counts the parameters that could also be removed if these
    channels were free and all others stayed as they are.
    """

    reason: Reason
    frozen: tuple[Frozen, ...]
    parameters: int

    @property
    def channels(self) -> int:
        """The number of frozen indices, over all dimensions of tensors."""
        return sum(len(entry.indices) for entry in self.frozen)


@dataclass(frozen=True)
class Explanation:
    """How many of the parameters of a program can be removed, in which groups, and what freezes the others.

    At most ``prunable`` parameters can be removed. ``held`` lists the reasons that freeze most first. ``sizes`` says
    which sizes of the inputs may change.
    """

    parameters: int
    prunable: int
    groups: tuple[ChannelGroup, ...]
    held: tuple[Held, ...]
    notes: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """The share of the parameters that can be removed; 0 if the program has no parameters."""
        return self.prunable / max(self.parameters, 1)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return {
            "parameters": self.parameters,
            "removable_parameters": self.prunable,
            "removable_share": self.share,
            "groups": [_group(group) for group in self.groups],
            "frozen": [{**_entry(f), **_reason(f.reason)} for held in self.held for f in held.frozen],
            "held": [_held(held) for held in self.held],
            "notes": list(self.notes),
            "sizes": list(self.sizes),
        }

    def __str__(self) -> str:
        notes = [f"note: {note}" for note in self.notes]
        told = [*_told_groups(self.groups), *_told_reasons(self.held), *self.sizes, *notes]
        return "\n".join([self.summary(), *told])

    def summary(self) -> str:
        """Return one sentence that says how much can be removed."""
        return (
            f"{self.prunable:,} of {self.parameters:,} parameters ({self.share:.2%}) can be removed at most, "
            f"when every group keeps one channel."
        )


def explain(coupling: Coupling, shapes: Shapes, notes: Iterable[str] = (), sizes: Iterable[str] = ()) -> Explanation:
    """Return the account of an analysis. ``sizes`` are lines on the sizes of the inputs.

    ``shapes`` gives the shape of every parameter that the program reads; a tied parameter stands there once.
    """
    least = {name: _least(coupling, name, shape) for name, shape in shapes.items()}
    total = sum(map(prod, shapes.values()))
    alike: dict[Reason, list[Frozen]] = {}
    for frozen in coupling.frozen:
        alike.setdefault(replace(frozen.reason, node=""), []).append(frozen)
    held = [Held(f[0].reason, tuple(f), _freed(coupling, f, least)) for f in alike.values()]
    held.sort(key=lambda h: -h.parameters)
    return Explanation(
        total, total - sum(map(prod, least.values())), coupling.groups, tuple(held), tuple(notes), tuple(sizes)
    )


def _least(coupling: Coupling, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape of a tensor when every group keeps one channel."""
    labels = coupling.tensors.get(name, (None,) * len(shape))
    return tuple(
        size if ids is None else _least_size(coupling.group_of[ids], coupling.channel_of[ids])
        for size, ids in zip(shape, labels, strict=True)
    )


def _least_size(groups: Ids, channels: Ids) -> int:
    return int(((groups < 0) | (channels == 0)).sum())


def _freed(coupling: Coupling, frozen: Iterable[Frozen], least: Shapes) -> int:
    """Return how many parameters fewer there would be if each of these frozen dimensions kept one channel."""
    freed: dict[str, list[int]] = {}
    for entry in frozen:
        if entry.tensor in least:
            labels = coupling.tensors[entry.tensor][entry.dim]
            assert labels is not None
            sizes = freed.setdefault(entry.tensor, list(least[entry.tensor]))
            sizes[entry.dim] -= len(entry.indices) - len(entry.indices) // len(np.unique(labels[entry.indices]))
    return sum(prod(least[name]) - prod(sizes) for name, sizes in freed.items())


def _group(group: ChannelGroup) -> dict[str, Any]:
    slots = {role: [{"tensor": m.tensor, "dim": m.dim} for m in group.with_role(role)] for role in (WRITES, READS)}
    return {"name": group.name, "width": group.width, **slots}


def _entry(frozen: Frozen) -> dict[str, Any]:
    return {"tensor": frozen.tensor, "dim": frozen.dim, "channels": len(frozen.indices)}


def _reason(reason: Reason) -> dict[str, str]:
    return {
        "reason": reason.text, "operator": reason.operator, "node": reason.node, "source": reason.source,
        "edit": reason.edit,
    }  # fmt: skip


def _held(held: Held) -> dict[str, Any]:
    entries = [_entry(frozen) for frozen in held.frozen]
    return {**_reason(held.reason), "parameters": held.parameters, "channels": held.channels, "dimensions": entries}


def _told_groups(groups: Sequence[ChannelGroup]) -> list[str]:
    lines = [f"{len(groups)} groups of channels that can be removed"]
    for group in groups:
        lines.append(f"  {group.name}  {group.width} channels")
        for role in (WRITES, READS):
            names = [f"{m.tensor}[{m.dim}]" for m in group.with_role(role)]
            if names:
                lines.append(f"    {role}: {', '.join(names)}")
    return lines


def _told_reasons(held: Sequence[Held]) -> list[str]:
    lines = [f"{len(held)} reasons hold channels, the one that holds most first" if held else "nothing is frozen"]
    for one in held:
        slots = ", ".join(f"{f.tensor}[{f.dim}] ({len(f.indices)})" for f in one.frozen)
        lines.append(f"  {one.reason}")
        lines += [f"    to free them: {one.reason.edit}"] if one.reason.edit else []
        lines.append(f"    holds {one.parameters:,} parameters: {slots}")
    return lines
