"""The copy of a model that has the program which a slim program was made from, whatever the model has run since."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from swdc.artifacts.transplanting.call_hooks import copied
from swdc.artifacts.transplanting.copied_model import copied_model
from swdc.artifacts.transplanting.masked_model import example_of
from swdc.artifacts.transplanting.other_sizes import resized
from swdc.capture.reachable import places_of
from swdc.capture.restore import buffers_kept
from swdc.capture.trace import trace, trace_recorded
from swdc.errors import TraceError, TransplantError
from swdc.ir.call import Ref
from swdc.ir.program import Program
from swdc.rewriting.cutting import kept_by


def copy_with_program(model: nn.Module, slim: Program) -> tuple[nn.Module, Program]:
    """Return a copy of a model, and its program: the one that a slim program was made from.

    Models may keep what their last run computed, such as anchors for the sizes of its input, and then they are traced
    as another graph. So the copy is tried as it is, then after a run on the example, then after runs at other sizes.
    A recording follows what the weights choose (boxes, nodes), so one of a trained model only has to have the same
    groups. Raises ``TransplantError`` if no copy has the program.
    """
    for number, inputs in enumerate(_runs(slim)):
        mine = copied_model(model)
        try:
            before = _kept(mine)
            if inputs is not None and not _runs_on(mine, inputs):
                continue
            if number and _alike(_kept(mine), before):
                continue  # it keeps nothing that was not tried
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                traced = traced_as(mine, slim)
        except TraceError:
            if number == 0:
                raise
            continue
        if _is_source(traced, slim):
            return mine, traced
    raise TransplantError(
        "expected the model that the slim program was traced from, got one of another graph; give one of the same "
        "class, made with the same arguments (a program with inserted batch norms has no such model)"
    )


def with_plan_of(slim: Program, dense: Program) -> Program:
    """Return a slim program whose plan is one for ``dense``, the program of the same groups that a model has now."""
    origin = slim.facts.origin
    assert origin is not None
    return slim.with_facts(origin=replace(origin, plan=replace(origin.plan, program_hash=dense.hash())))


def traced_as(model: nn.Module, slim: Program) -> Program:
    """Return the program of a model, traced as the slim program was: its sizes may have been chosen by the caller."""
    facts, example = slim.facts, example_of(slim)
    if facts.example_only:
        return trace_recorded(model, example, facts.attention).under(facts.policy)
    traced = trace(model, example, facts.attention).under(facts.policy)
    if traced.facts.symbols.keys() == facts.symbols.keys():
        return traced
    with suppress(TraceError):  # what the model keeps may fix a size
        return trace(model, example, facts.attention, dynamic=sorted(facts.symbols)).under(facts.policy)
    return traced


def _is_source(traced: Program, slim: Program) -> bool:
    """Whether a slim program was made from ``traced``, or from a recording of the same groups and tensors."""
    assert slim.facts.origin is not None
    plan = slim.facts.origin.plan
    if traced.hash() == plan.program_hash:
        return True
    widths = {group.name: group.width for group in traced.groups}
    if not slim.facts.example_only or widths != plan.widths:
        return False
    kept = kept_by(traced, {name: channels or (0,) for name, channels in plan.kept.items()})
    mine, own = traced.tensors, slim.tensors
    shapes = {name: kept.resized(Ref(name), tuple(tensor.shape)) for name, tensor in mine.items()}
    return all(shapes[name] == tuple(own[name].shape) for name in shapes.keys() & own.keys() & traced.read_tensors())


def _runs(slim: Program) -> Iterator[Any]:
    """Yield the inputs of the run before each attempt, ``None`` for no run."""
    yield None
    yield slim.facts.example
    if not slim.facts.example_only:
        yield from resized(slim.facts.example)


def _kept(model: nn.Module) -> list[Any]:
    """Return what a model's code can keep something in holds: attributes, containers, objects, classes and globals."""
    return [item for place in places_of(model) for item in place.held().values()]


def _alike(one: list[Any], other: list[Any]) -> bool:
    """Whether two lists hold the same objects, or the same numbers."""
    pairs = zip(one, other, strict=False)
    return len(one) == len(other) and all(a is b or (type(a) is type(b) is int and a == b) for a, b in pairs)


def _runs_on(model: nn.Module, inputs: Any) -> bool:
    """Run a model in evaluation mode, and return whether it takes the inputs.

    What it keeps in attributes stays; its buffers and modes are restored.
    """
    modes = [(module, module.training) for module in model.modules()]
    args, kwargs = copied(inputs)
    try:
        with torch.no_grad(), buffers_kept(model):
            model.eval()(*args, **kwargs)
            return True
    except Exception:  # whatever the user's code raises on sizes that it does not take
        return False
    finally:
        for module, mode in modes:
            module.training = mode
