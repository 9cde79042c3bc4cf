"""The exporter of torch and the optimizer of onnxscript: from a program to a file that the checker of onnx accepts."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx
import torch
from torch.utils import _pytree as pytree

from swdc.artifacts.onnx.signature import dynamic_sizes, flattened, name_values
from swdc.errors import ExportError
from swdc.ir.dtypes_and_devices import cast_literals
from swdc.ir.plain_results import input_names, output_names
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs

_CHATTY = ("torch", "onnxscript", "onnx_ir")


class UnexportableError(ExportError):
    """A program that torch cannot export."""


def in_float32(program: Program) -> Program:
    """Return a copy in evaluation mode, cast to float32 if it computes in another precision."""
    copy = program.clone().eval()
    others = {t.dtype for t in copy.tensors.values() if t.is_floating_point()} - {torch.float32}
    if not others:
        return copy
    cast_literals(copy, others, torch.float32)
    return copy.to(torch.float32)


def exported(program: Program, opset: int | None, fixed: Collection[str] = (), optimized: bool = True) -> Any:
    """Return the ``torch.onnx.ONNXProgram`` of a program, with its inputs and outputs named.

    Sizes that are ``fixed`` are those of the example. Raises ``ExportError`` if torch cannot export the program, or
    cannot write this operator set.
    """
    flat = flattened(program)
    example = sample_inputs(program, _example_batch(program), 0, torch.float32)
    tensors = tuple(leaf for leaf in pytree.tree_leaves(example) if isinstance(leaf, torch.Tensor))
    sizes = dynamic_sizes(program, list(flat.graph.find_nodes(op="placeholder")), fixed)
    output_names(program)  # refuses a program that returns no tensor
    try:
        with quiet():
            made = torch.onnx.export(
                flat, tensors, dynamo=True, dynamic_shapes=sizes, opset_version=opset, verbose=False, optimize=optimized
            )
    except Exception as error:  # the exporter raises errors of many kinds; all mean the same to the user
        raise UnexportableError(
            f"expected a program that torch.onnx can export, but it fails: {innermost(error)}; the full "
            f"report is the cause of this"
        ) from error
    assert made is not None
    got = made.model.opset_imports[""]
    if opset not in (None, got):
        raise ExportError(f"expected operator set {opset}, but torch.onnx could only write {got}; ask for that one")
    _finish(made, program)
    return made


def optimize(made: Any, program: Program) -> None:
    """Run the optimizer of onnxscript on the result of ``exported``, in place. It raises errors of many kinds."""
    with quiet():
        made.optimize()
    _finish(made, program)


def save(made: Any, path: Path) -> None:
    """Write the file and check it. Raises ``ExportError`` if the checker of onnx refuses it."""
    with quiet():
        made.save(str(path))
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(
            f"expected a valid ONNX file, but the checker of onnx refuses it: {error}; try another opset"
        ) from error


def _finish(made: Any, program: Program) -> None:
    graph = made.model.graph
    name_values(graph, input_names(program), output_names(program))
    for node in graph.all_nodes():
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)  # names files of the exporting machine


def _example_batch(program: Program) -> int:
    """Return the batch size of the example, but at least two, because a size of one would become fixed."""
    batch = program.facts.batch
    return 1 if batch is None else max(2, program.facts.symbols[batch])


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings and logs of the exporter, because problems that matter to the user are raised."""
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


def innermost(error: BaseException) -> str:
    """Return the first line of the error at the bottom of a chain of causes."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
