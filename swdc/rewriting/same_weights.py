"""The weights of a slim program that are not those of the masked one.

No run reads every weight: a row of an embedding table is read for one index only, another layer for tiny inputs only.
"""

from __future__ import annotations

import torch
from torch import nn

from swdc.ir.program import Program
from swdc.ops import calls
from swdc.rewriting.cutting import cut_tensor, kept_by_plan


def other_weights(masked: Program, slim: Program) -> list[str]:
    """Return the names of parameters and buffers of a slim program that are not what the plan keeps of the masked one.

    Biases that take over constants differ, and so may tensors of other shapes or names; runs compare what they do.
    """
    biases = _carrying(masked)
    return [name for name, same in _as_planned(masked, slim).items() if not same and name not in biases]


def without_name(masked: Program, slim: Program) -> tuple[str, ...]:
    """Return as an assumption that tensors of a slim program are right, if the masked one has none of their names.

    These are compared by runs alone, and a run may not read all of them.
    """
    added = sorted(slim.tensors.keys() - masked.tensors.keys())
    if not added:
        return ()
    more = f" and {len(added) - 3} more" if len(added) > 3 else ""
    return (f"{', '.join(added[:3])}{more}, which the masked program lacks, are right where no run reads them",)


def shared_otherwise(masked: Program, slim: Program) -> str | None:
    """Return in words that names stand for one parameter in one program, and for several in the other."""

    def partners(program: Program) -> dict[str, str]:
        tensors = program.tensors
        first: dict[int, str] = {}
        named = [n for n in sorted(both) if isinstance(tensors[n], nn.Parameter)]
        return {name: first.setdefault(id(tensors[name]), name) for name in named}

    both = masked.tensors.keys() & slim.tensors.keys()
    return None if partners(masked) == partners(slim) else "another sharing of parameters"


def computed_weights(masked: Program, made: Program) -> set[str]:
    """Return the names of tensors of a program made of the masked one that are more than what the plan keeps of it.

    These are biases that take over constants, and weights that batch norms were folded into.
    """
    return made.tensors.keys() - {name for name, same in _as_planned(masked, made).items() if same}


def _carrying(masked: Program) -> set[str]:
    constants = masked.coupling.constants
    return {str(call["bias"]) for node, (_, call) in calls(masked).items() if node.name in constants}


def _as_planned(masked: Program, made: Program) -> dict[str, bool]:
    """Return whether tensors are what the plan keeps of the masked program's of their names, if the shape is."""
    kept, own, found = kept_by_plan(masked), masked.tensors, dict[str, bool]()
    for name, tensor in made.tensors.items():
        wanted = cut_tensor(own[name], name, kept) if name in own else None
        if wanted is not None and wanted.shape == tensor.shape:
            found[name] = same_values(wanted, tensor)
    return found


def same_values(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one shape hold the same numbers; NaN is the same as NaN."""
    return bool(((one == other) | (one.isnan() & other.isnan())).all())
