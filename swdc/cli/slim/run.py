"""What ``swdc slim`` does and reports, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from swdc.costs.count import CONVENTIONS, count
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ops import leaf_of
from swdc.rewriting.certificate import LEAST_EFFECT, Certificate

NOT_RUN = "the weights were streamed, so that neither program was run"


@dataclass(frozen=True)
class Slimming:
    """A program before and after it was slimmed, by which plan, and the certificate."""

    dense: Program
    slim: Program
    plan: Plan
    certificate: Certificate | None
    """``None`` if the weights were streamed, so that nothing was run."""

    @property
    def exact(self) -> bool | None:
        """Whether the slim program was proven equal to the masked one; ``None`` if that was not tried."""
        return None if self.certificate is None else self.certificate.exact

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON; numbers are for one sample."""
        both = (self.dense, self.slim)
        counts = {name: _pair(count(program, name).operations for program in both) for name in CONVENTIONS}
        kept = {name: len(channels) for name, channels in self.plan.kept.items()}
        return {
            "exact": self.exact,
            "max_relative_error": None if self.certificate is None else self.certificate.max_relative_error,
            "reason": NOT_RUN if self.certificate is None else why_not_exact(self.certificate),
            "parameters": _pair(count(program).parameters for program in both),
            "operations": counts["paper"],
            "macs": counts["macs"],
            "conventions": counts,
            "layers": layers(self.dense, self.slim),
            "groups": {name: _pair((self.plan.widths[name], width)) for name, width in kept.items()},
            "settings": dict(self.plan.settings),
            "certificate": None if self.certificate is None else self.certificate.to_dict(),
            "notes": list(self.dense.facts.notes),
        }


def layers(dense: Program, slim: Program) -> list[dict[str, Any]]:
    """Return width, parameters and operations (the paper's) of every layer, before and after.

    The width is the number of channels that a layer writes, ``None`` if it is not a module.
    """
    sums = [_by_layer(program) for program in (dense, slim)]
    nothing = {"parameters": 0, "operations": 0}
    return [
        {
            "name": name,
            "operator": entry["operator"],
            "width": _pair(width_of(program, name) for program in (dense, slim)),
            **{what: _pair(layer.get(name, nothing)[what] for layer in sums) for what in nothing},
        }
        for name, entry in sums[0].items()
    ]


def _by_layer(program: Program) -> dict[str, dict[str, Any]]:
    """Add up the calls of each layer."""
    found: dict[str, dict[str, Any]] = {}
    for layer in count(program).layers:
        entry = found.setdefault(layer.name, {"operator": layer.operator, "parameters": 0, "operations": 0})
        entry["parameters"] += layer.parameters
        entry["operations"] += layer.operations
    return found


def width_of(program: Program, layer: str) -> int | None:
    """Return the number of channels that a module of a program writes, ``None`` if it is not a module."""
    module = program.leaves.get(layer)
    attribute = "" if module is None else leaf_of(module).width
    return int(getattr(module, attribute)) if attribute else None


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
