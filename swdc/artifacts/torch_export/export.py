"""Export to torch's own format: an ``ExportedProgram`` that runs without swdc, compared before it takes its place."""

from __future__ import annotations

import inspect
import json
import os
import warnings
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.artifacts.comparison import Comparison, RefusedSizesError, Run
from swdc.artifacts.exportable import check_exportable
from swdc.artifacts.metadata import metadata_of
from swdc.artifacts.torch_export.conditions import asking
from swdc.errors import ExportError, brief, told_as
from swdc.ir.argument_types import checked
from swdc.ir.atomic_files import locked, need_plain_file, why, workspace, writing
from swdc.ir.differences import flat_outputs
from swdc.ir.dtypes_and_devices import float_types
from swdc.ir.graph import SHAPE
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from swdc.rewriting.certificate import Certificate
from swdc.rewriting.deploy import deploy as deployed_program

SUFFIX, FACTS = ".pt2", "swdc.json"
"""How torch wants such files to be called, and the name under which a file holds what it says of itself."""


@dataclass(frozen=True)
class ExportReport:
    """The exported file, its size in bytes, its error, and the batch sizes that it was run at.

    ``batches`` is empty if the inputs have no batch. ``fixed`` names the sizes that may change in the program, but not
    in the file.
    """

    path: Path
    file_bytes: int
    max_relative_error: float
    batches: tuple[int, ...]
    fixed: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for JSON."""
        return {**asdict(self), "path": str(self.path), "batches": list(self.batches), "fixed": list(self.fixed)}


@checked(ExportError, on_cpu=True)
def export(
    program: Program,
    path: str | os.PathLike[str],
    batches: Sequence[int] = (1, 3),
    tolerance: float | None = None,
    deploy: bool = False,
    certificate: Certificate | None = None,
) -> ExportReport:
    """Write a program as a file of ``torch.export`` (``.pt2``) that computes what it computes in evaluation.

    ``torch.export.load(path).module()`` runs the file without swdc, and other tools of PyTorch (AOTInductor,
    ExecuTorch) start from it. Arguments and results have the structure that the model's have. Sizes that are symbolic
    in the program stay dynamic. The file refuses sizes for which the program does not stand, and sizes so small that
    one on the way becomes one. If torch cannot export that, only the batch stays dynamic, and a warning and the report
    say so. Buffers that the program changes are changed by the file, too. ``deploy`` rewrites the program with
    ``swdc.deploy`` first.

    The file is loaded and compared with the program in the program's own types: at each of the ``batches`` (twice at
    the size of the example if the inputs have no batch), then at other sizes if the program takes any. ``tolerance`` is
    relative to the largest magnitude of an output; by default it is the rounding unit of the coarsest type to the power
    of 3/4 (4e-6 in float32). The file holds costs, plan and ``certificate`` as the metadata of an ONNX file do, as JSON
    under ``swdc.json`` among its extra files. Metadata prove nothing of a file.

    Raises ``ExportError`` if torch cannot export the program, if an output differs, if the path does not end in
    ``.pt2``, or if the certificate is for other weights; then no file is written, and an existing one stays as it was.
    So it does if the process is killed. Links, devices and folders are not replaced. The program is not changed.

    Example::

        report = swdc.export(slim, "slim.pt2")
        module = torch.export.load("slim.pt2").module()
    """
    target = Path(path)
    _check_target(target)
    check_exportable(program, batches, tolerance, certificate, "torch.export")
    allowed = _usual_tolerance(program) if tolerance is None else tolerance
    source = deployed_program(program) if deploy else program
    comparison = Comparison(program.clone().eval(), batches, allowed, "torch.export", None)
    facts = json.dumps(metadata_of(program, source, certificate))
    with writing(target, ExportError), workspace(target.parent) as folder:
        made, difference, fixed = _written(source, comparison, folder, target.name, facts)
        file_bytes = made.stat().st_size
        with locked(target.parent):
            _check_target(target)
            os.replace(made, target)
    return ExportReport(target, file_bytes, difference, comparison.batches, fixed)


def _check_target(target: Path) -> None:
    if target.suffix != SUFFIX:
        raise ExportError(f"expected a path that ends in {SUFFIX}, got {target}; swdc.export_onnx writes ONNX files")
    try:
        need_plain_file(target)
    except OSError as error:
        raise ExportError(f"expected the path of a file to write, but {why(error)}; give another path") from error


def _usual_tolerance(program: Program) -> float:
    return float(max((torch.finfo(dtype).eps for dtype in float_types(program)), default=torch.finfo().eps) ** 0.75)


def _written(
    source: Program, comparison: Comparison, folder: Path, name: str, facts: str
) -> tuple[Path, float, tuple[str, ...]]:
    """Write and compare the file with all sizes free, and, if that fails, with the batch free alone."""
    inner, reason = tuple(sorted(source.facts.symbols.keys() - {source.facts.batch})), ""
    try:
        found = _file(source, comparison, folder / "free" / name, facts, ())
    except ExportError as error:
        if not inner:
            raise
        found, reason = _file(source, comparison, folder / "fixed" / name, facts, inner), f"; with free sizes: {error}"
    if found[2]:
        warnings.warn(f"the file takes {', '.join(found[2])} as in the example alone{reason}", stacklevel=4)
    return found


def _file(
    source: Program, comparison: Comparison, file: Path, facts: str, fixed: Collection[str]
) -> tuple[Path, float, tuple[str, ...]]:
    exported = _exported(source, fixed)
    file.parent.mkdir()
    try:
        torch.export.save(exported, file, extra_files={FACTS: facts})
    except OSError:
        raise
    except Exception as error:  # torch has no type of its own for what it cannot write
        raise ExportError(f"expected a program that torch.export can write, but it fails: {brief(error)}") from error
    fixed = tuple(sorted({*fixed, *_became_fixed(source, exported)}))
    run = _running(file)
    try:
        return file, comparison.error(run, everywhere=not fixed), fixed
    except RefusedSizesError:  # torch refuses sizes so small that a size on the way becomes one
        return file, comparison.error(run, everywhere=True, larger=True), fixed


def _exported(source: Program, fixed: Collection[str]) -> torch.export.ExportedProgram:
    batch = 1 if source.facts.batch is None else max(2, source.facts.symbols[source.facts.batch])
    args, kwargs = sample_inputs(source, batch, 0, None)  # a batch of one would become fixed
    leaves, spec = pytree.tree_flatten((args, kwargs))
    nodes = source.graph.find_nodes(op="placeholder")
    dynamic = [
        {dim: torch.export.Dim.AUTO for dim, size in enumerate(node.meta[SHAPE]) if not _is_fixed(size, fixed)}
        if isinstance(leaf, torch.Tensor)
        else None
        for node, leaf in zip(nodes, leaves, strict=True)
    ]
    free_args, free_kwargs = pytree.tree_unflatten(dynamic, spec)
    program = asking(source)
    shapes = inspect.signature(program.forward).bind(*free_args, **free_kwargs).arguments
    try:
        return torch.export.export(program, args, kwargs, dynamic_shapes=dict(shapes), strict=False)
    except Exception as error:  # torch.export raises errors of many kinds; all mean the same to the user
        raise ExportError(f"expected a program that torch.export can export, but it fails: {brief(error)}") from error


def _is_fixed(size: Any, fixed: Collection[str]) -> bool:
    return isinstance(size, int) or {str(symbol) for symbol in size.free_symbols} <= {*fixed}


def _became_fixed(source: Program, exported: torch.export.ExportedProgram) -> set[str]:
    """Return the symbols that have one value in the exported program, which torch decides by itself."""
    nodes = {node.name: node for node in exported.graph.find_nodes(op="placeholder")}
    inputs = [
        nodes[spec.arg.name]
        for spec in exported.graph_signature.input_specs
        if spec.kind is torch.export.graph_signature.InputKind.USER_INPUT
    ]
    names: set[str] = set()
    for node, made in zip(source.graph.find_nodes(op="placeholder"), inputs, strict=True):
        value = made.meta.get("val")
        if isinstance(value, torch.Tensor):
            pairs = zip(node.meta[SHAPE], value.shape, strict=True)
            names |= {str(size) for size, here in pairs if not isinstance(size, int) and isinstance(here, int)}
    return names


def _running(file: Path) -> Run:
    with told_as(ExportError, "a file that torch.export can load, got one", "no file was written"):
        module = torch.export.load(file).module()
    written = {name: buffer.clone() for name, buffer in module.named_buffers()}

    def run(given: Any) -> list[torch.Tensor]:
        args, kwargs = given
        for name, buffer in module.named_buffers():
            buffer.copy_(written[name])  # as if it had not run yet
        with torch.no_grad(), told_as(ExportError, "a file that runs, got one", "no file was written"):
            return [t.cpu() for t in flat_outputs(module(*args, **kwargs))]

    return run
