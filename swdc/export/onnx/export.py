"""Export to ONNX: every file is checked and run in onnxruntime before it takes its place."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch

from swdc.costs.count import totals
from swdc.errors import ExportError, told_as
from swdc.export.onnx.count import MacsCheck, check_macs
from swdc.export.onnx.exporter import exported, in_float32, innermost, optimize, save
from swdc.export.onnx.placing import check_place, place
from swdc.export.onnx.runtime import feed, latencies_ms, latency_ms, open_session, run_onnx, run_session
from swdc.export.onnx.signature import example_sizes
from swdc.ir.argument_types import checked
from swdc.ir.atomic_files import why, workspace
from swdc.ir.differences import flat_outputs, relative_error
from swdc.ir.module_tensors import need_values
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from swdc.ops.in_place import written
from swdc.rewriting.certificate import Certificate, check_certificate
from swdc.rewriting.deploy import deploy as deployed_program

__all__ = ["OnnxReport", "Stage", "export_onnx", "latency_ms", "run_onnx"]

_SEEDS = (1, 2)


@dataclass(frozen=True)
class Stage:
    """One file on the way to the final one: its size in bytes with external data, and its number of nodes.

    ``max_relative_error`` compares it with the program; it is ``None`` if no file runs. ``latency_ms`` is the median
    time of a run on one sample and one thread, measured for deployment only. ``kept`` says whether the final file
    includes this stage, and ``reason`` why it does not.
    """

    name: str
    file_bytes: int | None = None
    nodes: int | None = None
    max_relative_error: float | None = None
    latency_ms: float | None = None
    kept: bool = True
    reason: str = ""


@dataclass(frozen=True)
class OnnxReport:
    """The exported file, its operator set, its size in bytes with external data, and its error.

    ``max_relative_error`` is the largest over all runs. ``batches`` are the batch sizes that were run; it is empty
    if the inputs have no batch. ``stages`` are the files that were made and compared one after another. ``macs``
    are the multiply-adds of one sample counted in the file. They exceed those of ``swdc.count`` by
    ``macs_difference``; ``explanation`` gives the reasons, operator by operator.
    """

    path: Path
    opset: int
    file_bytes: int
    max_relative_error: float
    batches: tuple[int, ...]
    stages: tuple[Stage, ...]
    macs: int
    macs_difference: int
    explanation: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for JSON."""
        return {
            **asdict(self), "path": str(self.path), "batches": list(self.batches),
            "stages": [asdict(stage) for stage in self.stages], "explanation": list(self.explanation),
        }  # fmt: skip


@checked(ExportError)
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

    Sizes that are symbolic in the program stay dynamic; the batch size is named ``batch``. Inputs have the names of
    the placeholders of the graph. Outputs are named after their place in the program's result: ``output`` if it
    is one tensor, ``logits`` for that key of a dict, ``output_0`` in a tuple. Arguments and results that
    are not tensors are left out. Weights beyond 2 GB go to a second file, ``<name>.data`` (``<name>.other.data`` if the
    file that is replaced uses that name).

    The metadata of the file holds parameters, operations (the paper's count) and multiply-adds, before and after.
    For a slim or masked program it holds the plan (``swdc.plan``) and its hash (``swdc.plan.sha256``). If a
    ``certificate`` is given, it holds whether the certificate is exact, its largest error, its seed, and the hashes of
    the programs that it is for (``swdc.certificate.*``). Metadata prove nothing of a file; ``swdc verify`` runs it.

    With ``deploy`` the program goes through ``swdc.deploy`` first, and the file is written twice: as exported, and
    after the optimizer of onnxscript. If the optimizer fails or changes the function, the first file is kept, and the
    report says so. Both files are compared with the given program, and timed on one sample and one thread.

    Every file is checked, then run in onnxruntime on fresh random inputs: at each of the batch sizes, or twice
    at the size of the example if the inputs have no batch. Raises ``ExportError`` if the program cannot be
    exported, if an output differs by more than ``tolerance`` (relative to its largest magnitude), or if the
    certificate belongs to another plan or to other weights; then no file is written, and an existing file stays as it
    was. So it does if the process is killed. Links, devices and folders are not replaced (``ExportError``). The program
    is not changed.
    """
    target = Path(path)
    check_place(target)
    if program.facts.example_only:
        raise ExportError(
            "expected a program for inputs of any value, got one recorded on its example inputs; export the model "
            "that swdc.transplant returns, with the tools of its library"
        )
    need_values(program, ExportError, "an export")
    check_certificate(program, certificate, ExportError)
    if not batches or min(batches) < 1:
        raise ExportError(f"expected positive batch sizes to run the file at, got {list(batches)}; give at least one")
    reference = in_float32(program)
    source = in_float32(deployed_program(program)) if deploy else reference
    _warn_of_state(source)
    if not 0 < tolerance < math.inf:
        raise ExportError(f"expected a tolerance that is positive and finite, got {tolerance}; 1e-4 is the default")
    made = exported(source, opset, optimized=not deploy)
    made.model.metadata_props.update(_metadata(program, source, certificate))
    comparison = _Comparison(reference, batches, tolerance)
    write = _optimized if deploy else _written
    try:
        with workspace(target.parent) as folder:
            file, stages = write(made, source, folder, target.name, comparison)
            checked = check_macs(source, file)
            place(file, target)
    except OSError as error:
        raise ExportError(
            f"expected to write {target}, but {why(error)}; give another path, or make room; what was there before "
            f"is as it was"
        ) from error
    return _report(target, int(made.model.opset_imports[""]), comparison.batches, stages, checked)


def _warn_of_state(program: Program) -> None:
    """Warn of buffers that a program changes, because a file cannot."""
    names = sorted(written(program.graph))
    if names:
        warnings.warn(
            f"the program changes {', '.join(names)} in every call; the file does not, and every run starts from the "
            f"values stored in it",
            stacklevel=4,
        )


def _report(
    target: Path, opset: int, batches: tuple[int, ...], stages: tuple[Stage, ...], checked: MacsCheck
) -> OnnxReport:
    last = next(stage for stage in reversed(stages) if stage.kept)
    assert last.file_bytes is not None
    assert last.max_relative_error is not None
    explanation = tuple(map(str, checked.explanation))
    return OnnxReport(
        target, opset, last.file_bytes, last.max_relative_error, batches, stages,
        checked.macs, checked.difference, explanation,
    )  # fmt: skip


def _written(
    made: Any, source: Program, folder: Path, name: str, comparison: _Comparison
) -> tuple[Path, tuple[Stage, ...]]:
    """Write and compare the file as exported, in a folder of its own."""
    file = _stage_file(folder, "exported", name)
    save(made, file)
    return file, (comparison.stage("exported", file),)


def _optimized(
    made: Any, source: Program, folder: Path, name: str, comparison: _Comparison
) -> tuple[Path, tuple[Stage, ...]]:
    """Write, compare and time the files before and after the optimizer; keep the first if the second fails."""
    first, (before,) = _written(made, source, folder, name, comparison)
    second = _stage_file(folder, "optimized", name)
    files = [first, second]
    try:
        optimize(made, source)
        save(made, second)
        after = comparison.stage("optimized", second)
    except Exception as error:  # the optimizer raises errors of many kinds
        reason = str(error) if isinstance(error, ExportError) else innermost(error)
        after = Stage("optimized", kept=False, reason=reason)
        files = [first]
    times = latencies_ms(files, sample_inputs(source, 1, _SEEDS[0], torch.float32))
    timed = [replace(stage, latency_ms=time) for stage, time in zip((before, after), times, strict=False)]
    return files[-1], (*timed, *(before, after)[len(timed) :])


def _stage_file(folder: Path, stage: str, name: str) -> Path:
    (folder / stage).mkdir()
    return folder / stage / name


def _metadata(program: Program, source: Program, certificate: Certificate | None) -> dict[str, str]:
    """Return the metadata of the file; ``source`` is the program as exported, ``program`` as given."""
    found: dict[str, Any] = {"swdc.version": version("swdc")}
    found |= {f"swdc.{name}": number for name, number in totals(source).items()}
    origin = program.facts.origin
    if origin is not None:
        found |= {f"swdc.{name}.before": number for name, number in origin.before.items()}
        found |= {"swdc.plan": json.dumps(origin.plan.to_dict()), "swdc.plan.sha256": origin.plan.sha256()}
        found["swdc.attention"] = program.facts.attention
        found["swdc.sizes"] = json.dumps(example_sizes(source))
    if certificate is not None:
        told = ("exact", "max_relative_error", "seed", "dense_hash", "masked_hash", "slim_hash")
        found |= {f"swdc.certificate.{name}": getattr(certificate, name) for name in told}
    return {name: str(fact).lower() if isinstance(fact, bool) else str(fact) for name, fact in found.items()}


class _Comparison:
    """Compares files with the program that they should compute."""

    def __init__(self, program: Program, batches: Sequence[int], tolerance: float) -> None:
        self.program, self.tolerance = program, tolerance
        self.batched = program.facts.batch is not None
        near = program.facts.nearest_batch
        self.batches = tuple(dict.fromkeys(near(int(batch)) for batch in batches)) if self.batched else ()

    def stage(self, name: str, path: Path) -> Stage:
        """Return the stage of a file. Raises ``ExportError`` if the file computes something else."""
        error = self._error(path)
        nodes = len(onnx.load(path, load_external_data=False).graph.node)
        return Stage(name, _size(path), nodes, error)

    def _error(self, path: Path) -> float:
        session = open_session(path)
        worst = 0.0
        for number in self.batches or _SEEDS:
            batch = number if self.batched else 1
            runs = f"a program that runs at batch {batch}, got one"
            with torch.no_grad(), told_as(ExportError, runs, "give smaller batches, if it is memory"):
                args, kwargs = sample_inputs(self.program, batch, number, torch.float32)
                expected = [t.cpu() for t in flat_outputs(self.program.clone()(*args, **kwargs))]
            got = [torch.from_numpy(array) for array in run_session(session, feed(session, (args, kwargs)))]
            error = relative_error(expected, got)
            if not error <= self.tolerance:
                where = f"at batch {number}" if self.batched else f"on inputs as the example (seed {number})"
                raise ExportError(
                    f"expected outputs within a relative error of {self.tolerance:.1e} in onnxruntime, got "
                    f"{error:.1e} {where}; raise the tolerance if that is rounding; no file was written"
                )
            worst = max(worst, error)
        return worst


def _size(file: Path) -> int:
    """Return the bytes of a file and the weights beside it."""
    return sum(each.stat().st_size for each in file.parent.iterdir())
