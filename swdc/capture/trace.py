"""Capture: turns a module and example inputs into a Program."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from swdc.capture.agreement import Agreement
from swdc.capture.batch import at_least_two, on_meta, shared_batch, tensors_in
from swdc.capture.by_recording import Record
from swdc.capture.captured_graph import Captured, stopped_gradients
from swdc.capture.caught_errors import caught_errors
from swdc.capture.evaluation import check_parameters, in_evaluation
from swdc.capture.left_behind import asked_of_torch, left_behind, with_what_is_unasked
from swdc.capture.own_gradients import functions_applied, hooks_on_results, lost_gradients, lost_hooks, unheard_hooks
from swdc.capture.raising import Raising, differs_in_training
from swdc.capture.refusals import check_example, told
from swdc.capture.restore import restored
from swdc.capture.training_differences import training_differences
from swdc.capture.way import CannotCapture, Inputs, Subject, Way
from swdc.capture.ways import WAYS, capture
from swdc.errors import TraceError
from swdc.ir.argument_types import checked
from swdc.ir.conditions import broken
from swdc.ir.distributed import is_spread
from swdc.ir.gc_pause import collection_paused
from swdc.ir.handed_state import without_state
from swdc.ir.module_tensors import is_meta, tensors_of
from swdc.ir.plain_results import capturable
from swdc.ir.program import Program
from swdc.ir.result_classes import register_dataclasses
from swdc.ir.trace_options import FACTORS, HEADS, POLICIES, TIED

_NOTHING = "None, because the model takes it again in its next call; under another name it is returned"
"""What takes the place of a state that a model hands from call to call."""

Example = torch.Tensor | tuple[Any, ...] | list[Any] | dict[str, Any]


@checked(TraceError)
def trace(
    model: nn.Module,
    example_inputs: Example,
    attention: str = HEADS,
    policy: str = TIED,
    check: bool = True,
    dynamic: Sequence[str] | None = None,
) -> Program:
    """Capture a model as a Program that holds the model's own parameters.

    ``example_inputs`` is a tensor, a tuple of positional arguments, or a dict of keyword arguments. Every size in which
    the model's own code works at other sizes may change, except for sizes of one: those may broadcast. The leading
    dimension that all tensors share is the batch. ``program.facts.symbols`` names the sizes that may change
    (``batch``, ``height``, ``width``, ``depth``, ``length``, ``nodes``, ``edges``, ``points``),
    ``program.facts.conditions`` says for which sizes the program stands, and ``program.facts.fixed`` which line of
    code fixes a size. ``explain()`` tells all three. ``dynamic`` lists the names of the sizes that have to be free; all
    others are those of the example.

    The model and the example inputs may live on the meta device.

    Three ways of capture are tried in turn. First the model is followed: it runs on tensors without values. If that
    fails, ``torch.export`` exports it. If that fails too, the model is recorded on the example inputs, and the program
    is valid for these inputs only. ``program.facts.captured_by`` names the way that worked, and
    ``program.facts.attempts`` says why the ways before it failed. Both are logged to the logger ``swdc``.

    ``attention`` says what an attention loses if both are possible: whole heads (``heads``), or the same positions of
    every head (``head_dim``). The graph shows what a head is.

    ``policy`` says whether the two sides of a residual sum keep the same channels (``tied``), or each keeps its own
    (``free``). ``free`` applies to sums that a batch norm follows (``swdc.insert_batchnorm``): the gain of that norm
    decides which channels of the sum are read, and the batch norm before a shortcut decides which channels the
    shortcut brings. Other sums stay tied.

    The graph is that of evaluation; leaf modules (convolutions, norms, dropout) follow the training mode. A warning and
    ``program.facts.notes`` name all else that differs in training. The model itself is not changed.

    With ``check``, model and program run on the example and on another batch, and a way of capture whose program
    differs from the model is not taken. A program of a model that does something else at another batch has fixed sizes.
    Notes tell if the model computes something else with gradients, or when it is called again. Nothing runs on the
    meta device. Without ``check``, capture takes the time and memory of about four runs of the model less, and copies
    no parameters.

    Raises ``TraceError`` if the model cannot be run on the inputs, or cannot be captured, or if a size in ``dynamic``
    cannot change; the ``attempts`` of the error
    say why each way failed.

    Example::

        program = swdc.trace(model, torch.randn(2, 3, 8, 8))
    """
    if attention not in FACTORS:
        raise TraceError(f"expected attention as one of {list(FACTORS)}, got {attention!r}")
    if policy not in POLICIES:
        raise TraceError(f"expected policy as one of {list(POLICIES)}, got {policy!r}")
    with told(model):
        wanted = None if dynamic is None else frozenset(dynamic)
        program = _program(model, _normalised(model, example_inputs), attention, WAYS, check, wanted)
        program = program.with_facts(policy=policy)
    missing = sorted((wanted or set()) - program.facts.symbols.keys())
    if missing:
        raise TraceError(
            f"expected {missing[0]} as a size that may change, but those that may are {sorted(program.facts.free)}; "
            f"leave it out of dynamic"
        )
    for note in program.facts.notes:
        warnings.warn(note, stacklevel=3)  # the caller of the function that is checked
    return program


def trace_recorded(model: nn.Module, example_inputs: Example, attention: str = HEADS) -> Program:
    """Capture as ``trace`` does, but record at once: for a model whose code is known to depend on values."""
    with told(model):
        return _program(model, _normalised(model, example_inputs), attention, (Record(),), check=False)


def trace_everything(model: nn.Module, example_inputs: Example, attention: str, by: str) -> Program:
    """Capture as one way does, but leave in the graph what the model computes and does not use."""
    ways = [way for way in WAYS if way.name == by]
    with told(model):
        return _program(model, _normalised(model, example_inputs), attention, ways, check=False, everything=True)


def _program(
    model: nn.Module,
    inputs: Inputs,
    attention: str,
    ways: Iterable[Way],
    check: bool,
    dynamic: frozenset[str] | None = None,
    everything: bool = False,
) -> Program:
    given = on_meta(inputs) if is_meta(model) else inputs
    _check_values(model, given)
    checks = check and _has_values(model, given)
    with (
        collection_paused(),
        in_evaluation(model) as switches,
        _plain_results(model) as replaced,
        functions_applied() as applied,
        hooks_on_results() as hooked,
        asked_of_torch() as asked,
        restored(model, given, checks, thorough=switches) as put_back,
    ):
        agreement = Agreement(model, given, put_back) if checks else None
        if agreement is not None:
            agreement.begin()
            check_parameters(model, put_back)

        def made(captured: Captured) -> Program:
            notes = (*captured.notes, *_untrained(model, captured, applied), *_opened(replaced))
            notes = (*notes, *caught_errors(model, captured.graph))
            raised = _raised(model, replace(captured, notes=notes), given, inputs, everything)
            program = raised.follow_modes(model)
            if agreement is not None:
                return agreement.check(program, captured)
            if captured.empties or captured.assumed:
                raise CannotCapture("nobody has compared it with the model where its code goes another way")
            missed = broken(program.facts.conditions, program.facts.symbols)
            if missed is not None:
                raise CannotCapture(f"the example does not meet {missed}")
            return program

        program = capture(Subject(model, given, put_back, dynamic, checks), ways, made)
        if agreement is not None and not agreement.trains_alike(program):
            program = _with_notes(program, differs_in_training([""]))
        program = with_what_is_unasked(_with_notes(program, *lost_hooks(hooked)), asked)
    return program.with_facts(attention=attention, by_name=_by_name(model, inputs)).follow_modes(model)


def _raised(model: nn.Module, captured: Captured, given: Inputs, inputs: Inputs, everything: bool) -> Program:
    """Return the program of a graph that was captured on the inputs ``given``; ``inputs`` are those of the caller."""
    differences = captured.differences
    if differences is None:
        differences = tuple(training_differences(model, *at_least_two(given)))
    return Raising(model, captured, shared_batch(given) is not None, inputs, differences).program(everything)


def _untrained(model: nn.Module, captured: Captured, applied: Iterable[str]) -> tuple[str, ...]:
    """Return notes on gradients of the model that those of its program are not, and on what the program lacks."""
    stopped = () if captured.example_only else stopped_gradients(model, captured)  # records run without gradients
    return (*stopped, *lost_gradients(applied), *unheard_hooks(model), *left_behind(model))


def _opened(names: Mapping[str, str]) -> tuple[str, ...]:
    """Return notes on classes whose objects a program returns as plain data, by what they come back as."""
    kinds = dict.fromkeys(names.values())
    named = {kind: ", ".join(name for name, other in names.items() if other == kind) for kind in kinds}
    return tuple(f"{those} comes back as {kind}" for kind, those in named.items())


def _with_notes(program: Program, *notes: str) -> Program:
    return program.with_facts(notes=tuple(dict.fromkeys([*program.facts.notes, *notes]))) if notes else program


def _check_values(model: nn.Module, inputs: Inputs) -> None:
    tensors = tensors_of(model).values()
    if tensors and not any(t.is_meta for t in tensors) and any(t.is_meta for t in tensors_in(inputs)):
        raise TraceError(
            "expected example inputs with values, as the model has them, got a tensor on the meta device; give inputs "
            "with values, or a model on the meta device"
        )


def _has_values(model: nn.Module, inputs: Inputs) -> bool:
    """Whether a model can run here and now: no tensor is on the meta device, or in parts over processes."""
    return not any(t.is_meta or is_spread(t) for t in (*tensors_of(model).values(), *tensors_in(inputs)))


def _normalised(model: nn.Module, example: Example) -> Inputs:
    """Return example inputs as positional and keyword arguments, these in the order of the model's forward."""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(example, torch.Tensor):
        args = (example,)
    elif isinstance(example, dict):
        kwargs = {name: example[name] for name in sorted(example, key=_places_in_forward(model))}
    elif isinstance(example, list | tuple):
        args = tuple(example)
    register_dataclasses(example)
    check_example(example)
    leaves = pytree.tree_leaves((args, kwargs))
    if not any(isinstance(leaf, torch.Tensor) for leaf in leaves):
        held = [type(leaf).__name__ for leaf in leaves if hasattr(leaf, "__dict__")]
        what = f"{type(example).__name__}{' of ' + held[0] if held else ''}"
        known = f", or register {held[0]} with torch.utils._pytree.register_pytree_node" if held else ""
        raise TraceError(
            f"expected example inputs as a tensor, a tuple of arguments or a dict of keyword arguments with at least "
            f"one tensor, got {what}; give inputs as the model's forward takes them{known}"
        )
    return args, kwargs


def _places_in_forward(model: nn.Module) -> Callable[[str], int]:
    """Return the place of an argument by its name; names that the signature does not tell come last."""
    places = {name: place for place, name in enumerate(inspect.signature(model.forward).parameters)}
    return lambda name: places.get(name, len(places))


def _by_name(model: nn.Module, inputs: Inputs) -> tuple[str, ...]:
    """Return the arguments that forward takes by name only, or at another place than behind those before them."""
    args, kwargs = inputs
    given = list(kwargs)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    places = [name for name, one in inspect.signature(model.forward).parameters.items() if one.kind in kinds]
    for number, name in enumerate(given):
        if places[len(args) + number : len(args) + number + 1] != [name]:
            return tuple(given[number:])
    return ()


@contextmanager
def _plain_results(model: nn.Module) -> Iterator[dict[str, str]]:
    """Let a model return plain data while it is captured; yield the replaced classes, and what takes their place."""
    replaced: dict[str, str] = {}

    def hook(module: nn.Module, args: Any, kwargs: Any, result: Any) -> Any:
        result, states = without_state(module, args, kwargs, result)
        found, lost = capturable(result)
        replaced.update(lost | dict.fromkeys(states, _NOTHING))
        return found

    handle = model.register_forward_hook(hook, with_kwargs=True)
    try:
        yield replaced
    finally:
        handle.remove()
