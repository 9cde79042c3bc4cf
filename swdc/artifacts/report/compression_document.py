"""The document of a compression, as ``swdc compress --json`` prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swdc.artifacts.compression.trials import Trial
from swdc.errors import ExportError
from swdc.ir.data_forms import check_form
from swdc.rewriting.certificate import Certificate


@dataclass(frozen=True)
class Cut:
    """One cut on the way to the result."""

    trial: Trial
    plan: Mapping[str, Any]
    certificate: Certificate


@dataclass(frozen=True)
class Compressed:
    """What ``swdc compress --json`` prints, ``Compression.to_dict()`` returns, and ``report.json`` holds."""

    found: bool
    budget: str
    most_drop: float
    metric_before: float
    metric: float
    metric_deployed: float | None
    costs_before: Mapping[str, float]
    costs: Mapping[str, float]
    cuts: Sequence[Cut]
    trials: Sequence[Trial]
    sensitivity: Mapping[str, Any]
    onnx: Mapping[str, Any] | None
    int8: Mapping[str, Any] | None
    notes: Sequence[str]
    files: Mapping[str, str]


def check_compression(data: Mapping[str, Any]) -> None:
    """Raise ``ExportError`` unless data are what ``swdc compress --json`` prints."""
    try:
        check_form(dict(data), Compressed)
        if missing := set(data["costs_before"]) ^ set(data["costs"]):
            raise ValueError(f"{min(missing)} is counted on one side only")
        if any(cut["trial"]["removed"] is None or cut["trial"]["metric"] is None for cut in data["cuts"]):
            raise ValueError("a cut has no metric")
    except ValueError as error:
        raise ExportError(
            f"expected the document that swdc compress --json prints, got one in which {error}; give it as it is"
        ) from error
