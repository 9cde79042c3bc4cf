"""What slimming did to a program, as plain data: the JSON of ``swdc slim``, and what a page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from swdc.costs.count import CONVENTIONS, Count, count
from swdc.ir.module_tensors import is_meta
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ops import leaf_of
from swdc.rewriting.certificate import LEAST_EFFECT, Certificate

NOT_RUN = "the weights were streamed, so that neither program was run"
_NOTHING = {"parameters": 0, "operations": 0}


@dataclass(frozen=True)
class Slimming:
    """A program before and after it was slimmed, by which plan, and the certificate."""

    dense: Program
    slim: Program
    plan: Plan
    certificate: Certificate | None
    """``None`` if nothing was run, because the weights were streamed, or nobody asked for it."""

    @property
    def exact(self) -> bool | None:
        """Whether the slim program was proven equal to the masked one; ``None`` if that was not tried."""
        return None if self.certificate is None else self.certificate.exact

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON; numbers are for one sample."""
        counts = {name: [count(program, name) for program in (self.dense, self.slim)] for name in CONVENTIONS}
        operations = {name: _pair(counted.operations for counted in both) for name, both in counts.items()}
        kept = {name: len(channels) for name, channels in self.plan.kept.items()}
        return {
            "exact": self.exact,
            "max_relative_error": None if self.certificate is None else self.certificate.max_relative_error,
            "reason": self._reason(),
            "parameters": _pair(counted.parameters for counted in counts["paper"]),
            "operations": operations["paper"],
            "macs": operations["macs"],
            "conventions": operations,
            "layers": self._layers(counts),
            "groups": {name: _pair((self.plan.widths[name], width)) for name, width in kept.items()},
            "settings": dict(self.plan.settings),
            "certificate": None if self.certificate is None else self.certificate.to_dict(),
            "notes": list(self.dense.facts.notes),
        }

    def _reason(self) -> str | None:
        if self.certificate is not None:
            return why_not_exact(self.certificate)
        return NOT_RUN if is_meta(self.dense) else "no certificate was given; swdc.verify makes one"

    def _layers(self, counts: Mapping[str, list[Count]]) -> list[dict[str, Any]]:
        """Return width, parameters, operations (the paper's) and multiply-adds of every layer, before and after.

        The width is the number of channels that a layer writes, ``None`` if it is not a module. A layer that only one
        of the programs has counts nothing in the other.
        """
        paper, macs = ([_by_layer(counted) for counted in counts[name]] for name in ("paper", "macs"))
        width = [widths(program) for program in (self.dense, self.slim)]
        every = {**paper[1], **macs[1], **paper[0], **macs[0]}
        names = dict.fromkeys(name for found in (paper[0], macs[0], paper[1], macs[1]) for name in found)
        return [
            {
                "name": name,
                "operator": every[name]["operator"],
                "width": _pair(found.get(name) for found in width),
                "parameters": _pair(found.get(name, _NOTHING)["parameters"] for found in paper),
                "operations": _pair(found.get(name, _NOTHING)["operations"] for found in paper),
                "macs": _pair(found.get(name, _NOTHING)["operations"] for found in macs),
            }
            for name in names
        ]


def _by_layer(counted: Count) -> dict[str, dict[str, Any]]:
    """Add up the calls of each layer."""
    found: dict[str, dict[str, Any]] = {}
    for layer in counted.layers:
        entry = found.setdefault(layer.name, {"operator": layer.operator, **_NOTHING})
        entry["parameters"] += layer.parameters
        entry["operations"] += layer.operations
    return found


def widths(program: Program) -> dict[str, int]:
    """Return the number of channels that each module of a program writes, for those that have one."""
    attributes = {path: (module, leaf_of(module).width) for path, module in program.leaves.items()}
    return {path: int(getattr(module, width)) for path, (module, width) in attributes.items() if width}


def _pair(values: Any) -> dict[str, Any]:
    before, after = values
    return {"before": before, "after": after}


def why_not_exact(certificate: Certificate) -> str | None:
    """Return in a sentence why a certificate is not exact, ``None`` if it is."""
    if certificate.exact:
        return None
    if certificate.removed_channels == 0:
        return "the plan removes no channel, so that there is nothing to prove; ask for a higher --sparsity"
    if certificate.effect < LEAST_EFFECT and certificate.max_relative_error <= certificate.tolerance:
        return (
            f"removing these channels changes the output by {certificate.effect:.1e} of it, too little for "
            f"the comparison to prove anything; give trained --weights, or another --seed"
        )
    if certificate.max_relative_error <= certificate.tolerance and certificate.notes:
        return "; ".join(certificate.notes)
    node = certificate.first_difference
    where = "" if node is None else f"; the first node that differs is {node}"
    return (
        f"the slim program differs from the masked one by {certificate.max_relative_error:.1e} of its output "
        f"(at most {certificate.tolerance:.0e} is rounding){where}"
    )
