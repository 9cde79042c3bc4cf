"""Capture: from a module and example inputs to a Program."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.utils import _pytree as pytree

from swdc.capture.batch import dynamic_dims, on_meta, shared_batch, tensors_in, with_batch
from swdc.capture.captured import Captured, without_gradients
from swdc.capture.export import export
from swdc.capture.follow import follow
from swdc.capture.probe import branches_on_findings
from swdc.capture.raising import Raising, shape_of_value
from swdc.capture.record import record
from swdc.capture.restore import PutBack, buffers_kept, restored
from swdc.capture.training_differences import training_differences
from swdc.errors import TraceError
from swdc.ir.garbage import collection_paused
from swdc.ir.options import FACTORS, HEADS, POLICIES, TIED
from swdc.ir.program import Program
from swdc.ir.results import opaque, plain
from swdc.ir.tensors import is_meta, modes_kept

FIXED = "the sizes of all inputs are fixed to those of the example inputs, for the model's code depends on them"

Example = torch.Tensor | tuple[Any, ...] | list[Any] | dict[str, Any]
Inputs = tuple[tuple[Any, ...], dict[str, Any]]


def trace(model: nn.Module, example_inputs: Example, attention: str = HEADS, policy: str = TIED) -> Program:
    """Capture a model as a Program that holds the model's own parameters.

    ``example_inputs`` is a tensor, a tuple of positional arguments, or a dict of keyword arguments. The leading
    dimension that all tensors share is the batch and stays dynamic; where they share none (a graph network: node
    features and an edge list) the leading dimension of the first, and every dimension of those that differ from it,
    stay dynamic. All other sizes are those of the example.

    A model may live on the meta device, and the example inputs too.

    ``attention`` says what attentions lose where both are possible: whole ``heads``, or the same positions of every
    head, ``head_dim``. What a head is follows from the graph.

    ``policy`` says whether the two sides of a residual sum keep the same channels, ``tied``, or each its own, ``free``:
    where a batch norm follows the sum (``swdc.insert_batchnorm``), its gain decides over what is read of the sum, and
    the batch norm before a shortcut over what the shortcut brings. Other sums stay tied.

    The graph is that of evaluation; leaf modules (convolutions, norms, dropout) train as they should. What else
    differs in training is named in a warning and in ``program.facts.notes``. The model itself is not changed.

    Raises ``TraceError`` if the model cannot be run on the inputs, or cannot be captured.
    """
    if not isinstance(model, nn.Module):
        raise TraceError(f"expected a torch.nn.Module, got {type(model).__name__}; give the model itself")
    if attention not in FACTORS:
        raise TraceError(f"expected attention as one of {list(FACTORS)}, got {attention!r}")
    if policy not in POLICIES:
        raise TraceError(f"expected policy as one of {list(POLICIES)}, got {policy!r}")
    program = _program(model, _normalised(example_inputs), attention, _capture)
    program = program.with_facts(policy=policy)
    for note in program.facts.notes:
        warnings.warn(note, stacklevel=2)
    return program


def trace_recorded(model: nn.Module, example_inputs: Example, attention: str = HEADS) -> Program:
    """As ``trace``, but recorded at once: for a model of which it is known that its code depends on values."""

    def capture(model: nn.Module, args: Any, kwargs: Any, put_back: PutBack) -> tuple[Captured, bool]:
        with _quiet():
            return record(model, args, kwargs), shared_batch((args, kwargs)) is not None

    return _program(model, _normalised(example_inputs), attention, capture)


def _program(
    model: nn.Module, inputs: Inputs, attention: str, capture: Callable[..., tuple[Captured, bool]]
) -> Program:
    given = on_meta(inputs) if is_meta(model) else inputs
    with collection_paused(), modes_kept(model):
        model.eval()
        with _plain_results(model) as replaced, restored(model) as put_back:
            captured, batched = capture(model, *given, put_back)
            put_back()
            differences = (
                training_differences(model, *_at_least_two(given, batched))
                if captured.differences is None
                else captured.differences
            )
    if replaced:
        captured = replace(
            captured, notes=(*captured.notes, f"{', '.join(replaced)} comes back as a dict of its tensors")
        )
    program = Raising(model, captured, batched, inputs, differences).program()
    return program.with_facts(attention=attention).follow_modes(model)


def _normalised(example: Example) -> Inputs:
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


@contextmanager
def _plain_results(model: nn.Module) -> Iterator[dict[str, None]]:
    """Let a model return plain data while it is captured; yields the names of the classes that are replaced."""
    replaced: dict[str, None] = {}

    def hook(module: nn.Module, inputs: Any, result: Any) -> Any:
        replaced.update(dict.fromkeys(opaque(result)))
        return plain(result) if replaced else result

    handle = model.register_forward_hook(hook)
    try:
        yield replaced
    finally:
        handle.remove()


def _at_least_two(inputs: Any, batched: bool) -> Any:
    """Return the inputs with a batch of at least two, for a size of one cannot be captured as dynamic."""
    return with_batch(inputs, 2) if batched and shared_batch(inputs) == 1 else inputs


def _capture(model: nn.Module, args: Any, kwargs: Any, put_back: PutBack) -> tuple[Captured, bool]:
    """Return the first way of capture that works, and whether the inputs share a batch.

    ``put_back`` makes the model what it was before: what an attempt leaves in it must not reach the next.

    By following; by export with dynamic sizes, with those of another batch, where the model's code takes the example's
    for a constant, with fixed sizes; and by recording, where the code depends on the values of the inputs. What fails
    with gradients is tried without.
    """
    batched = shared_batch((args, kwargs)) is not None
    failures: list[Exception] = []
    followed = _attempt([], put_back, follow, model, args, kwargs, put_back)
    if followed is not None:
        return followed, batched
    if not branches_on_findings(model, args, kwargs, put_back):
        exported = _exported(failures, put_back, model, args, kwargs, batched)
        if exported is not None:
            return exported, batched
    recorded = _attempt(failures, put_back, record, model, args, kwargs)
    if recorded is not None:
        return recorded, batched
    raise TraceError(_why(model, failures[0])) from failures[0]


def _exported(
    failures: list[Exception], put_back: PutBack, model: nn.Module, args: Any, kwargs: Any, batched: bool
) -> Captured | None:
    for inputs in _examples((args, kwargs), batched):
        captured = _attempt(failures, put_back, export, model, *inputs, dynamic_dims(inputs))
        if captured is not None and (not batched or _batch_is_dynamic(captured)):
            return captured
        if failures:
            _check_runs(model, args, kwargs)
        if failures and _depends_on_values(failures[-1]):
            return None
    fixed = _attempt(failures, put_back, export, model, args, kwargs)
    return None if fixed is None else replace(fixed, notes=(*fixed.notes, FIXED))


def _examples(inputs: Any, batched: bool) -> list[Any]:
    """Return the example inputs, and those of another batch: an odd one, that no size of a model is likely to be."""
    return [_at_least_two(inputs, batched), with_batch(inputs, 7) if batched else inputs]


def _attempt(
    failures: list[Exception],
    put_back: PutBack,
    capture: Callable[..., Captured],
    model: nn.Module,
    *arguments: Any,
) -> Captured | None:
    try:
        with _quiet(), without_gradients() if failures else nullcontext():
            return capture(model, *arguments)
    except TraceError:
        raise
    except Exception as error:  # capture raises errors of many kinds; all of them mean the same to the user
        failures.append(error)
        return None
    finally:
        put_back()


def _depends_on_values(error: BaseException | None) -> bool:
    """Whether export failed for the model's code needs the value of a tensor."""
    while error is not None:
        if isinstance(error, GuardOnDataDependentSymNode | DataDependentOutputException):
            return True
        error = error.__cause__ or error.__context__
    return False


def _batch_is_dynamic(captured: Captured) -> bool:
    nodes = captured.graph.find_nodes(op="placeholder")
    shapes = [shape_of_value(n.meta.get("val")) for n in nodes if n.name not in captured.tensors]
    return all(getattr(shape[0], "is_symbol", False) for shape in shapes if shape)


def _check_runs(model: nn.Module, args: Any, kwargs: Any) -> None:
    """Raise ``TraceError`` if a model cannot be run on the inputs."""
    shapes = [tuple(t.shape) for t in tensors_in((args, kwargs))]
    try:
        with torch.no_grad(), buffers_kept(model):
            model(*args, **kwargs)
    except Exception as failure:  # whatever the user's model raises
        raise TraceError(
            f"expected example inputs that {type(model).__name__} can run on, got shapes {shapes}, on which it fails "
            f"with {type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else failure}; "
            f"give inputs as the model's forward takes them"
        ) from failure


def _why(model: nn.Module, error: Exception) -> str:
    detail = str(error).strip().splitlines()
    return (
        f"expected a model that torch.export can capture, but {type(model).__name__} is not: "
        f"{detail[0] if detail else error}; make its control flow and shapes independent of the values of its inputs "
        f"(the full report is the cause of this)"
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
