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
from swdc.ops.base import name_of

_CONDITIONS = {
    "aten.nonzero.default": 0, "aten.nonzero_numpy.default": 0, "aten.argwhere.default": 0, "aten.where.default": 0,
    "aten.masked_select.default": 1, "aten.index.Tensor": 1,
}  # fmt: skip
"""Operators that give as much as a condition is true of, and which argument holds it."""
_SURVIVORS = frozenset({"torchvision.nms.default"})
"""Operators that give the rows that they do not suppress."""


def branches_on_findings(subject: Subject) -> bool:
    """Whether a model calls other operators where no condition that it looks for is true.

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
        looks = any(name_of(target) in _CONDITIONS or name_of(target) in _SURVIVORS for target in found)
        return looks and found != calls(_FindingNothing)
    except Exception:  # whatever a model raises that finds nothing
        return False
    finally:
        subject.put_back()


class _FindingNothing(OnValues):  # type: ignore[no-untyped-call]
    """Lets every condition be true nowhere."""

    def _computed(self, func: Any, args: list[Any], kwargs: dict[str, Any]) -> Any:
        name = name_of(func)
        if name in _CONDITIONS:
            place = _CONDITIONS[name]
            args = [*args[:place], _nowhere(args[place], masks=name == "aten.index.Tensor"), *args[place + 1 :]]
        result = super()._computed(func, args, kwargs)
        return result[:0] if name in _SURVIVORS else result


def _nowhere(condition: Any, masks: bool) -> Any:
    """Return a condition that is true nowhere; where ``masks``, indices that are no masks stay as they are."""

    def emptied(tensor: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(tensor) if tensor.dtype == torch.bool or not masks else tensor

    return pytree.tree_map_only(torch.Tensor, emptied, condition)
