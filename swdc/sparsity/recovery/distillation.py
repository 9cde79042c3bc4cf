"""What a slim program learns from the dense one: its outputs, and its features in the channels that are left.

The features are the results of layers with weights, of norms where there are any. The plan says which channels of the
dense program are left, and in which order, so that they are compared index by index and no adapter is learned. Each
distance is the mean square of the difference over that of what is learned, as in FitNets (Romero et al. 2015) but
relative, so that all layers count alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from swdc.errors import PlanError, told_as
from swdc.ir.differences import flat_outputs
from swdc.ir.groups import Bools, Ids
from swdc.ir.program import Program
from swdc.ops.base import leaf_like
from swdc.rewriting.cutting import kept_under

Distance = Callable[[Any, Any], Tensor]
Places = list[tuple[int, Tensor]]
"""The dimensions of a feature that have lost channels, with the indices that are left."""


def relative_square(student: Any, teacher: Any) -> Tensor:
    """Return the mean square of the difference over that of the teacher's outputs, as a mean over all outputs."""
    pairs = [(s, t) for s, t in zip(flat_outputs(student), flat_outputs(teacher), strict=True) if t.is_floating_point()]
    return torch.stack([_relative(s, t) for s, t in pairs]).mean()


def kl(student: Any, teacher: Any) -> Tensor:
    """Return the divergence of the student's classes from the teacher's (Hinton et al. 2015), at temperature 1.

    Classes are the last dimension; the mean is over everything else.
    """
    pairs = [(s, t) for s, t in zip(flat_outputs(student), flat_outputs(teacher), strict=True) if t.is_floating_point()]
    found = [
        functional.kl_div(s.float().log_softmax(-1), t.float().log_softmax(-1), log_target=True, reduction="none")
        for s, t in pairs
    ]
    return torch.stack([each.sum(-1).mean() for each in found]).mean()


DISTANCES: dict[str, Distance] = {"mse": relative_square, "kl": kl}


def _relative(student: Tensor, teacher: Tensor) -> Tensor:
    student, teacher = student.float(), teacher.float()
    scale = teacher.square().mean().clamp_min(torch.finfo(torch.float32).tiny)
    return (student - teacher).square().mean() / scale


class Distillation:
    """Compares what a slim program computes with what its teacher computes."""

    def __init__(self, slim: Program, teacher: nn.Module, distance: Distance, logits: float, features: float) -> None:
        """``logits`` and ``features`` weigh the two distances.

        Raises ``PlanError`` if features are asked for and the teacher is not the program that the plan was made for.
        """
        self._slim, self._teacher = slim, teacher
        self._distance, self._logits, self._features = distance, logits, features
        self._places = places_of(slim, teacher) if features else {}

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, Tensor]:
        """Return the output of the slim program, and its distance from the teacher: a single number with a gradient."""
        teacher: Any = None
        with torch.no_grad(), seen(self._teacher, self._places) as wanted:
            if self._logits or self._features:
                teacher = self._teacher(*args, **kwargs)
        with seen(self._slim, self._places) as got:
            output = self._slim(*args, **kwargs)
        total = flat_outputs(output)[0].new_zeros((), dtype=torch.float32)
        if self._logits:
            with told_as(PlanError, "a distance of two outputs that is a single number", "return a mean"):
                total = total + self._logits * self._distance(output, teacher)
        if self._features:
            found = [
                _relative(mine, _left(theirs, self._places[path]))
                for path in self._places
                for mine, theirs in zip(got[path], wanted[path], strict=True)
            ]
            total = total + self._features * torch.stack(found).mean()
        return output, total


def places_of(slim: Program, teacher: nn.Module) -> dict[str, Places]:
    """Return the leaf modules whose results are compared, and which channels of the teacher's results are left."""
    plan = slim.facts.origin.plan if slim.facts.origin is not None else None
    if plan is None or not isinstance(teacher, Program) or teacher.under(plan.policy).hash() != plan.program_hash:
        raise PlanError(
            "expected the dense program of the slim one as the teacher, whose features are known channel by channel, "
            "got another; give the program that the plan was made for, or features=0 to learn from outputs alone"
        )
    program = teacher.under(plan.policy)
    kept = kept_under(program, plan)
    leaves, small = program.leaves, slim.leaves
    weighted = [path for path, leaf in leaves.items() if path in small and any(True for _ in leaf.parameters(False))]
    norms = [path for path in weighted if leaf_like(leaves[path]).is_norm]
    found: dict[str, Places] = {}
    for node in program.graph.find_nodes(op="call_module"):
        if str(node.target) in (norms or weighted):
            labels = program.coupling.nodes.get(node.name, ())
            found[str(node.target)] = [
                (dim, torch.from_numpy(indices))
                for dim in range(len(labels))
                if (indices := kept.indices(node, dim)) is not None and not _is_all(indices, kept.mask(node, dim))
            ]
    if not found:
        raise PlanError("expected layers whose features can be compared, got none; give features=0")
    return found


def _left(feature: Tensor, places: Places) -> Tensor:
    for dim, indices in places:
        feature = feature.index_select(dim, indices.to(feature.device))
    return feature


def _is_all(indices: Ids, mask: Bools | None) -> bool:
    return mask is None or np.array_equal(indices, np.arange(len(mask)))


@contextmanager
def seen(model: nn.Module, paths: Mapping[str, Any]) -> Iterator[dict[str, list[Tensor]]]:
    """Collect the results of some leaf modules while a model runs."""
    results: dict[str, list[Tensor]] = defaultdict(list)
    handles: list[RemovableHandle] = []
    leaves = model.leaves if paths and isinstance(model, Program) else {}
    try:
        for path in paths:
            handles.append(leaves[path].register_forward_hook(lambda _m, _a, out, path=path: results[path].append(out)))
        yield results
    finally:
        for handle in handles:
            handle.remove()
