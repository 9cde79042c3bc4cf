"""The forms of the JSON documents that commands print with ``--json``, and of the files that they write."""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

from swdc.artifacts.onnx.document import OnnxFile
from swdc.artifacts.report.compression_document import CompressDocument
from swdc.artifacts.report.sweep_document import SweepDocument
from swdc.cli.inspect_document import InspectDocument, Share
from swdc.rewriting.certificate import Certificate


class Pair(TypedDict):
    """A number before the cut, and after it."""

    before: int | None
    after: int | None


class Times(TypedDict):
    """Milliseconds before the cut, and after it."""

    before: float
    after: float


class Layer(TypedDict):
    """Parameters and operations of one call."""

    name: str
    operator: str
    parameters: int
    operations: Annotated[int, "by the convention that was asked for"]


class Totals(TypedDict):
    """Operations by each convention."""

    paper: int
    reference: int
    macs: Annotated[int, "multiply-adds"]


class CountDocument(TypedDict):
    """What ``swdc count`` prints: parameters and operations for one sample, or for the sizes that were given."""

    model: str
    convention: str
    parameters: int
    operations: int
    macs: Annotated[int, "multiply-adds"]
    before: Annotated[dict[str, int] | None, "totals of the program from which a slim program was cut"]
    sizes: Annotated[dict[str, int], "dynamic sizes that are counted for"]
    layers: list[Layer]
    formula: Annotated[str, "operations over the names of the dynamic sizes"]
    totals: Totals
    notes: list[str]


class SlimLayer(TypedDict):
    """One layer before and after the cut."""

    name: str
    operator: str
    width: Annotated[Pair, "channels that it writes; null if it is no module"]
    parameters: Pair
    operations: Annotated[Pair, "by the paper's convention"]
    macs: Annotated[Pair, "multiply-adds"]


class Latency(TypedDict):
    """Times in onnxruntime, for a batch as in the example inputs."""

    threads: int
    batch: int
    predicted_ms: Times
    measured_ms: Annotated[Times | None, "medians; null if the programs cannot be run"]
    reason: Annotated[str | None, "why nothing was measured"]


class SlimDocument(TypedDict):
    """What ``swdc slim`` prints; numbers are for one sample."""

    model: str
    exact: Annotated[bool | None, "null if the weights were streamed, so that nothing was run"]
    max_relative_error: float | None
    reason: Annotated[str | None, "why it is not exact"]
    parameters: Pair
    operations: Annotated[Pair, "by the paper's convention"]
    macs: Annotated[Pair, "multiply-adds"]
    conventions: Annotated[dict[str, Pair], "operations by each convention"]
    layers: list[SlimLayer]
    groups: Annotated[dict[str, Pair], "channels of each group"]
    settings: Annotated[dict[str, Any], "how the plan was made: the arguments of swdc.plan"]
    certificate: Certificate | None
    notes: list[str]
    onnx: OnnxFile | None
    latency: Annotated[Latency | None, "with --budget latency"]
    out: Annotated[str | None, "the folder; null if nothing was written"]
    report: Annotated[str | None, "the page of --report"]


class OnnxDocument(OnnxFile):
    """What ``swdc export`` prints for an ONNX file."""

    model: str
    notes: list[str]


class TorchDocument(TypedDict):
    """What ``swdc export`` prints for a file of torch.export (.pt2)."""

    model: str
    path: str
    file_bytes: int
    max_relative_error: float
    batches: list[int]
    fixed: list[str]
    notes: list[str]


class QuantizeDocument(TypedDict):
    """What ``swdc quantize`` prints."""

    float: Annotated[str, "the float file"]
    path: Annotated[str, "the int8 file"]
    score: Annotated[float, "of the metric; agreement with the float file by default"]
    float_score: float
    file_bytes: int
    float_bytes: int
    latency_ms: Annotated[float, "milliseconds, median on the first batch, one thread"]
    float_latency_ms: Annotated[float, "milliseconds"]
    samples: Annotated[int, "in the first batch"]
    reduced_range: Annotated[bool, "weights of seven bits"]
    quantized: Annotated[list[str], "nodes in int8"]
    in_float: Annotated[dict[str, float], "nodes that stay, with the relative error that each would add"]


class VerifyDocument(TypedDict):
    """What ``swdc verify`` prints."""

    made: Annotated[str, "the folder or file"]
    model: str
    exact: bool
    finding: Annotated[str, "in words"]
    certificate: Annotated[Certificate, "of the programs that were made anew from the model"]


class Milliseconds(TypedDict):
    """Medians of a run in onnxruntime, one thread; ``dense`` is the network trained without SWD."""

    dense: float
    slim: float


class DemoReport(TypedDict):
    """The file ``report.json`` of ``swdc demo``."""

    network: str
    seed: int
    epochs: Annotated[int, "of each of the two trainings"]
    accuracy_dense: Annotated[float, "of the network trained without SWD, from 0 to 1"]
    accuracy_swd: Annotated[float, "of the network trained with SWD, before anything is removed, from 0 to 1"]
    accuracy_masked: Share
    accuracy_slim: Share
    parameters: Pair
    operations: Annotated[Pair, "by the paper's convention"]
    macs: Annotated[Pair, "multiply-adds"]
    exact: bool
    max_relative_error: float
    onnx_max_relative_error: float
    latency_ms: Milliseconds
    latency_batch: Annotated[int | None, "samples in a run; null for the whole graph of gcn"]
    seconds: Annotated[float, "for all of it"]


class DemoDocument(DemoReport):
    """What ``swdc demo`` prints: its report, and the certificate."""

    certificate: Certificate


class Failure(TypedDict):
    """What went wrong."""

    kind: Annotated[str, "the class of the error: PlanError, OSError, ..."]
    message: str
    exit_code: Annotated[int, "2 for input that swdc cannot use, 3 for a defect of swdc"]


class ErrorDocument(TypedDict):
    """What a command prints with ``--json`` if it fails, in the place of its document."""

    error: Failure


class LatencyFile(TypedDict):
    """The file in which measured times are kept: one for each machine, version of onnxruntime and number of threads."""

    format: Annotated[int, "the version of this form"]
    machine: Annotated[str, "name, system, processor, number of processors"]
    onnxruntime: Annotated[str, "its version"]
    threads: int
    times: Annotated[
        dict[str, dict[str, float]], "milliseconds, by the layer's signature, then by its sizes, as 1,64,64"
    ]


PRINTED: dict[str, tuple[Any, ...]] = {
    "inspect": (InspectDocument,), "count": (CountDocument,), "slim": (SlimDocument,),
    "export": (OnnxDocument, TorchDocument), "quantize": (QuantizeDocument,), "verify": (VerifyDocument,),
    "sweep": (SweepDocument,), "demo": (DemoDocument,), "compress": (CompressDocument,),
}  # fmt: skip
"""What each command prints with ``--json``, unless it fails."""
