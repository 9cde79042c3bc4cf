"""How a network of the other zoo is built: the module to import, what to call there, and what to run it on."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import nn

from swdc.errors import CommandError

Inputs = Callable[[], Any]


@dataclass(frozen=True)
class Recipe:
    """A module, what builds a network from it, and what draws inputs; ``trained`` if its package ships the weights."""

    module: str
    make: Callable[[Any], nn.Module]
    inputs: Inputs
    trained: bool = False

    def build(self) -> nn.Module:
        """Import the module and build the network; ``CommandError`` says how to install what is missing."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                module = import_module(self.module)
            except ImportError as error:
                raise CommandError(
                    f"expected what {self.module} needs to be installed, got {error}; "
                    "install examples/bench/networks/libraries/others/requirements.txt as examples/zoo/README.md says"
                ) from error
            return self.make(module)


def normal(*shape: int) -> Inputs:
    """Return what draws one tensor of normal values."""
    return partial(torch.randn, *shape)


def image(side: int = 64, channels: int = 3) -> Inputs:
    """Return what draws two square images."""
    return normal(2, channels, side, side)


def integers(high: int, *shape: int) -> Inputs:
    """Return what draws one tensor of integers from 0 up to ``high``."""
    return lambda: torch.randint(high, shape)


def uniform(*shape: int) -> Inputs:
    """Return what draws one tensor of values in [0, 1)."""
    return partial(torch.rand, *shape)


def together(*parts: Inputs) -> Inputs:
    """Return what draws several inputs, one after the other."""
    return lambda: tuple(part() for part in parts)


def named(**parts: Inputs) -> Inputs:
    """Return what draws inputs that are passed by name."""
    return lambda: {name: part() for name, part in parts.items()}


def lengths(*values: int) -> Inputs:
    """Return what gives one tensor of these integers."""
    return lambda: torch.tensor(values)
