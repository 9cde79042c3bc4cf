"""Export to ONNX: every file is checked and run in onnxruntime before it takes its place."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx
import torch
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree

from swdc.captured import RECORD
from swdc.count import totals
from swdc.errors import ExportError
from swdc.onnx_signature import dynamic_sizes, flattened, name_values, output_names
from swdc.program import Program, need_values
from swdc.runtime import feed, latency_ms, open_session, run_onnx, run_session
from swdc.samples import flat_outputs, relative_error, sample_inputs

__all__ = ["OnnxReport", "export_onnx", "latency_ms", "run_onnx"]

_SEEDS = (1, 2)
_CHATTY = ("torch", "onnxscript", "onnx_ir")


@dataclass(frozen=True)
class OnnxReport:
    """What was exported: the file, its operator set, its size with external data, and how well it agrees.

    ``max_relative_error`` is the largest over all runs; ``batches`` are the batch sizes that were run, none
    where the inputs have no batch.
    """

    path: Path
    opset: int
    file_bytes: int
    max_relative_error: float
    batches: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for JSON."""
        return {**asdict(self), "path": str(self.path), "batches": list(self.batches)}


def export_onnx(
    program: Program,
    path: str | os.PathLike[str],
    opset: int | None = None,
    batches: Sequence[int] = (1, 3),
    tolerance: float = 1e-4,
) -> OnnxReport:
    """Write a program to an ONNX file that computes what the program computes in evaluation, in float32.

    Sizes that are symbolic in the program stay dynamic; the batch is called ``batch``. Inputs are called as
    the placeholders of the graph, outputs after their place in what the program returns: ``output`` where it
    returns one tensor, ``logits`` for that key of a dict, ``output_0`` in a tuple. Arguments and results that
    are not tensors are left out. The metadata of the file holds parameters, operations (the paper's count)
    and multiply-adds, before and after. Weights beyond 2 GB go to a second file, ``<name>.data``.

    The file is checked, then run in onnxruntime on fresh random inputs: at each of the batch sizes, or twice
    at the size of the example where the inputs have no batch. Raises ``ExportError`` if the program cannot be
    exported, or if an output differs by more than ``tolerance``, relative to its largest magnitude; then no
    file is written, and one that was there stays as it was. The program is not changed.
    """
    target = Path(path)
    if target.is_dir():
        raise ExportError(f"expected the path of a file to write, got the folder {target}; name a file in it")
    if program.facts.captured_by == RECORD:
        raise ExportError(
            "expected a program for inputs of any value, got one recorded on its example inputs; export the model "
            "that swdc.transplant gives, with the tools of its library"
        )
    need_values(program, ExportError, "an export")
    if not batches or min(batches) < 1:
        raise ExportError(f"expected positive batch sizes to run the file at, got {list(batches)}; give some")
    reference = _in_float32(program)
    exported = _exported(reference, opset)
    exported.model.metadata_props.update(_metadata(program))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
        made = Path(folder) / target.name
        _save(exported, made)
        run, worst = _compare(reference, made, batches, tolerance)
        size = _move(made, target)
    return OnnxReport(target, int(exported.model.opset_imports[""]), size, worst, run)


def _in_float32(program: Program) -> Program:
    """Return a copy in evaluation mode; one that computes in another precision is cast to float32."""
    copy = program.clone().eval()
    others = {t.dtype for t in copy.tensors.values() if t.is_floating_point()} - {torch.float32}
    if not others:
        return copy

    def cast(argument: Any) -> Any:
        return torch.float32 if isinstance(argument, torch.dtype) and argument in others else argument

    for node in copy.graph.nodes:
        if node.op == "call_function":
            node.args, node.kwargs = map_aggregate(node.args, cast), map_aggregate(node.kwargs, cast)
    copy.recompile()
    return copy.to(torch.float32)


def _exported(program: Program, opset: int | None) -> Any:
    """Return the ``torch.onnx.ONNXProgram`` of a program, with its inputs and outputs named."""
    outputs, flat = output_names(program), flattened(program)
    placeholders = [n for n in flat.graph.nodes if n.op == "placeholder"]
    example = sample_inputs(program, _example_batch(program), 0, torch.float32)
    tensors = tuple(leaf for leaf in pytree.tree_leaves(example) if isinstance(leaf, torch.Tensor))
    sizes = dynamic_sizes(program, placeholders)
    try:
        with _quiet():
            exported = torch.onnx.export(
                flat, tensors, dynamo=True, dynamic_shapes=sizes, opset_version=opset, verbose=False
            )
    except Exception as error:  # the exporter raises errors of many kinds; all mean the same to the user
        raise ExportError(
            f"expected a program that torch.onnx can export, but it fails: {_innermost(error)}; the full "
            f"report is the cause of this"
        ) from error
    assert exported is not None
    got = exported.model.opset_imports[""]
    if opset not in (None, got):
        raise ExportError(f"expected operator set {opset}, but torch.onnx could only write {got}; ask for that")
    graph = exported.model.graph
    name_values(graph, [n.name for n in placeholders], outputs)
    for node in graph.all_nodes():
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)  # names files of the exporting machine
    return exported


def _example_batch(program: Program) -> int:
    """Return the batch size of the example, but no less than two: a size of one would become fixed."""
    batch = program.facts.batch
    return 1 if batch is None else max(2, program.facts.symbols[batch])


def _metadata(program: Program) -> dict[str, str]:
    origin = program.facts.origin
    counts = {f"swdc.{name}": str(number) for name, number in totals(program).items()}
    if origin is not None:
        counts |= {f"swdc.{name}.before": str(number) for name, number in origin.before.items()}
    return {"swdc.version": version("swdc"), **counts}


def _save(exported: Any, path: Path) -> None:
    """Write the file, and have it checked."""
    with _quiet():
        exported.save(str(path))
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"expected a valid ONNX file, but the checker of onnx refuses it: {error}; try another opset"
        ) from error


def _compare(program: Program, path: Path, batches: Sequence[int], tolerance: float) -> tuple[tuple[int, ...], float]:
    """Return the batch sizes that were run, and the largest relative error; raise if it is too large."""
    session = open_session(path)
    batched = program.facts.batch is not None
    worst = 0.0
    for number in batches if batched else _SEEDS:
        args, kwargs = sample_inputs(program, number if batched else 1, number, torch.float32)
        with torch.no_grad():
            expected = [t.cpu() for t in flat_outputs(program(*args, **kwargs))]
        got = [torch.from_numpy(array) for array in run_session(session, feed(session, (args, kwargs)))]
        error = relative_error(expected, got)
        if not error <= tolerance:
            where = f"at batch {number}" if batched else f"on inputs as the example (seed {number})"
            raise ExportError(
                f"expected outputs within a relative error of {tolerance:.1e} in onnxruntime, got "
                f"{error:.1e} {where}; raise the tolerance if that is rounding; no file was written"
            )
        worst = max(worst, error)
    return tuple(batches) if batched else (), worst


def _move(made: Path, target: Path) -> int:
    """Move a file, after the weights beside it, to its place; return their size in bytes."""
    files = sorted(made.parent.iterdir(), key=lambda file: file == made)
    size = sum(file.stat().st_size for file in files)
    for file in files:
        os.replace(file, target.parent / file.name)
    return size


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and logs of the exporter: what matters to the user is raised."""
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _innermost(error: BaseException) -> str:
    """Return the first line of the error at the bottom of a chain of causes."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
