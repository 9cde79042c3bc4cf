"""Capture: from a module and example inputs to a Program."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram
from torch.utils import _pytree as pytree

from swdc.errors import TraceError
from swdc.grids import FACTORS, HEADS
from swdc.modes import modes_kept, training_differences
from swdc.program import Program
from swdc.raising import Raising, flat_sizes, shape_of_value

Example = torch.Tensor | tuple[Any, ...] | list[Any] | dict[str, Any]


def trace(model: nn.Module, example_inputs: Example, attention: str = HEADS) -> Program:
    """Capture a model as a Program that holds the model's own parameters.

    ``example_inputs`` is a tensor, a tuple of positional arguments, or a dict of keyword arguments. The leading
    dimension that all tensors share is the batch and stays dynamic; where they share none (a graph network: node
    features and an edge list) the leading dimension of the first, and every dimension of those that differ from it,
    stay dynamic. All other sizes are those of the example.

    ``attention`` says what attentions lose where both are possible: whole ``heads``, or the same positions of every
    head, ``head_dim``. What a head is follows from the graph.

    The graph is that of evaluation; leaf modules (convolutions, norms, dropout) train as they should. What else
    differs in training is named in a warning and in ``program.facts.notes``. The model itself is not changed.

    Raises ``TraceError`` if the model cannot be run on the inputs, or cannot be captured.
    """
    if not isinstance(model, nn.Module):
        raise TraceError(f"expected a torch.nn.Module, got {type(model).__name__}; give the model itself")
    if attention not in FACTORS:
        raise TraceError(f"expected attention as one of {list(FACTORS)}, got {attention!r}")
    args, kwargs = _normalised(example_inputs)
    with modes_kept(model):
        model.eval()
        exported, batched, notes = _export(model, args, kwargs)
        differences = training_differences(model, *_at_least_two(args, kwargs, batched)[:2])
    program = Raising(model, exported, batched, (args, kwargs), notes, differences).program()
    program.facts = replace(program.facts, attention=attention)
    for note in program.facts.notes:
        warnings.warn(note, stacklevel=2)
    return program.follow_modes(model)


def _normalised(example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(example, torch.Tensor):
        args = (example,)
    elif isinstance(example, dict):
        kwargs = dict(example)
    elif isinstance(example, list | tuple):
        args = tuple(example)
    if not any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves((args, kwargs))):
        raise TraceError(
            f"expected example inputs as a tensor, a tuple of arguments or a dict of keyword arguments with at least "
            f"one tensor, got {type(example).__name__}"
        )
    return args, kwargs


def _shared_leading_size(inputs: Any) -> int | None:
    """Return the size of the leading dimension that all tensors share, ``None`` if they share none."""
    sizes = {t.shape[0] if t.dim() else None for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor)}
    return sizes.pop() if len(sizes) == 1 else None


def _at_least_two(args: Any, kwargs: Any, batched: bool) -> tuple[Any, Any, Any]:
    """Return the inputs with a batch of at least two, for a size of one cannot be captured as dynamic; and the dims."""
    leading = _shared_leading_size((args, kwargs)) if batched else None

    def doubled(value: Any) -> Any:
        return torch.cat([value, value]) if isinstance(value, torch.Tensor) and leading == 1 else value

    args, kwargs = pytree.tree_map(doubled, (args, kwargs))
    tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    first = tensors[0].shape[:1]

    def dynamic(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dim() == 0:
            return None
        return {0: Dim.AUTO} if value.shape[:1] == first else dict.fromkeys(range(value.dim()), Dim.AUTO)

    dims = pytree.tree_map(dynamic, (args, kwargs))
    return args, kwargs, dims


def _export(model: nn.Module, args: Any, kwargs: Any) -> tuple[ExportedProgram, bool, list[str]]:
    """Return the exported model, whether its inputs share a batch, and what the user should know."""
    batched = _shared_leading_size((args, kwargs)) is not None
    inputs, keywords, dims = _at_least_two(args, kwargs, batched)
    fixed = "the sizes of all inputs are fixed to those of the example inputs, for the model's code depends on them"
    first: Exception | None = None
    for dynamic in (True, False):
        try:
            with _quiet():
                plain = (inputs, keywords) if dynamic else (args, kwargs)
                shapes = _by_name(model, dims) if dynamic else None
                exported = torch.export.export(model, *plain, dynamic_shapes=shapes, strict=False)
        except Exception as error:  # export raises errors of many kinds; all of them mean the same to the user
            first = first or error
            continue
        if not dynamic or not batched or _has_symbolic_input(exported):
            return exported, batched, [] if dynamic else [fixed]
    raise TraceError(_why(model, args, kwargs, first)) from first


def _has_symbolic_input(exported: ExportedProgram) -> bool:
    shapes = [shape_of_value(node.meta.get("val")) for node in exported.graph.nodes if node.op == "placeholder"]
    return any(not isinstance(size, int) for size in flat_sizes(tuple(shapes)))


def _by_name(model: nn.Module, dims: Any) -> dict[str, Any]:
    """Return dynamic dimensions by the names of the parameters of ``forward``."""
    return dict(inspect.signature(model.forward).bind(*dims[0], **dims[1]).arguments)


def _why(model: nn.Module, args: Any, kwargs: Any, error: Exception | None) -> str:
    name = type(model).__name__
    shapes = [tuple(t.shape) for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(*args, **kwargs)
    except Exception as failure:  # whatever the user's model raises
        return (
            f"expected example inputs that {name} can run on, got shapes {shapes}, on which it fails with "
            f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else failure}; "
            f"give inputs as the model's forward takes them"
        )
    detail = str(error).strip().splitlines()
    return (
        f"expected a model that torch.export can capture, but {name} is not: {detail[0] if detail else error}; make "
        f"its control flow and shapes independent of the values of its inputs (the full report is the cause of this)"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and logs of capture: what matters to the user is raised."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # a failing export prints its graph
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
