"""What a model runs in evaluation although nothing uses the result: it has to be cut, too, or it does not run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from swdc.capture.trace import Example, trace_everything
from swdc.channels.kept import Kept
from swdc.errors import SwdcError
from swdc.ir.groups import Bools, Coupling
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.rewriting.cutting import cut


@dataclass(frozen=True)
class Unused:
    """A program that computes everything that the model does, and the same after the cut."""

    whole: Program
    slim: Program
    tensors: frozenset[str]
    """The names of the tensors that only the unused parts read."""


def unused_parts(model: nn.Module, dense: Program, plan: Plan, example: Example) -> Unused | None:
    """Return what a model runs beside its program ``dense``, cut by a plan; ``None`` if there is no such thing.

    What joins the channels of the unused parts with those of the others decides what is cut; whether the other
    operators of these parts could lose channels does not matter, because nothing uses what they return.
    """
    if dense.facts.captured_by == "export":  # it leaves out what nothing uses
        return None
    try:
        whole = trace_everything(model, example, dense.facts.attention, dense.facts.captured_by)
    except SwdcError:  # of a capture that leaves nothing out: parts that nothing uses may be beyond it
        return None
    read = frozenset(whole.read_tensors()) - set(dense.read_tensors())
    if not read:
        return None
    stays = _carried_over(dense.coupling, dense.coupling.keep(plan.kept), whole.coupling)
    try:
        return Unused(whole, cut(whole, Kept(whole.coupling, stays)), read)
    except Exception:  # operators of these parts may have no rule for such a cut; the model is tried as it is
        return None


def _carried_over(coupling: Coupling, stays: Bools, other: Coupling) -> Bools:
    """Return which sets of channels of another coupling of the same tensors stay."""
    found = np.ones(len(other.group_of), dtype=bool)
    for name, table in coupling.tensors.items():
        for ids, others in zip(table, other.tensors.get(name, (None,) * len(table)), strict=True):
            if ids is not None and others is not None:
                found[others[~stays[ids]]] = False
    return found
