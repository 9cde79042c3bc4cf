"""Whether the program in a folder is the slim program of a model: its graph, and every weight. It is never run."""

from __future__ import annotations

from pathlib import Path

import torch

from swdc.artifacts.folder.save import load
from swdc.cli.terminal.models import Source
from swdc.cli.verify.finding import Finding, remade
from swdc.errors import CommandError, PassError, VerificationError
from swdc.ir.program import Program
from swdc.ir.same_calls import different_calls
from swdc.rewriting.deploy import deploy
from swdc.rewriting.same_weights import computed_weights, same_values

_ROUNDING = 4
"""Units by which a weight that swdc has computed may differ, because another machine may round it otherwise."""
_COARSE = 1e-6
"""In types with a larger unit than this, four units would be far more than rounding; there one is allowed."""


def check_saved(folder: Path, source: Source) -> Finding:
    """Return whether a folder holds the slim or the deployed program of a model."""
    saved = load(folder)
    origin = saved.facts.origin
    if origin is None:
        raise CommandError(
            f"expected a folder with a slim program, got {folder}, which names no plan; give what swdc slim wrote"
        )
    args, kwargs = saved.facts.example
    masked, slim, certificate = remade(source, kwargs or args, origin.plan, saved.facts.attention)
    different = _difference(saved, slim, masked)
    if different is not None and (deployed := _deployed(slim)) is not None and deployed.hash() == saved.hash():
        different = _difference(saved, deployed, masked)
    same = different is None
    return Finding(certificate, same, different or "its graph and weights are those that swdc makes of the model")


def _deployed(slim: Program) -> Program | None:
    try:
        return deploy(slim)
    except (PassError, VerificationError):
        return None


def _difference(saved: Program, mine: Program, masked: Program) -> str | None:
    """Return in words where a saved program differs from that made here; ``None`` if it is the same."""
    if saved.hash() != mine.hash():
        return "its graph is not the one that swdc makes of the model with this plan"
    if (called := different_calls(saved, mine, modes=True)) is not None:
        return f"it has {called} than what swdc makes of the model"
    own, computed = mine.tensors, computed_weights(masked, mine)
    for name, tensor in saved.tensors.items():
        if not _equal(tensor, own[name], name in computed):
            return f"its tensor {name} is not that of the model"
    return None


def _equal(saved: torch.Tensor, mine: torch.Tensor, computed: bool) -> bool:
    if saved.dtype != mine.dtype or saved.shape != mine.shape:
        return False
    if not computed or not saved.is_floating_point():
        return same_values(saved, mine)
    unit = torch.finfo(saved.dtype).eps
    units = 1 if unit > _COARSE else _ROUNDING
    return torch.allclose(saved.double(), mine.double(), rtol=units * unit, atol=0, equal_nan=True)
