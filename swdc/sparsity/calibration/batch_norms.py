"""Estimating the statistics of batch norms anew, by forward passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from swdc.capture.restore import buffers_kept
from swdc.errors import PlanError
from swdc.ir.module_tensors import modes_kept
from swdc.ir.program import Program
from swdc.ir.progress import progress_bar
from swdc.ops.base import leaf_like
from swdc.sparsity.calibration.batches import arguments_of, length_of, read


def is_held(leaf: nn.Module) -> bool:
    """Whether a module is a norm whose gain is frozen, so that its statistics stay as they are, too."""
    gain = getattr(leaf, "weight", None)
    return leaf_like(leaf).is_norm and gain is not None and not gain.requires_grad


def estimate_norms_(program: Program, batches: Any, inputs: Callable[..., Any] | None, progress: bool) -> Any:
    """Estimate the running statistics of a program anew, in place: the mean over all batches. Frozen norms stay.

    Returns the arguments of the first batch. Raises ``PlanError`` if there is no batch.
    """
    found = [leaf for leaf in program.leaves.values() if getattr(leaf, "running_mean", None) is not None]
    norms: list[Any] = [leaf for leaf in found if not is_held(leaf)]
    momenta, first = [norm.momentum for norm in norms], None
    with modes_kept(program), buffers_kept(program), progress_bar(hidden=not progress) as bar, torch.no_grad():
        program.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        for number, batch in enumerate(read(batches)):
            bar.show("estimating batch norms", number, length_of(batches))
            args, kwargs = arguments_of(batch, inputs)
            first = (args, kwargs) if first is None else first
            program(*args, **kwargs)
        estimated = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    if first is None:
        raise PlanError("expected at least one batch to estimate batch norms with, got none")
    for norm, momentum, (mean, variance) in zip(norms, momenta, estimated, strict=True):
        norm.momentum = momentum
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
    return first
