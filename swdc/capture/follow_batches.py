"""Follows a model at two batches, for models that cannot run on symbols: in the graph only the batch is dynamic.

The two runs have batches of different prime sizes. A size that is the same in both does not depend on the batch. A size
that differs must be a multiple of the batch plus a constant; otherwise the model cannot be followed. Further runs with
small batches, one of them that of the example, check that the same holds there. One of them is in training if the
model's code may depend on the mode, and others have the batches that the code asks for
(``swdc.capture.watched_sizes``). All this takes a fraction of the time of ``torch.export``, which reasons about symbols
at every operator.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from torch.utils import _pytree as pytree

from swdc.capture.batch import shared_batch
from swdc.capture.captured_graph import Captured
from swdc.capture.graph_of_runs import Joining, check_witness, named_leaves
from swdc.capture.meta_cache import Forms
from swdc.capture.meta_run import run, with_batch_of
from swdc.capture.recorder import MOST_CALLS
from swdc.capture.runs import Run
from swdc.capture.training_differences import differences, reads_mode, trains_alike
from swdc.capture.watched_sizes import WatchedSizes
from swdc.capture.way import CannotCapture, Subject
from swdc.ir.conditions import Condition

BATCHES = (10007, 10009)
"""Primes larger than any width in use, so that a size shows whether the batch is a factor of it."""
WITNESS = 2
"""A small and even batch, at which the model must do the same, because its code may depend on the batch size."""
MORE = 12
"""A batch that many numbers divide, because its code may depend on remainders."""
MOST_TURNS = 12
"""The most batches to try at which the model's code may do something else."""
SPARE = 100
"""Calls allowed beyond twice those at the small batch; a model that loops over its batch makes more."""


def follow_batches(subject: Subject, compiling: bool = True) -> Captured:
    """Return the graph; raise ``CannotCapture``, or whatever the model raises on tensors without values.

    ``compiling`` says what ``torch.compiler.is_compiling()`` returns in the model's code.
    """
    model, inputs = subject.model, subject.inputs
    example = shared_batch(inputs)
    if example is None:
        raise CannotCapture("the inputs share no batch")
    forms, leaves = Forms(), pytree.tree_leaves(inputs)

    def ran(batch: int, training: bool = False, most: int = MOST_CALLS, mode: Any = None) -> Run:
        subject.put_back()
        if training:
            model.train()
        with mode or nullcontext():
            return run(model, inputs, with_batch_of(leaves, batch), forms, most, compiling)

    learns = reads_mode(model)
    trained = trained_run(partial(ran, WITNESS, training=True)) if learns else None
    small = trained or ran(WITNESS)
    most, sizes = 2 * len(small.steps) + SPARE, WatchedSizes(BATCHES[1])
    one, other = ran(BATCHES[0], most=most), ran(BATCHES[1], most=most, mode=sizes)
    if one.failed or other.failed:
        raise CannotCapture("an operator fails, which it may not do at other batches")
    joining = Joining(model, named_leaves(model, inputs), one, other)
    captured = joining.captured(pytree.tree_structure(inputs))
    found: tuple[str, ...] | None = () if trained or not learns else None
    if trained is None or not trains_alike(one, other, trained):
        witness = ran(WITNESS) if trained else small
        check_witness(one, other, witness)
        found = differences(model, witness, trained) if trained else found
    turns = sorted(turn for turn in sizes.turns if turn > 0)[:MOST_TURNS]
    for batch in {MORE, example, *turns} - {1, WITNESS, *BATCHES}:
        check_witness(one, other, ran(batch))
    apart = () if _bears_witness(one, other, partial(ran, 1)) else (Condition(joining.symbol, "!=", 1),)
    return replace(captured, differences=found, doubtful=(0,), conditions=apart)


def _bears_witness(one: Run, other: Run, ran: Callable[[], Run]) -> bool:
    """Whether the model does what two runs predict in another, without an error."""
    try:
        check_witness(one, other, ran())
    except Exception:  # whatever the model raises; a batch of one is then excluded
        return False
    return True


def trained_run(run_in_training: Callable[[], Run]) -> Run | None:
    """Return a run in training; ``None`` if it fails."""
    try:
        return run_in_training()
    except Exception:  # in training a model may do more than can be followed
        return None
