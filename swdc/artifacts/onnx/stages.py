"""The files on the way to the final one: each is written, checked, compared with the program and, to deploy, timed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch

from swdc.artifacts.comparison import SEEDS, Comparison, OtherSizesError, Run
from swdc.artifacts.onnx.exporter import UnexportableError, exported, innermost, optimize, save
from swdc.artifacts.onnx.runtime import feed, latencies_ms, open_session, run_session
from swdc.errors import ExportError, portable
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs


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
class Written:
    """A file, its operator set, the stages on the way to it, and the sizes that are ``fixed`` in it alone."""

    file: Path
    opset: int
    stages: tuple[Stage, ...]
    fixed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Writer:
    """Writes the file of a program in several stages. ``metadata`` goes into it, ``deploy`` asks for all stages."""

    source: Program
    comparison: Comparison
    metadata: Mapping[str, str]
    opset: int | None
    deploy: bool

    def write(self, folder: Path, name: str) -> Written:
        """Write the file somewhere in a folder, with all sizes free that are free in the program.

        If torch cannot export it so, or the file is wrong at other sizes than the example's, only the batch is free,
        and a warning says why. Raises ``ExportError`` if that does not help.
        """
        facts = self.source.facts
        inner = tuple(sorted(facts.symbols.keys() - {facts.batch}))
        try:
            return self._written(folder / "free", name, ())
        except (OtherSizesError, UnexportableError) as error:
            if not inner:
                raise
            found = self._written(folder / "fixed", name, inner)
            warnings.warn(
                f"the file takes {', '.join(inner)} as in the example alone; with free sizes: {portable(str(error))}",
                stacklevel=4,
            )
            return found

    def _written(self, folder: Path, name: str, fixed: tuple[str, ...]) -> Written:
        """Write the file as exported, and after the optimizer; keep the first if the second fails."""
        made = exported(self.source, self.opset, fixed, optimized=not self.deploy)
        made.model.metadata_props.update(self.metadata)
        first, second = folder / "exported" / name, folder / "optimized" / name
        for file in (first, second):
            file.parent.mkdir(parents=True)
        opset = int(made.model.opset_imports[""])
        save(made, first)
        before = self._stage("exported", first, fixed)
        if not self.deploy:
            return Written(first, opset, (before,), fixed)
        files = [first, second]
        after = self._optimized(made, second, fixed)
        if not after.kept:
            files = [first]
        times = latencies_ms(files, sample_inputs(self.source, 1, SEEDS[0], torch.float32))
        timed = [replace(stage, latency_ms=time) for stage, time in zip((before, after), times, strict=False)]
        return Written(files[-1], opset, (*timed, *(before, after)[len(timed) :]), fixed)

    def _optimized(self, made: torch.onnx.ONNXProgram, file: Path, fixed: tuple[str, ...]) -> Stage:
        """Optimize what was exported into a file, and return its stage: not kept if that fails or differs."""
        try:
            optimize(made, self.source)
            save(made, file)
        except Exception as error:  # the optimizer raises errors of many kinds
            return Stage(
                "optimized", kept=False, reason=str(error) if isinstance(error, ExportError) else innermost(error)
            )
        try:
            return self._stage("optimized", file, fixed)
        except ExportError as error:
            return Stage("optimized", kept=False, reason=str(error))

    def _stage(self, name: str, file: Path, fixed: tuple[str, ...]) -> Stage:
        """Return the stage of a file. Raises ``ExportError`` if the file computes something else."""
        error = self.comparison.error(running(file), everywhere=not fixed)
        nodes = len(onnx.load(file, load_external_data=False).graph.node)
        return Stage(name, sum(each.stat().st_size for each in file.parent.iterdir()), nodes, error)


def running(file: Path) -> Run:
    """Return what runs a file in onnxruntime, which is opened once."""
    session = open_session(file)
    return lambda given: [torch.from_numpy(array) for array in run_session(session, feed(session, given))]
