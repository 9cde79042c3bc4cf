"""The files of a compressed network: a folder, an ONNX file, and one in int8; each is measured before it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from swdc.artifacts.compression.settings import Settings
from swdc.artifacts.folder.save import save
from swdc.artifacts.onnx.export import OnnxReport, export_onnx
from swdc.artifacts.onnx.runtime import run_onnx
from swdc.artifacts.quantization.quantize import QuantizationReport, quantize_onnx
from swdc.errors import SwdcError
from swdc.ir.program import Program
from swdc.ir.seeding import seed_all
from swdc.rewriting.deploy import deploy
from swdc.sparsity.calibration.batches import arguments_of, read
from swdc.sparsity.fingerprints import of_code
from swdc.sparsity.metrics import measured

SLIM, ONNX, INT8, MEASURED = "slim", "slim.onnx", "slim.int8.onnx", "int8"
_BATCHES = 16
"""Batches from which the ranges of activations are found for int8."""


class OnnxModel(nn.Module):
    """An ONNX file as a module, for a metric that takes a model: one tensor, or a tuple of all that the file returns.

    ``run`` takes the pair of positional and keyword arguments, and returns arrays.
    """

    def __init__(self, run: Callable[[Any], Any]) -> None:
        super().__init__()
        self._run = run

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the file."""
        found = tuple(torch.from_numpy(array) for array in self._run((args, kwargs)))
        return found[0] if len(found) == 1 else found


@dataclass(frozen=True)
class Deployed:
    """What was written, and the metric of the deployed program; notes say what could not be made, and why."""

    metric: float | None = None
    onnx: OnnxReport | None = None
    int8: QuantizationReport | None = None
    notes: tuple[str, ...] = ()


def deployed(
    program: Program,
    settings: Settings,
    least: float,
    folder: Path,
    onnx: bool,
    int8: bool,
    show: Callable[[str], None],
) -> Deployed:
    """Write a network to a folder, to an ONNX file if ``onnx``, and in int8 too if ``int8``.

    ``least`` is the metric that the int8 file must not fall below.
    """
    show("saving")
    save(program, folder / SLIM)
    if not onnx:
        return Deployed()
    metric, report = None, None
    try:
        show("deploying")
        metric = measured(settings.metric, deploy(program), settings.seed)
        show("exporting to ONNX")
        report = export_onnx(program, folder / ONNX, deploy=True)
        if not int8:
            return Deployed(metric, report)
        show("quantising")
        return Deployed(metric, report, _quantised(settings, least, folder))
    except SwdcError as error:  # the network itself is saved, and stays the result
        return Deployed(metric, report, notes=(f"{ONNX if report is None else INT8} was not written: {error}",))


def _quantised(settings: Settings, least: float, folder: Path) -> QuantizationReport:
    """Write the int8 file; its metric may fall by what the float file leaves of the fall that is allowed."""

    def score(run: Callable[[Any], Any]) -> float:
        return measured(settings.metric, OnnxModel(run), settings.seed)

    score.__qualname__ = of_code(settings.metric)
    with torch.random.fork_rng(devices=[]):
        seed_all(settings.seed)
        batches = [arguments_of(batch, settings.inputs) for batch in islice(read(settings.data), _BATCHES)]
    left = max(score(partial(run_onnx, folder / ONNX)) - least, 0.0)
    return quantize_onnx(folder / ONNX, batches, folder / INT8, score, left, state=folder / MEASURED)
