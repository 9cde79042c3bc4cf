"""The one form of the document of a compression: ``swdc compress`` prints it, and a page is drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypedDict

from swdc.artifacts.compression.trials import Trial
from swdc.artifacts.onnx.document import OnnxFile
from swdc.errors import ExportError
from swdc.ir.data_forms import check_form
from swdc.rewriting.certificate import Certificate
from swdc.sparsity.planning.sensitivity import Sensitivity


class CompressCut(TypedDict):
    """One cut on the way to the result."""

    trial: Trial
    plan: Annotated[dict[str, Any], "a plan of the network before"]
    certificate: Certificate


class CompressDocument(TypedDict):
    """What ``swdc compress`` prints, and the file ``report.json`` in its folder."""

    found: Annotated[bool, "whether a smaller network was good enough"]
    budget: str
    most_drop: float
    metric_before: float
    metric: float
    metric_deployed: Annotated[float | None, "of the deployed network"]
    costs_before: Annotated[dict[str, float], "parameters, operations, macs, and what the budget counts"]
    costs: dict[str, float]
    cuts: list[CompressCut]
    trials: list[Trial]
    sensitivity: Sensitivity
    onnx: OnnxFile | None
    int8: Annotated[dict[str, Any] | None, "as swdc quantize prints it, without the float file"]
    notes: list[str]
    files: Annotated[dict[str, str], "what was written, by name"]


def check_compression(data: Mapping[str, Any]) -> None:
    """Raise ``ExportError`` unless data are what ``swdc compress --json`` prints."""
    try:
        check_form(dict(data), CompressDocument)
        if missing := set(data["costs_before"]) ^ set(data["costs"]):
            raise ValueError(f"{min(missing)} is counted on one side only")
        if any(cut["trial"]["removed"] is None or cut["trial"]["metric"] is None for cut in data["cuts"]):
            raise ValueError("a cut has no metric")
    except ValueError as error:
        raise ExportError(
            f"expected the document that swdc compress --json prints, got one in which {error}; give it as it is"
        ) from error
