"""Leaves out of a run the calls that return all of their input, which torch makes only if sizes are symbols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from swdc.capture.runs import Run, Slot, Step
from swdc.ir.call import bind_arguments
from swdc.ops.in_place import operator_of


def _leaves_alone(step: Step) -> bool:
    operator = operator_of(step.target)
    return operator.narrows or operator.leaves_alone(bind_arguments(step.target, step.args, step.kwargs))


def without_whole_results(run: Run, inputs: Sequence[Any], tensors: Mapping[str, Any]) -> Run:
    """Return a run without calls that take all of a tensor. ``inputs`` are the shapes of the inputs."""
    moved: dict[Slot, Slot] = {}
    shapes: dict[Slot, Any] = {Slot("input", number): shape for number, shape in enumerate(inputs)}
    steps: list[Step] = []

    def told(value: Any) -> Any:
        if isinstance(value, Slot):
            return moved.get(value, value)
        if isinstance(value, list | tuple):
            return type(value)(map(told, value))
        return {name: told(part) for name, part in value.items()} if isinstance(value, dict) else value

    for number, step in enumerate(run.steps):
        args = told(step.args)
        first = args[0] if args and isinstance(args[0], Slot) else None
        if first is not None and step.single and step.results[0] is not None and _leaves_alone(step):
            before = shapes.get(first) or tuple(getattr(tensors.get(first.key), "shape", ()))
            if before == step.results[0].shape:
                moved[Slot("call", (number, None))] = first
                continue
        for index in [None] if step.single else range(len(step.results)):
            slot = moved[Slot("call", (number, index))] = Slot("call", (len(steps), index))
            value = step.results[index or 0]
            shapes[slot] = None if value is None else value.shape
        steps.append(replace(step, args=args, kwargs=told(step.kwargs)))
    return replace(run, steps=steps, outputs=told(run.outputs), replaced=told(dict(run.replaced)))
