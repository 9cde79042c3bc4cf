"""Which networks trace, slim and are proven equal."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from swdc.bench.catalogue import Entry, entry
from swdc.bench.randomise import randomise_
from swdc.count import count
from swdc.errors import ExportError, SwdcError
from swdc.onnx import export_onnx
from swdc.program import Program
from swdc.rewrite import mask, slim
from swdc.sparsity.planning import plan
from swdc.trace import trace
from swdc.verify import verify

LEAST_REDUCTION = 0.45
"""Half of the channels of each group gone must take at least this share of the parameters."""

Row = dict[str, Any]


def zoo(names: Iterable[str], seed: int = 0, announce: Callable[[str], None] = lambda name: None) -> Iterator[Row]:
    """Cut half of each group's channels of each network, with random weights, and yield a row for each.

    ``reason`` is empty where everything holds: an exact certificate, at least 45 % fewer parameters, and an ONNX file
    that onnxruntime computes alike.
    """
    for name in names:
        announce(name)
        yield measure(entry(name), seed)


def measure(network: Entry, seed: int = 0) -> Row:
    """Trace, cut, certify and export one network."""
    start = time.perf_counter()
    row: Row = {
        "name": network.name, "exact": False, "max_relative_error": None, "parameters_before": None,
        "parameters_after": None, "operations_before": None, "operations_after": None, "effect": None,
        "onnx": False, "onnx_max_relative_error": None,
    }  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reason = _fill(row, network, seed)
    except SwdcError as error:
        reason = f"{type(error).__name__}: {error}"
    return {**row, "seconds": round(time.perf_counter() - start, 2), "reason": reason}


def _fill(row: Row, network: Entry, seed: int) -> str:
    """Fill in the row, and return what is not met."""
    torch.manual_seed(seed)
    model, inputs = network.model(), network.inputs()
    program = trace(randomise_(model, seed).eval(), inputs)
    chosen = plan(program, 0.5, scope="group")
    small = slim(program, chosen)
    certificate = verify(mask(program, chosen), small)
    before, after = count(program), count(small)
    row.update(
        exact=certificate.exact, max_relative_error=certificate.max_relative_error, effect=certificate.effect,
        parameters_before=before.parameters, parameters_after=after.parameters,
        operations_before=before.operations, operations_after=after.operations,
    )  # fmt: skip
    reasons = []
    if not certificate.exact:
        reasons.append(f"certificate: {certificate.first_difference or '; '.join(certificate.notes)}")
    if after.parameters > (1 - LEAST_REDUCTION) * before.parameters:
        reasons.append(f"only {1 - after.parameters / before.parameters:.1%} of the parameters went")
    return "; ".join([*reasons, *_export(row, small)])


def _export(row: Row, program: Program) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = export_onnx(program, Path(folder) / "slim.onnx")
        except ExportError as error:
            return [f"onnx: {error}"]
    row.update(onnx=True, onnx_max_relative_error=report.max_relative_error)
    return []
