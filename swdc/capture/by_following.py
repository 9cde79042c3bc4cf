"""Capture by following: the model runs on tensors without values, and every operator that it calls is noted.

This takes a fraction of the time of ``torch.export``. First the sizes of the inputs are symbols. If the model cannot
run on these, or fixes the batch, it runs at two batches, and only the batch is dynamic.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from swdc.capture.batch import shared_batch
from swdc.capture.captured_graph import Captured
from swdc.capture.follow_batches import follow_batches
from swdc.capture.follow_symbols import follow_symbols
from swdc.capture.input_symbols import BATCH
from swdc.capture.way import CannotCapture, Subject, Way
from swdc.errors import TraceError


class Follow(Way):
    """Follows a model; in its graph every size is dynamic that can be, or the batch alone."""

    name = "follow"

    def capture(self, subject: Subject) -> Captured:
        """Return the first graph of ``captures``; raise as it does."""
        return next(self.captures(subject))

    def captures(self, subject: Subject) -> Iterator[Captured]:
        """Yield the graph of the model as it is compiled, then as it runs: its code may ask whether it is compiled.

        Raises ``CannotCapture``, or whatever the model raises on tensors without values, if there is no graph.
        """
        failures: list[Exception] = []
        for compiling in (True, False):
            for follow in (_with_free_batch, follow_batches, partial(follow_symbols, apart=True)):
                try:
                    captured = follow(subject, compiling)
                except TraceError:
                    raise
                except Exception as failure:  # models raise errors of many kinds, which all mean that this way failed
                    failures.append(failure)
                    continue
                yield captured
            if len(failures) == 3:
                raise failures[-2]


def _with_free_batch(subject: Subject, compiling: bool) -> Captured:
    """Follow a model on symbols; raise ``CannotCapture`` if that fixes the batch, which another way may not."""
    captured = follow_symbols(subject, compiling)
    wanted = subject.dynamic is None or BATCH in subject.dynamic
    if captured.fixes_batch and wanted and shared_batch(subject.inputs) is not None:
        raise CannotCapture("the model's code needs the batch as a plain number")
    return captured
