"""What users do with slim programs: save them, train them, transplant them, deploy them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from swdc import Program, deploy, load, save, transplant
from swdc.errors import TransplantError
from swdc.ir.differences import flat_outputs, relative_error
from swdc.ir.random_inputs import sample_inputs
from swdc.rewriting.certificate import TOLERANCE


class DifferenceError(AssertionError):
    """A check of a network does not hold."""


def copies(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.clone() for a in args)


def same_outputs(one: Program, other: Program, text: str) -> None:
    args, _ = sample_inputs(one, 2, 0, torch.float64)
    with torch.no_grad():
        error = relative_error(one(*copies(args)), other(*copies(args)))
    if error > 0:
        raise DifferenceError(f"{text}, it computes something else: relative error {error:.2e}")


def saved_alike(small: Program) -> None:
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(save(small, Path(folder) / "slim"))
    if loaded.hash() != small.hash():
        raise DifferenceError("saved and loaded, it has another hash")
    same_outputs(small, loaded, "saved and loaded")


def learns(small: Program) -> None:
    """One step of training, on two samples."""
    args, _ = sample_inputs(small, 2, 0, torch.float64)
    copy = small.clone().train()
    outputs = [o for o in flat_outputs(copy(*copies(args))) if o.requires_grad]
    torch.autograd.backward([o.square().mean() for o in outputs])
    if not any(p.grad is not None and bool(p.grad.isfinite().all()) for p in copy.parameters()):
        raise DifferenceError("the slim program cannot be trained: no parameter has a gradient")


def transplanted(small: Program, model: torch.nn.Module) -> str:
    """Return whether the network's own class takes the slim tensors; then it computes what the slim program does."""
    try:
        mine = transplant(small, model)
    except TransplantError:
        return "refused"
    args, _ = sample_inputs(small, 3, 1, torch.float64)
    with torch.no_grad():
        error = relative_error(small(*copies(args)), mine(*copies(args)))
    if not error <= TOLERANCE:
        raise DifferenceError(f"the transplanted model is not the slim program: relative error {error:.2e}")
    return "done"


def deployed_alike(small: Program) -> None:
    """Deployed for evaluation, it computes the same at batches of one and of several, in the same shapes."""
    deployed = deploy(small)
    for batch in (1, 3):
        args, _ = sample_inputs(small, batch, 0, torch.float64)
        with torch.no_grad():
            error = relative_error(small.eval()(*copies(args)), deployed(*copies(args)))
        if not error <= TOLERANCE:
            raise DifferenceError(f"deployed, it computes something else at batch {batch}: relative error {error:.2e}")
