"""Detects early that a model branches on how much a search finds; ``torch.export`` needs long to fail on that."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.capture.by_recording import OnValues
from swdc.capture.captured_graph import without_gradients
from swdc.capture.meta_run import as_export_does
from swdc.capture.restore import buffers_kept
from swdc.capture.way import Subject
from swdc.ops.base import Operator
from swdc.ops.in_place import operator_of


def searches_branched_on(subject: Subject) -> tuple[Operator, ...]:
    """Return the operators that search (such as ``nonzero``) if a model calls others where they find nothing.

    The model runs twice on the inputs, under the settings of export; in the second run every search finds nothing. The
    result is empty if a run fails, because a failure shows nothing. The model is left as it was.
    """
    model = subject.model
    leaves, structure = pytree.tree_flatten(subject.inputs)

    def calls(kind: type[OnValues]) -> list[Any]:
        subject.put_back()
        given = [leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        with as_export_does(), without_gradients(), buffers_kept(model):
            return [step.target for step in kind(model, given).run(model, structure, batch=0).steps]

    try:
        found = calls(OnValues)
        searches = tuple(operator for operator in map(operator_of, found) if operator.finds)
        return searches if searches and found != calls(_FindingNothing) else ()
    except Exception:  # whatever the model raises when it finds nothing
        return ()
    finally:
        subject.put_back()


class _FindingNothing(OnValues):  # type: ignore[no-untyped-call]
    """Lets every operator that searches find nothing."""

    def _computed(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        operator = operator_of(func)
        return super()._computed(func, operator.found_nowhere(args) if operator.finds else args, kwargs)
