"""Static quantisation of ONNX files: eight bits where that is good enough, float where it is not."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from inspect import signature
from io import StringIO
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from swdc.artifacts.onnx.placing import check_place, parts_of, place
from swdc.artifacts.onnx.runtime import Array, feed, latencies_ms, open_session
from swdc.artifacts.quantization.layer_errors import added_errors, quantized_nodes
from swdc.artifacts.quantization.progress import Progress
from swdc.artifacts.quantization.scores import Metric, Scores
from swdc.errors import ExportError, brief, told_as
from swdc.ir.argument_types import checked
from swdc.ir.atomic_files import workspace, writing

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}
_CACHES = "calibration_cache_path" in signature(quantize_static).parameters
"""Whether this version of onnxruntime keeps the ranges of activations from one call to the next."""
_TOLD = 4
"""Batches on which the error of each layer is measured."""


@dataclass(frozen=True)
class QuantizationReport:
    """The int8 file beside the float file.

    ``score`` and ``float_score`` are those of the metric, or the agreement with the float file, which is 1 for that
    file itself. ``quantized`` nodes compute in whole numbers; those ``in_float`` would add too much error, and have the
    relative error that each of them added. Milliseconds are medians on the first batch (of ``samples``), in onnxruntime
    on one thread, where both files ran in turn.
    """

    path: Path
    score: float
    float_score: float
    file_bytes: int
    float_bytes: int
    latency_ms: float
    float_latency_ms: float
    samples: int
    reduced_range: bool
    quantized: tuple[str, ...]
    in_float: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for JSON."""
        return {**asdict(self), "path": str(self.path), "quantized": list(self.quantized)}


@checked(ExportError)
def quantize_onnx(
    path: str | os.PathLike[str],
    batches: Iterable[Any],
    out: str | os.PathLike[str],
    metric: Metric | None = None,
    most_drop: float = 0.01,
    keep: str | Iterable[str] = (),
    calibration: str = "minmax",
    reduce_range: bool | None = None,
    state: str | os.PathLike[str] | None = None,
) -> QuantizationReport:
    """Write an int8 file that onnxruntime computes about as well as the float file at ``path``.

    Weights get one scale for each channel, activations one for each tensor, found by running the float file on
    ``batches``: inputs as ``run_onnx`` takes them (``swdc.artifacts.onnx.export``). If the file loses too much, the
    layers that add the largest error stay in float, as few as are needed; ``keep`` names nodes (shell patterns) that
    stay in any case.

    ``metric`` takes a function that runs a file on inputs and returns a list of arrays; it returns a number, of which
    larger is better, and which may fall by ``most_drop``. Without it the agreement with the float file on the batches
    may: the share of samples with the same largest entry if the first output has two dimensions, otherwise one less the
    relative error of all outputs.

    ``calibration`` is ``minmax``, ``entropy`` or ``percentile``. ``reduce_range`` keeps weights to seven bits,
    because sums of products overflow on some processors (x86 without VNNI); by default it does so if eight bits are not
    good enough here. ``state`` is a folder for what was measured; a run that was killed goes on there. It belongs to
    one metric: another of the same name would get its scores.

    Raises ``ExportError`` for inputs that do not fit the file, or if the score falls too far even with all layers but
    one in float. Then no file is written, and what was at ``out`` stays, as it does if the process is killed.

    Example::

        report = swdc.quantize_onnx("slim.onnx", batches, "int8.onnx", most_drop=0.5)
    """
    source, target = Path(path), Path(out)
    check_place(target)
    with told_as(ExportError, f"the path of an ONNX file, got {path!r}", "give another path"):
        same = source.resolve() == target.resolve()
    if same:
        raise ExportError(f"expected another file to write than the float file, got {target} for both; name another")
    if not 0 <= most_drop < float("inf"):
        raise ExportError(f"expected a most_drop that is not negative, got {most_drop}; 0.01 is the default")
    if calibration not in METHODS:
        raise ExportError(f"expected a calibration of {list(METHODS)}, got {calibration!r}")
    session = open_session(source)
    feeds = [feed(session, batch) for batch in _listed(batches)]
    if not any(array.size for each in feeds for array in each.values()):
        raise ExportError("expected batches with samples in them, got none; give inputs as the model takes them")
    kept = _named(source, (keep,) if isinstance(keep, str) else tuple(keep))
    options = {"method": calibration, "keep": kept, "metric": _name_of(metric)}
    ranges = (False, True) if reduce_range is None else (reduce_range,)
    with writing(target, ExportError), workspace(target.parent) as folder:
        progress = Progress.at(state, folder, source, feeds, options)
        search = _Search(source, feeds, Scores.beside(source, metric, feeds), options, folder, progress)
        found = search.run(ranges, most_drop)
        _describe(source, found, options)
        report = _report(source, found, target, feeds[0], search.float_score, kept)
        place(found.file, target)
    return report


@dataclass(frozen=True)
class _Found:
    """A file that is good enough: with weights of seven bits, or of eight; with some layers in float."""

    file: Path
    score: float
    reduced: bool
    in_float: dict[str, float]


class _Search:
    """Finds how many layers have to stay in float."""

    def __init__(
        self, source: Path, feeds: Sequence[Mapping[str, Array]], scores: Scores, options: Mapping[str, Any],
        folder: Path, progress: Progress,
    ) -> None:  # fmt: skip
        self._source, self._feeds, self._scores, self._options = source, feeds, scores, options
        self._folder, self._progress = folder, progress
        self.float_score = scores.of(source)

    def run(self, ranges: Sequence[bool], most_drop: float) -> _Found:
        """Return the file with the fewest layers in float. Raises ``ExportError`` if no file is good enough."""
        least = self.float_score - most_drop
        for reduced in ranges:
            if self._score(reduced) >= least:
                return _Found(self._file(reduced), self._score(reduced), reduced, {})
        reduced = max(ranges, key=self._score)
        order = self._errors(reduced)
        few, enough, every = 0, 1, len(order)
        while enough < every and self._score(reduced, enough) < least:
            few, enough = enough, min(2 * enough, every)
        if enough == every:  # nothing would be left to compute in whole numbers
            raise ExportError(
                f"expected a file whose score falls by at most {most_drop:g} from {self.float_score:.4g}, but it falls "
                f"to {self._score(reduced):.4g}, and to {self._score(reduced, few):.4g} with {few} of {every} layers "
                f"in float; allow more, give more batches, try another calibration, or keep the float file"
            )
        while enough - few > 1:
            middle = (few + enough) // 2
            few, enough = (few, middle) if self._score(reduced, middle) >= least else (middle, enough)
        in_float = dict(list(order.items())[:enough])
        return _Found(self._file(reduced, enough), self._score(reduced, enough), reduced, in_float)

    def _errors(self, reduced: bool) -> dict[str, float]:
        """Return the quantised nodes, each with the error that it adds, the largest first."""
        found: dict[str, float] = self._progress.kept(
            f"errors {reduced}",
            lambda: added_errors(
                self._source, self._file(reduced), self._feeds[:_TOLD], self._folder, self._options["keep"]
            ),
        )
        return found

    def _score(self, reduced: bool, in_float: int = 0) -> float:
        score: float = self._progress.kept(
            f"score {reduced} {in_float}", lambda: self._scores.of(self._file(reduced, in_float))
        )
        return score

    def _file(self, reduced: bool, in_float: int = 0) -> Path:
        """Return the file in which the layers that add the largest errors are in float."""
        made = self._folder / f"int8_{int(reduced)}_{in_float}.onnx"
        if not made.exists():
            largest = list(self._errors(reduced))[:in_float] if in_float else []
            excluded = [*self._options["keep"], *largest]
            method = METHODS[self._options["method"]]
            with self._progress.ranges(self._folder) as ranges:
                _quantize(self._source, made, self._feeds, method, excluded, reduced, ranges)
        return made


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    """Hands out the batches one by one."""

    def __init__(self, feeds: Sequence[Mapping[str, Array]]) -> None:
        self._left = iter(feeds)

    def get_next(self) -> Mapping[str, Array] | None:
        return next(self._left, None)


def _quantize(
    source: Path, made: Path, feeds: Sequence[Mapping[str, Array]], method: CalibrationMethod,
    excluded: Sequence[str], reduced: bool, ranges: Path,
) -> None:  # fmt: skip
    """Write a file with some nodes in float; ``ranges`` keeps those of the activations from one call to the next."""
    log = logging.getLogger()
    level, cache = log.level, {"calibration_cache_path": str(ranges)} if _CACHES else {}
    try:
        log.setLevel(logging.ERROR)  # onnxruntime advises to preprocess the file, which swdc has done
        with redirect_stdout(StringIO()):  # some calibrations print what they do
            quantize_static(
                str(source), str(made), _Reader(feeds), quant_format=QuantFormat.QDQ, per_channel=True,
                reduce_range=reduced, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                nodes_to_exclude=list(excluded), calibrate_method=method,
                use_external_data_format=_bytes(source) >= 2**31, **cache,
            )  # fmt: skip
    except Exception as error:  # onnxruntime has no common class of errors
        raise ExportError(
            f"expected a file that onnxruntime can quantise, but it fails with {brief(error)}; export the program with "
            f"swdc.export_onnx(deploy=True)"
        ) from error
    finally:
        log.setLevel(level)
    if not quantized_nodes(made, excluded):
        raise ExportError(f"expected layers that onnxruntime can quantise in {source}, got none; keep the float file")


def _name_of(metric: Metric | None) -> str | None:
    return None if metric is None else getattr(metric, "__qualname__", type(metric).__qualname__)


def _listed(batches: Iterable[Any]) -> list[Any]:
    found = list(batches)
    if not found:
        raise ExportError("expected at least one batch of inputs, got none; give some that are like those in use")
    return found


def _named(source: Path, patterns: Sequence[str]) -> list[str]:
    """Return the names of the nodes that match a pattern.

    Raises ``ExportError`` for a pattern without any, and for a file that is quantised already.
    """
    nodes = onnx.load(source, load_external_data=False).graph.node
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in nodes):
        raise ExportError(f"expected a float file, got {source}, which is quantised already; give the file before that")
    names = [node.name for node in nodes]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ExportError(
                f"expected keep to name nodes of {source}, but {pattern!r} matches none; names look like "
                f"{', '.join(names[:3])}"
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]


def _report(
    source: Path, found: _Found, target: Path, arrays: Mapping[str, Array], float_score: float, kept: Sequence[str]
) -> QuantizationReport:
    slow, fast = latencies_ms([source, found.file], dict(arrays))
    samples = next(iter(arrays.values())).shape[:1]
    return QuantizationReport(
        target, found.score, float_score, _bytes(found.file), _bytes(source), fast, slow, samples[0] if samples else 1,
        found.reduced, tuple(quantized_nodes(found.file, {*kept, *found.in_float})), found.in_float,
    )  # fmt: skip


def _bytes(file: Path) -> int:
    return sum(part.stat().st_size for part in parts_of(file))


def _describe(source: Path, found: _Found, options: Mapping[str, Any]) -> None:
    """Give a file the metadata of the float file, and how it was quantised."""
    model = onnx.load(found.file, load_external_data=False)
    known = {entry.key: entry.value for entry in onnx.load(source, load_external_data=False).metadata_props}
    told = {**options, "reduce_range": found.reduced, "in_float": sorted(found.in_float)}
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {**known, "swdc.quantized": json.dumps(told)})
    onnx.save(model, found.file)
