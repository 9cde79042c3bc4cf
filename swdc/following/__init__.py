"""Capture by following: the model runs twice on tensors without values, and every operator that it calls is noted.

The two runs have batches of different prime sizes. What is the same in both does not depend on the batch; a size
that differs is a multiple of the batch plus a constant, else the model cannot be followed. Runs with small batches,
that of the example among them, bear witness that this holds for those too; one of these is in training, where the
model's code may depend on that. All this takes a fraction of the time of ``torch.export``, which reasons about symbols
at every operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn
from torch.utils import _pytree as pytree

from swdc.batching import shared_batch
from swdc.captured import Captured
from swdc.following.forms import Forms
from swdc.following.joining import Joining, named_leaves
from swdc.following.runs import CannotFollow, Run
from swdc.following.shapes import run
from swdc.following.training import differences, trains_alike
from swdc.following.witness import check_witness
from swdc.modes import reads_mode
from swdc.restoring import PutBack

__all__ = ["CannotFollow", "follow"]

BATCHES = (10007, 10009)
"""Primes beyond any width in use, so that a size tells what it is made of."""
WITNESS = 2
"""A small and even batch, at which a model must do the same: its code may depend on how large the batch is."""


def follow(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], put_back: PutBack) -> Captured:
    """Return the graph of a model whose inputs share a batch, with the batch dynamic.

    ``put_back`` makes the model what it was before: what a run keeps in it must not reach the next.

    Raises ``CannotFollow``, or whatever the model raises on tensors without values.
    """
    if shared_batch((args, dict(kwargs))) is None:
        raise CannotFollow("the inputs share no batch")
    inputs = (tuple(args), dict(kwargs))
    forms = Forms()

    def ran(batch: int, training: bool = False) -> Run:
        put_back()
        if training:
            model.train()
        return run(model, inputs, batch, forms)

    one, other = map(ran, BATCHES)
    captured = Joining(model, named_leaves(model, inputs), one, other).captured(pytree.tree_structure(inputs))
    witnesses = {WITNESS, shared_batch(inputs) or WITNESS} - {1}
    found: tuple[str, ...] | None = ()
    if reads_mode(model):
        trained = _trained(partial(ran, WITNESS, training=True))
        witnesses -= {WITNESS}
        if trained is None or not trains_alike(one, other, trained):
            evaluated = ran(WITNESS)
            check_witness(one, other, evaluated)
            found = None if trained is None else differences(model, evaluated, trained)
    for batch in sorted(witnesses):
        check_witness(one, other, ran(batch))
    return replace(captured, differences=found)


def _trained(run_in_training: Callable[[], Run]) -> Run | None:
    try:
        return run_in_training()
    except Exception:  # what a model asks for in training may be more than can be followed
        return None
