"""Capture by following: the model runs twice on tensors without values, and every operator that it calls is noted.

The two runs have batches of different prime sizes. What is the same in both does not depend on the batch; a size
that differs is a multiple of the batch plus a constant, else the model cannot be followed. Runs with small batches,
that of the example among them, bear witness that this holds for those too. All this takes a fraction of the time of
``torch.export``, which reasons about symbols at every operator.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.utils import _pytree as pytree

from swdc.batching import shared_batch
from swdc.captured import Captured
from swdc.following.joining import Joining
from swdc.following.recorder import run
from swdc.following.runs import CannotFollow
from swdc.following.witness import check_witness

__all__ = ["CannotFollow", "follow"]

BATCHES = (10007, 10009)
"""Primes beyond any width in use, so that a size tells what it is made of."""
WITNESS = 2
"""A small and even batch, at which a model must do the same: its code may depend on how large the batch is."""


def follow(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Captured:
    """Return the graph of a model whose inputs share a batch, with the batch dynamic.

    Raises ``CannotFollow``, or whatever the model raises on tensors without values.
    """
    if shared_batch((args, dict(kwargs))) is None:
        raise CannotFollow("the inputs share no batch")
    inputs = (tuple(args), dict(kwargs))
    one, other = (run(model, inputs, batch) for batch in BATCHES)
    for batch in sorted({WITNESS, shared_batch(inputs) or WITNESS} - {1}):
        check_witness(one, other, run(model, inputs, batch))
    paths, structure = pytree.tree_flatten_with_path(inputs)
    names = [p.name for p in inspect.signature(model.forward).parameters.values() if p.kind != p.VAR_POSITIONAL]
    leaves = [(_name(path, names), leaf) for path, leaf in paths]
    return Joining(model, leaves, one, other).captured(structure)


def _name(path: Any, arguments: list[str]) -> str:
    """Return the name of an input: that of its argument, followed by where it lies within."""
    keys = [str(getattr(key, "idx", getattr(key, "key", ""))) for key in path[1:]]
    if keys[0].isdigit():
        keys[0] = arguments[int(keys[0])] if int(keys[0]) < len(arguments) else f"input_{keys[0]}"
    return "_".join(keys)
