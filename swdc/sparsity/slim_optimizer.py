"""The optimizer of a program that is slimmed in the middle of training: its state is cut along with the parameters."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from swdc.channels.kept import Kept
from swdc.errors import PlanError
from swdc.ir.argument_types import checked
from swdc.ir.module_tensors import need_values
from swdc.ir.program import Program
from swdc.rewriting.cutting import cut_tensor, kept_under
from swdc.rewriting.fitting import check_plan

_REPLACED = ("param_groups", "state", "defaults", "step")
"""What a slim optimizer does not share; ``step`` among the attributes is a scheduler's, bound to the old optimizer."""
_NAMES = "param_names"


@checked(PlanError)
def slim_optimizer(optimizer: Optimizer, program: Program, slim: Program) -> Optimizer:
    """Return an optimizer of the same class that goes on with the parameters of a slim program.

    ``optimizer`` trains the parameters of ``program``, which are those of the traced model, and ``slim`` is what
    ``swdc.slim`` made of it. Groups, their settings and the names of parameters stay; momentum and moments lose what
    the parameters lost, counts of steps stay. A bias that the slim program has and the program had not goes into the
    group of its layer's weight, without a state. The given optimizer is not changed. A learning-rate scheduler holds
    the old one: make it anew, and load its ``state_dict``.

    Raises ``PlanError`` if ``slim`` was not made from the program, if the optimizer holds other parameters, or if its
    state is of a kind that belongs to no single number of a parameter (factored moments, L-BFGS).

    Example::

        optimizer = swdc.slim_optimizer(optimizer, program, slim)
    """
    need_values(program, PlanError, "slimming an optimizer")
    need_values(slim, PlanError, "slimming an optimizer")
    origin = slim.facts.origin
    if origin is None or origin.dense is not None:
        raise PlanError("expected a slim program as made by swdc.slim, got another; slim the program with a plan")
    program = program.under(origin.plan.policy)
    check_plan(origin.plan, program)
    kept = kept_under(program, origin.plan)
    names = {id(tensor): name for name, tensor in reversed(program.tensors.items()) if isinstance(tensor, nn.Parameter)}
    _check(optimizer, names)
    new: Optimizer = type(optimizer).__new__(type(optimizer))
    shared = {key: copy.copy(value) for key, value in vars(optimizer).items() if key not in _REPLACED}
    new.__dict__.update(shared, defaults=copy.deepcopy(optimizer.defaults), state=defaultdict(dict), param_groups=[])
    tensors = slim.tensors
    for group in optimizer.param_groups:
        settings = {key: copy.deepcopy(value) for key, value in group.items() if key != "params"}
        there = [names[id(p)] in tensors for p in group["params"]]  # a removed branch has taken its own with it
        if _NAMES in settings:
            settings[_NAMES] = [name for name, stays in zip(settings[_NAMES], there, strict=True) if stays]
        left = [tensors[names[id(p)]] for p, stays in zip(group["params"], there, strict=True) if stays]
        new.param_groups.append({"params": left, **settings})
        for parameter in group["params"]:
            name = names[id(parameter)]
            if parameter in optimizer.state and name in tensors:
                new.state[tensors[name]] = _cut(optimizer.state[parameter], parameter, name, kept)
    _add_new(new, program, slim)
    return new


def _check(optimizer: Optimizer, names: Mapping[int, str]) -> None:
    known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    foreign = len(known - names.keys())
    if foreign:
        raise PlanError(
            f"expected an optimizer of the parameters of the program, got one with {foreign} others; make it from "
            f"program.parameters(), or from those of the model that was traced"
        )
    for key, value in vars(optimizer).items():
        items = value if isinstance(value, list | tuple) else [value]
        if key not in _REPLACED and any(isinstance(item, torch.Tensor | Optimizer) for item in items):
            raise PlanError(
                f"expected an optimizer whose parameters are in its groups alone, got {type(optimizer).__name__} with "
                f"some in {key!r}; make a new one for the slim program"
            )


def _cut(state: Mapping[str, Any], parameter: torch.Tensor, name: str, kept: Kept) -> dict[str, Any]:
    """Return the state of a parameter without what the parameter lost."""
    found: dict[str, Any] = {}
    for key, value in state.items():
        if not isinstance(value, torch.Tensor) or value.dim() == 0:
            found[key] = copy.deepcopy(value)
        elif value.shape == parameter.shape:
            found[key] = cut_tensor(value, name, kept)
        else:
            raise PlanError(
                f"expected a state of single numbers or of the shape of the parameter {tuple(parameter.shape)}, got "
                f"{key!r} of {name} with the shape {tuple(value.shape)}; make a new optimizer for the slim program"
            )
    return found


def _add_new(optimizer: Optimizer, program: Program, slim: Program) -> None:
    """Add the biases that only the slim program has to the groups of their layers' weights."""
    tensors = slim.tensors
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name in tensors.keys() - program.tensors.keys():
        layer = name.rpartition(".")[0]
        if id(tensors[name]) in held or not isinstance(tensors[name], nn.Parameter):
            continue
        weights = {id(t) for own, t in tensors.items() if own.rpartition(".")[0] == layer}
        for group in optimizer.param_groups:
            if any(id(parameter) in weights for parameter in group["params"]):
                group["params"].append(tensors[name])
                if _NAMES in group:
                    group[_NAMES].append(name)
                break
