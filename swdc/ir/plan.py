"""A plan: which channels of each group are kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from swdc.errors import PlanError
from swdc.ir.argument_types import check_type, checked
from swdc.ir.by_content import ByContent
from swdc.ir.data_forms import check_form


@dataclass(frozen=True, eq=False)
class Plan(ByContent):
    """For each group of a program, the channels that are kept, in ascending order.

    With free residual sums a group may lose all of its channels. Then one channel of zeros stays in the slim program,
    because a layer needs at least one; ``swdc.deploy`` removes such branches.
    ``widths`` gives the number of channels of each group before the removal; ``program_hash`` ties the plan to the
    graph that it was made for; ``settings`` says how the plan was made.
    """

    kept: Mapping[str, tuple[int, ...]]
    widths: Mapping[str, int]
    program_hash: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take channels in any order, and of any whole numbers; raise ``PlanError`` for anything else."""
        check_type(PlanError, "kept", self.kept, Mapping[str, Any])
        check_type(PlanError, "widths", self.widths, Mapping[str, int])
        check_type(PlanError, "program_hash", self.program_hash, str)
        check_type(PlanError, "settings", self.settings, Mapping[str, Any])
        object.__setattr__(self, "kept", {name: _channels(name, kept) for name, kept in self.kept.items()})
        object.__setattr__(self, "widths", {name: int(width) for name, width in self.widths.items()})
        branches = self.settings.get("branches", ())
        if not isinstance(branches, list | tuple) or not all(isinstance(name, str) for name in branches):
            raise PlanError(f"expected branches in the settings as a list of names, got {branches!r:.100}")
        try:
            json.dumps(dict(self.settings), allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise PlanError(
                f"expected settings as plain data, which JSON can hold, got something else: {error}; use finite "
                f"numbers, text, lists and dicts"
            ) from error

    @property
    def policy(self) -> str | None:
        """The policy for residual sums that the plan was made for; ``None`` if the plan leaves it to the program."""
        return self.settings.get("policy")

    @property
    def branches(self) -> tuple[str, ...]:
        """The names of the residual branches that are removed."""
        return tuple(self.settings.get("branches", ()))

    @property
    def emptied(self) -> tuple[str, ...]:
        """The names of the groups that keep no channel."""
        return tuple(name for name, kept in self.kept.items() if not kept)

    @property
    def removed_channels(self) -> int:
        """The number of removed channels, over all groups."""
        return sum(self.widths[name] - len(kept) for name, kept in self.kept.items())

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data, ready for JSON."""
        return {
            "kept": {name: list(kept) for name, kept in self.kept.items()},
            "widths": dict(self.widths),
            "program_hash": self.program_hash,
            "settings": dict(self.settings),
        }

    def sha256(self) -> str:
        """Return the hash of the plan's canonical JSON: keys sorted, no spaces."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @classmethod
    @checked(PlanError)
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        """Return the plan that ``to_dict`` wrote. Raises ``PlanError`` for data of any other form."""
        try:
            check_form(data, cls)
            _check_kept(data["kept"], data["widths"])
        except ValueError as error:
            raise PlanError(f"expected a plan as Plan.to_dict returns it, got one in which {error}") from error
        kept = {name: tuple(channels) for name, channels in data["kept"].items()}
        return cls(kept, dict(data["widths"]), data["program_hash"], dict(data["settings"]))

    def __str__(self) -> str:
        lines = [f"keeps {sum(map(len, self.kept.values()))} of {sum(self.widths.values())} channels"]
        lines += [f"  {name}: {len(kept)} of {self.widths[name]}" for name, kept in self.kept.items()]
        lines += [f"removes the branch {name}" for name in self.branches]
        return "\n".join(lines)


def _channels(group: str, kept: Any) -> tuple[int, ...]:
    """Return channels as whole numbers in ascending order; ``PlanError`` if they are anything else."""
    given = kept.tolist() if isinstance(kept, np.ndarray) else kept
    if not isinstance(given, tuple) or set(map(type, given)) - {int}:  # the check of each number takes its time
        check_type(PlanError, f"the channels kept in {group}", given, Sequence[int])
    return tuple(sorted(map(int, given)))


def _check_kept(kept: Mapping[str, Sequence[int]], widths: Mapping[str, int]) -> None:
    """Raise ``ValueError`` unless each group keeps channels that it has, in ascending order."""
    if set(kept) != set(widths):
        raise ValueError(f"the groups {sorted(set(kept) ^ set(widths))} have no width, or no channels")
    for name, channels in kept.items():
        if list(channels) != sorted({channel for channel in channels if 0 <= channel < widths[name]}):
            raise ValueError(f"{name} does not keep some of its {widths[name]} channels in ascending order")
