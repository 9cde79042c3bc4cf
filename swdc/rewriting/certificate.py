"""The certificate: the result of comparing a masked and a slim program."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from swdc.errors import SwdcError
from swdc.ir.program import Program

TOLERANCE = 1e-9
"""Largest relative error in float64 that counts as rounding."""

LEAST_EFFECT = 1e-6
"""A mask that changes the output by less than this, relative to it, shows nothing about the rewrite."""


@dataclass(frozen=True)
class Comparison:
    """One run of both programs on the same inputs."""

    dtype: str
    mode: str
    batch: int
    relative_error: float


@dataclass(frozen=True)
class Certificate:
    """The comparison of a masked and a slim program.

    ``exact`` is true if every comparison in float64 agrees to ``tolerance``, and the removed channels matter: the
    masked program differs from the dense one by ``effect``, relative to its output. If training left almost nothing in
    the removed channels, they are filled with random weights to measure the effect (``refilled``).
    """

    exact: bool
    max_relative_error: float
    max_relative_error_float32: float
    effect: float
    refilled: bool
    tolerance: float
    seed: int
    program_hash: str
    removed_channels: int
    comparisons: tuple[Comparison, ...]
    first_difference: str | None
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate as plain data, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Certificate:
        """Return the certificate that ``to_dict`` wrote."""
        comparisons = tuple(Comparison(**c) for c in data["comparisons"])
        return cls(**{**data, "comparisons": comparisons, "notes": tuple(data["notes"])})

    def __str__(self) -> str:
        verdict = "exact" if self.exact else "NOT exact"
        filled = " (removed channels refilled with random weights)" if self.refilled else ""
        lines = [
            f"certificate: {verdict}, {self.removed_channels} channels removed",
            f"  largest relative error {self.max_relative_error:.2e} in float64 (tolerance {self.tolerance:.0e}), "
            f"{self.max_relative_error_float32:.2e} in float32",
            f"  effect of the mask on the output {self.effect:.2e}{filled}",
        ]
        lines += [f"  {c.dtype}, {c.mode}, batch {c.batch}: {c.relative_error:.2e}" for c in self.comparisons]
        if self.first_difference:
            lines.append(f"  first node that differs: {self.first_difference}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def check_certificate(program: Program, certificate: Certificate | None, error: type[SwdcError]) -> None:
    """Raise ``error`` if the certificate is of another plan than that of the program; ``None`` is accepted."""
    if certificate is None:
        return
    plan = None if program.facts.origin is None else program.facts.origin.plan
    mine = None if plan is None else (plan.program_hash, plan.removed_channels)
    if mine != (certificate.program_hash, certificate.removed_channels):
        raise error(
            "expected a certificate of the plan that the program was made with, got one of another; give the "
            "certificate that swdc.verify returned for this program"
        )
