"""Export to ONNX: every file is checked and run in onnxruntime before it takes its place."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swdc.artifacts.comparison import Comparison
from swdc.artifacts.exportable import check_exportable
from swdc.artifacts.metadata import metadata_of
from swdc.artifacts.onnx.count import MacsCheck, check_macs
from swdc.artifacts.onnx.exporter import in_float32
from swdc.artifacts.onnx.placing import check_place, place
from swdc.artifacts.onnx.runtime import latency_ms, run_onnx
from swdc.artifacts.onnx.stages import Stage, Writer, Written
from swdc.errors import ExportError
from swdc.ir.argument_types import checked
from swdc.ir.atomic_files import workspace, writing
from swdc.ir.program import Program
from swdc.ops.in_place import written
from swdc.rewriting.certificate import Certificate
from swdc.rewriting.deploy import deploy as deployed_program

__all__ = ["OnnxReport", "Stage", "export_onnx", "latency_ms", "run_onnx"]


@dataclass(frozen=True)
class OnnxReport:
    """The exported file, its operator set, its size in bytes with external data, and its error.

    ``max_relative_error`` is the largest over all runs. ``batches`` are the batch sizes that were run; it is empty
    if the inputs have no batch. ``fixed`` names the sizes that may change in the program, but not in the file.
    ``stages`` are the files that were made and compared one after another. ``macs`` are the multiply-adds of one
    sample counted in the file. They exceed those of ``swdc.count`` by ``macs_difference``; ``explanation`` gives the
    reasons, operator by operator.
    """

    path: Path
    opset: int
    file_bytes: int
    max_relative_error: float
    batches: tuple[int, ...]
    fixed: tuple[str, ...]
    stages: tuple[Stage, ...]
    macs: int
    macs_difference: int
    explanation: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for JSON."""
        return {
            **asdict(self), "path": str(self.path), "batches": list(self.batches), "fixed": list(self.fixed),
            "stages": [asdict(stage) for stage in self.stages], "explanation": list(self.explanation),
        }  # fmt: skip


@checked(ExportError, on_cpu=True)
def export_onnx(
    program: Program,
    path: str | os.PathLike[str],
    opset: int | None = None,
    batches: Sequence[int] = (1, 3),
    tolerance: float = 1e-4,
    deploy: bool = False,
    certificate: Certificate | None = None,
) -> OnnxReport:
    """Write a program to an ONNX file that computes what the program computes in evaluation, in float32.

    Sizes that are symbolic in the program stay dynamic; the batch size is named ``batch``. If torch cannot export them,
    or the file is wrong at other sizes, only the batch stays dynamic; a warning and the report say so. Inputs have the
    names of the placeholders of the graph. Outputs are named after their place in the program's result: ``output`` if
    it is one tensor, ``logits`` for that key of a dict, ``output_0`` in a tuple. Arguments and results that are not
    tensors are left out, and so are checks of values (``torch._assert``). Weights beyond 2 GB go to a second file,
    ``<name>.data`` (``<name>.other.data`` if the file that is replaced uses that name).

    The metadata of the file holds parameters, operations (the paper's count) and multiply-adds, before and after.
    For a slim or masked program it holds the plan (``swdc.plan``) and its hash (``swdc.plan.sha256``). If a
    ``certificate`` is given, it holds whether the certificate is exact, its largest error, its seed, and the hashes of
    the programs that it is for (``swdc.certificate.*``). Metadata prove nothing of a file; ``swdc verify`` runs it.

    With ``deploy`` the program goes through ``swdc.deploy`` first, and the file is written twice: as exported, and
    after the optimizer of onnxscript. If the optimizer fails or changes the function, the first file is kept, and the
    report says so. Both files are compared with the given program, and timed on one sample and one thread.

    Every file is checked, then run in onnxruntime on fresh random inputs: at each of the batch sizes, or twice
    at the size of the example if the inputs have no batch, then at other sizes if the program takes any. Raises
    ``ExportError`` if the program cannot be exported, if an output differs by more than ``tolerance`` (relative to its
    largest magnitude), or if the certificate belongs to another plan or to other weights; then no file is written, and
    an existing file stays as it was. So it does if the process is killed. Links, devices and folders are not replaced
    (``ExportError``). The program is not changed.

    Example::

        report = swdc.export_onnx(slim, "slim.onnx", deploy=True)
    """
    target = Path(path)
    check_place(target)
    check_exportable(program, batches, tolerance, certificate, "the tools of its library")
    reference = in_float32(program)
    source = in_float32(deployed_program(program)) if deploy else reference
    _warn_of_state(source)
    comparison = Comparison(reference, batches, tolerance)
    writer = Writer(source, comparison, metadata_of(program, source, certificate), opset, deploy)
    with writing(target, ExportError), workspace(target.parent) as folder:
        made = writer.write(folder, target.name)
        checked = check_macs(source, made.file)
        place(made.file, target)
    return _report(target, made, comparison.batches, checked)


def _warn_of_state(program: Program) -> None:
    """Warn of buffers that a program changes, because a file cannot."""
    names = sorted(written(program.graph))
    if names:
        warnings.warn(
            f"the program changes {', '.join(names)} in every call; the file does not, and every run starts from the "
            f"values stored in it",
            stacklevel=4,
        )


def _report(target: Path, made: Written, batches: tuple[int, ...], checked: MacsCheck) -> OnnxReport:
    last = next(stage for stage in reversed(made.stages) if stage.kept)
    assert last.file_bytes is not None
    assert last.max_relative_error is not None
    explanation = tuple(map(str, checked.explanation))
    return OnnxReport(
        target, made.opset, last.file_bytes, last.max_relative_error, batches, made.fixed, made.stages,
        checked.macs, checked.difference, explanation,
    )  # fmt: skip
