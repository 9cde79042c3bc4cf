"""Whether an ONNX file computes what the masked model computes, in onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import onnx
import torch

from swdc.artifacts.onnx.runtime import feed, open_session, run_session
from swdc.cli.terminal.inputs import DTYPES, MOST, MOST_DIMENSIONS, InputSpec, draw
from swdc.cli.terminal.models import Source
from swdc.cli.verify.finding import Finding, remade
from swdc.errors import CommandError
from swdc.ir.graph import SHAPE
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.rewriting.cases import EVAL, Case, cases_of, result_of
from swdc.rewriting.certificate import FACTOR
from swdc.rewriting.rounding import largest, runtime_errors
from swdc.rewriting.runs import WIDE, copies_in

TOLERANCE = 1e-4
"""Largest difference of onnxruntime to the masked model, relative to the scale of an element, that is rounding."""
_BATCHES = (1, 3, 5)
_TYPES = {"float": "float32", "double": "float64", "float16": "float16", "bfloat16": "bfloat16"}


def check_onnx(file: Path, source: Source) -> Finding:
    """Return whether a file agrees with the masked model, on random inputs and at the corners of what it takes."""
    plan, attention, sizes = _metadata(file)
    session = open_session(file)
    masked, _, certificate = remade(source, _example(session, sizes, source.seed), plan, attention)
    error = _error(masked, session, source.seed)
    finding = f"onnxruntime differs from the masked model by {error:.1e} beyond the model's own rounding"
    allowed = f"each element at its own scale (at most {TOLERANCE:.0e} is rounding)"
    return Finding(certificate, error <= TOLERANCE, f"{finding}, {allowed}")


def _metadata(file: Path) -> tuple[Plan, str, dict[str, int]]:
    """Return the plan, the choice for attention and the example's size of each axis that a file names.

    Files of earlier versions name no sizes.
    """
    try:
        found = {entry.key: entry.value for entry in onnx.load(file, load_external_data=False).metadata_props}
        sizes = {str(name): int(size) for name, size in json.loads(found.get("swdc.sizes", "{}")).items()}
        return Plan.from_dict(json.loads(found["swdc.plan"])), found["swdc.attention"], sizes
    except Exception as error:  # a file that is not ONNX makes protobuf raise errors of many kinds
        raise CommandError(
            f"expected an ONNX file whose metadata name its plan, got {file}, which has none that can be read "
            f"({type(error).__name__}); export the slim program again"
        ) from error


def _example(session: Any, sizes: Mapping[str, int], seed: int) -> tuple[torch.Tensor, ...]:
    """Return random inputs of the shapes that a session names; axes without a size are 2."""
    generator = torch.Generator().manual_seed(seed)
    specs = []
    for given in session.get_inputs():
        kind = given.type.removeprefix("tensor(").removesuffix(")")
        dtype = _TYPES.get(kind, kind)
        if dtype not in DTYPES:
            raise CommandError(f"expected inputs of the types {', '.join(DTYPES)}, got {given.type}; give --input")
        shape = tuple(size if isinstance(size, int) else sizes.get(size, 2) for size in given.shape)
        if prod(map(abs, shape)) > MOST or len(shape) > MOST_DIMENSIONS or min(shape, default=1) < 1:
            raise CommandError(
                f"expected sizes from 1 that fit into memory in the file's metadata, got {shape} for {given.name}; "
                f"give --input"
            )
        specs.append(InputSpec(given.name, shape, getattr(torch, dtype)))
    return tuple(draw(spec, generator) for spec in specs)


def _error(masked: Program, session: Any, seed: int) -> float:
    """Return the largest difference to the masked program that is not its own rounding, over all cases."""
    with copies_in(masked, dtype=None) as (own,), copies_in(masked, dtype=WIDE) as (wide,):
        settings = [(EVAL, batch) for batch in _batches(masked)]
        cases = cases_of(masked, wide, settings, seed, None, everywhere=_as_free(masked, session))
        return max(_error_of(case, own, wide, session, seed) for case in cases)


def _as_free(masked: Program, session: Any) -> bool:
    """Whether a file leaves all sizes open that may change in a program; their names may differ."""
    placeholders = masked.graph.find_nodes(op="placeholder")
    free = {node.name: [not isinstance(size, int) for size in node.meta[SHAPE] or ()] for node in placeholders}
    return all(free.get(x.name) == [not isinstance(size, int) for size in x.shape] for x in session.get_inputs())


def _batches(masked: Program) -> tuple[int, ...]:
    near = masked.facts.nearest_batch
    return tuple(dict.fromkeys(map(near, _BATCHES))) if masked.facts.batch is not None else _BATCHES[:1]


def _is_other(exact: torch.Tensor, rounded: torch.Tensor, got: torch.Tensor) -> bool:
    """Whether a result has another type, or whole numbers or truth values differ: no rounding does that.

    Files hold bfloat16 as float32.
    """
    known = {rounded.dtype, torch.float32} if rounded.dtype == torch.bfloat16 else {rounded.dtype}
    if got.dtype not in known:
        return True
    if rounded.is_floating_point() or rounded.is_complex():
        return False
    same_shape = exact.shape == rounded.shape == got.shape
    return not (same_shape and bool(((got == rounded) | (got == exact)).all()))


def _error_of(case: Case, own: Program, wide: Program, session: Any, seed: int) -> float:
    exact, rounded = result_of(wide, case, seed, WIDE), result_of(own, case, seed, None)
    for result in (exact, rounded):
        if result.error is not None:
            raise result.error
    got = [torch.from_numpy(array) for array in run_session(session, feed(session, case.inputs))]
    if any(map(_is_other, exact.outputs, rounded.outputs, got)):
        return float("inf")
    return largest(runtime_errors(exact.outputs, rounded.outputs, got, FACTOR))
