"""The certificate: the result of comparing a masked and a slim program."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from swdc.errors import SwdcError, VerificationError
from swdc.ir.argument_types import checked
from swdc.ir.content_hash import content_hash
from swdc.ir.data_forms import check_form
from swdc.ir.module_tensors import is_meta
from swdc.ir.program import Program

TOLERANCE = 1e-9
"""Largest error in float64, relative to the scale of each element, that counts as rounding."""

FACTOR = 8.0
"""Largest error of the slim program in its own types, in rounding errors of the masked program, that is rounding."""

LEAST_EFFECT = 1e-6
"""A mask that changes the output by less than this, relative to it, shows nothing about the rewrite."""


@dataclass(frozen=True)
class Comparison:
    """One run of both programs on the same inputs.

    ``dtype`` is ``float64``, or the types of the program. ``mode`` is ``eval``, ``train`` (outputs, statistics and
    gradients) or ``corners``. ``relative_error`` is the largest error, each relative to the scale of its element.
    ``rounding`` is the distance of the slim program in its own types to the masked one in float64, in rounding errors
    of the masked program; ``None`` in float64. ``sizes`` are those of the inputs that differ from the example's.
    """

    dtype: str
    mode: str
    batch: int
    relative_error: float
    rounding: float | None = None
    sizes: dict[str, int] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        rounding = "" if self.rounding is None else f" ({self.rounding:.2g} rounding errors)"
        sizes = "".join(f", {name} {size}" for name, size in self.sizes.items())
        return f"{self.dtype}, {self.mode}, batch {self.batch}{sizes}: {self.relative_error:.2e}{rounding}"


@dataclass(frozen=True)
class Certificate:
    """The comparison of a masked and a slim program.

    ``exact`` is true if every comparison in float64 agrees to ``tolerance``; if in the program's own types the slim
    program is not further from the masked one in float64 than ``FACTOR`` rounding errors of the masked program
    (``rounding``), and these leave half of the digits (``lost``); and if the removed channels matter: the masked
    program differs from the dense one by ``effect``, relative to its output. If training left almost nothing in the
    removed channels, they are filled with random weights to measure the effect (``refilled``).

    ``assumptions`` says what inputs must not be for this to hold. ``dense_hash``, ``masked_hash`` and ``slim_hash`` are
    hashes of graph and weights: the certificate is that of these programs, and of no other.
    """

    exact: bool
    max_relative_error: float
    max_relative_error_own: float
    rounding: float
    lost: float
    effect: float
    refilled: bool
    tolerance: float
    seed: int
    program_hash: str
    dense_hash: str
    masked_hash: str
    slim_hash: str
    removed_channels: int
    comparisons: tuple[Comparison, ...]
    first_difference: str | None
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def max_relative_error_float32(self) -> float:
        """The largest relative error in the program's own types, which for most programs is float32."""
        return self.max_relative_error_own

    def to_dict(self) -> dict[str, Any]:
        """Return the certificate as plain data, ready for JSON."""
        return asdict(self)

    @classmethod
    @checked(SwdcError)
    def from_dict(cls, data: dict[str, Any]) -> Certificate:
        """Return the certificate that ``to_dict`` wrote.

        One of an earlier version is not bound to weights, so that it is read as not exact. Raises
        ``VerificationError`` for data of any other form.
        """
        try:
            found = _of_earlier_version(data) if "slim_hash" not in data else data
            found = {**found, "comparisons": [{"sizes": {}, **comparison} for comparison in found["comparisons"]]}
            check_form(found, cls)
        except (KeyError, TypeError, ValueError) as error:
            raise VerificationError(
                f"expected a certificate as Certificate.to_dict returns it, got one in which {error}; verify again"
            ) from error
        comparisons = tuple(Comparison(**c) for c in found["comparisons"])
        texts = {name: tuple(found[name]) for name in ("assumptions", "notes")}
        return cls(**{**found, "comparisons": comparisons, **texts})

    @checked(SwdcError)
    def belongs_to(self, program: Program) -> bool:
        """Whether a program is the masked or the slim one of this certificate: its graph and all of its weights."""
        return not is_meta(program) and content_hash(program) in (self.masked_hash, self.slim_hash)

    def of(self, program: Program) -> Certificate:
        """Return this certificate, not exact if it is that of other weights than a program's."""
        if self.belongs_to(program):
            return self
        why = "the certificate is that of other weights or another graph, so that it says nothing about this program"
        return replace(self, exact=False, notes=(*self.notes, why))

    def __str__(self) -> str:
        verdict = "exact" if self.exact else "NOT exact"
        filled = " (removed channels refilled with random weights)" if self.refilled else ""
        lines = [
            f"certificate: {verdict}, {self.removed_channels} channels removed",
            f"  largest relative error {self.max_relative_error:.2e} in float64 (tolerance {self.tolerance:.0e})",
        ]
        if any(c.rounding is not None for c in self.comparisons):
            own = f"{self.rounding:.2g} rounding errors of the masked program"
            lines.append(f"  in its own types it is {own} away (at most {FACTOR:g})")
        lines += [f"  effect of the mask on the output {self.effect:.2e}{filled}"]
        lines += [f"  {comparison}" for comparison in self.comparisons]
        if self.first_difference:
            lines.append(f"  first node that differs: {self.first_difference}")
        lines += [f"  assumes: {assumption}" for assumption in self.assumptions]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def _of_earlier_version(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data of a certificate without hashes of weights in today's form."""
    note = "made by an earlier version, whose certificates are not bound to weights; verify the programs again"
    own = data.get("max_relative_error_float32", float("inf"))
    hashes = dict.fromkeys(("dense_hash", "masked_hash", "slim_hash"), "")
    fresh = {"max_relative_error_own": own, "rounding": 0.0, "lost": 0.0, "assumptions": (), **hashes}
    told = {**fresh, **data, "exact": False, "notes": [*data["notes"], note]}
    comparisons = [{"rounding": None, **comparison} for comparison in data["comparisons"]]
    return {**{each.name: told[each.name] for each in fields(Certificate)}, "comparisons": comparisons}


def check_certificate(program: Program, certificate: Certificate | None, error: type[SwdcError]) -> None:
    """Raise ``error`` if a certificate is of another plan or of other weights than a program; accept ``None``."""
    if certificate is None:
        return
    plan = None if program.facts.origin is None else program.facts.origin.plan
    mine = None if plan is None else (plan.program_hash, plan.removed_channels)
    if mine != (certificate.program_hash, certificate.removed_channels):
        raise error(
            "expected a certificate of the plan that the program was made with, got one of another; give the "
            "certificate that swdc.verify returned for this program"
        )
    if certificate.slim_hash and not certificate.belongs_to(program):
        raise error(
            "expected a certificate of this program, got one of other weights or another graph (after training, "
            "deploy or a change of type it is another program); verify again, or leave the certificate out"
        )
