"""The masked model, and the path that a recorded model takes through its code once channels are set to zero."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import torch
from torch import nn

from swdc.artifacts.transplanting.copied_model import copied_model
from swdc.artifacts.transplanting.float64 import Tensors, wide_inputs
from swdc.artifacts.transplanting.install import put_tensors
from swdc.artifacts.transplanting.scattered import scattered
from swdc.capture.trace import Example, trace_recorded
from swdc.errors import TransplantError
from swdc.ir.dtypes_and_devices import cast_literals, default_dtype
from swdc.ir.module_tensors import tensors_of
from swdc.ir.program import Program
from swdc.rewriting.rewrites import slim


def example_of(program: Program) -> Example:
    """Return the example inputs of a program in the form that ``swdc.trace`` takes."""
    args, kwargs = program.facts.example
    return kwargs or args


def masked_model(model: nn.Module, dense: Program, slim_program: Program) -> nn.Module:
    """Return a copy of the user's model, in evaluation mode and in float64, with the removed channels set to zero.

    What is left has the values of the slim program, which may have been trained since.
    """
    masked = copied_model(model).eval()
    put_tensors(masked, scattered(dense, slim_program), dense.tensors)
    Tensors().widen(masked)
    return masked


def masked_path(model: nn.Module, dense: Program, slim_program: Program) -> tuple[Program, Program]:
    """Return the program of the masked model, in float64, and the slim program of it, with the slim tensors.

    Other weights find other boxes, and another number of them, so the recording of the dense model does not tell what
    the slim model should compute. Raises ``TransplantError`` if the masked model uses other layers.
    """
    assert slim_program.facts.origin is not None
    plan = slim_program.facts.origin.plan
    with default_dtype(torch.float64):
        masked = masked_model(model, dense, slim_program)
        path = trace_recorded(masked, wide_inputs(example_of(dense)), dense.facts.attention)
    widths = {group.name: group.width for group in path.groups}
    if any(widths.get(name) != plan.widths[name] for name in plan.kept):
        raise TransplantError(
            f"expected {type(model).__name__} to use the same layers when the removed channels are zero, but on the "
            f"example inputs it does not; trace it on inputs that use all of them, such as images with objects in them"
        )
    small = slim(path, replace(plan, program_hash=path.hash()))
    _fill(small, slim_program, set(tensors_of(model)))
    return path, small


def _fill(program: Program, source: Program, owned: Collection[str]) -> None:
    """Give a program in float64 the tensors of ``source`` that the user's model owns, and their floating type."""
    given = source.tensors
    put_tensors(program, {name: given[name] for name in program.tensors if name in given and name in owned})
    floats = {tensor.dtype for tensor in given.values() if tensor.is_floating_point()}
    if torch.float64 in floats or len(floats) != 1:
        return
    (dtype,) = floats
    cast_literals(program, (torch.float64,), dtype)
