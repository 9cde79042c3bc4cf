"""Telling whether a model branches on how much it finds, which ``torch.export`` finds out only after long work."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.capture.captured import without_gradients
from swdc.capture.contract import Subject
from swdc.capture.meta_run import as_export_does
from swdc.capture.record import OnValues
from swdc.capture.restore import buffers_kept
from swdc.ops.in_place import operator_of


def branches_on_findings(subject: Subject) -> bool:
    """Whether a model calls other operators where it finds nothing of what it looks for.

    It runs twice on the inputs, as it does when it is exported; the second time it finds nothing. False where a run
    fails, for that tells nothing. The model is left as it was.
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
        looks = any(operator_of(target).finds for target in found)
        return looks and found != calls(_FindingNothing)
    except Exception:  # whatever a model raises that finds nothing
        return False
    finally:
        subject.put_back()


class _FindingNothing(OnValues):  # type: ignore[no-untyped-call]
    """Lets every operator that looks for something find nothing."""

    def _computed(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        operator = operator_of(func)
        return super()._computed(func, operator.found_nowhere(args) if operator.finds else args, kwargs)
