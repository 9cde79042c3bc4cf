"""The form of what is told of an ONNX file, as ``OnnxReport.to_dict`` returns it."""

from __future__ import annotations

from typing import Annotated, TypedDict


class Stage(TypedDict):
    """One file on the way to the final one."""

    name: str
    file_bytes: int | None
    nodes: int | None
    max_relative_error: float | None
    latency_ms: Annotated[float | None, "milliseconds, median, one sample, one thread; for --deploy"]
    kept: bool
    reason: Annotated[str, "why it is not kept, or empty"]


class OnnxFile(TypedDict):
    """An ONNX file that was run and compared."""

    path: str
    opset: int
    file_bytes: int
    max_relative_error: float
    batches: Annotated[list[int], "batch sizes that were run; empty if the inputs have no batch"]
    fixed: Annotated[list[str], "sizes that may change in the program, but not in the file"]
    stages: list[Stage]
    macs: Annotated[int, "multiply-adds counted in the file, for one sample"]
    macs_difference: Annotated[int, "to those that swdc count gives"]
    explanation: Annotated[list[str], "of the difference, operator by operator"]
