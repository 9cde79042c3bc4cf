"""What the arguments of a module's constructor are once it is slim, found by making the module anew without values."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from itertools import islice, product
from typing import Any

import torch
from torch import nn

from swdc.ir.module_tensors import tensors_of

Shapes = dict[str, tuple[int, ...]]

_MOST_TRIALS = 64
"""The most sets of arguments that are tried for one module."""
_MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def constructed(
    module: nn.Module, before: Mapping[str, int], old: Shapes, options: Mapping[str, Sequence[int]]
) -> dict[str, int]:
    """Return the integers with which the constructor of a module makes tensors of the shapes that it has now.

    ``before`` are integers that its attributes had when its tensors had the shapes ``old``; ``options`` are numbers
    that attributes may have now. The result is empty unless the module keeps its arguments under their names, the old
    ones give the old shapes, and one choice of the new ones gives the new shapes.
    """
    given = _arguments(module)
    options = {name: numbers for name, numbers in options.items() if name in (given or ())}
    if not given or not options:
        return {}
    if _shapes(module, {**given, **{name: number for name, number in before.items() if name in given}}) != old:
        return {}
    now = {name: tuple(tensor.shape) for name, tensor in tensors_of(module).items()}
    trials = (dict(zip(options, numbers, strict=True)) for numbers in product(*options.values()))
    fitting = [values for values in islice(trials, _MOST_TRIALS) if _shapes(module, {**given, **values}) == now]
    return fitting[0] if len(fitting) == 1 else {}


def _arguments(module: nn.Module) -> dict[str, Any] | None:
    """Return the arguments of a module's constructor, as its attributes say; ``None`` if one is not known."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(module)).parameters.items():
        if parameter.kind in _MANY:
            continue
        if name in module._parameters:
            found[name] = module._parameters[name] is not None  # whether it has a bias
        elif name in vars(module):
            found[name] = vars(module)[name]
        elif parameter.default is inspect.Parameter.empty:
            return None
    return found


def _shapes(module: nn.Module, arguments: Mapping[str, Any]) -> Shapes | None:
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            made = type(module)(**arguments)
    except Exception:  # a constructor raises errors of many kinds on arguments that it does not take
        return None
    return {name: tuple(tensor.shape) for name, tensor in tensors_of(made).items()}
