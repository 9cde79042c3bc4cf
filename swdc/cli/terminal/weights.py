"""Trained weights from a file into a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from swdc.artifacts.storage.checkpoint_reader import Checkpoint, is_sharded
from swdc.errors import CommandError
from swdc.ir.program import Program

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model")
"""Keys under which training scripts keep the weights beside the state of their optimizer."""
SHOWN = 20
"""Names listed in a message before the rest is only counted."""


def load_weights(model: nn.Module, path: Path) -> None:
    """Copy the weights of a file into a model; the file must have every tensor of the model, and no other.

    Pickled files are read with ``weights_only=True``. Raises ``CommandError`` for a file that cannot be read,
    and for names or shapes that differ from the model's.
    """
    tensors = read_weights(path)
    own = model.state_dict()
    other = [n for n, t in tensors.items() if n in own and t.is_complex() and not own[n].is_complex()]
    if other:
        raise CommandError(
            f"expected real numbers in {path} as in {type(model).__name__}, got complex ones for {_listed(other)}; "
            f"save the model's own state_dict()"
        )
    try:
        result = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        mismatches = [line.strip() for line in str(error).splitlines()[1:]]
        raise CommandError(
            f"expected weights that fit {type(model).__name__}, but {path} does not: "
            f"{'; '.join(mismatches)}; give the --arg values that the model was trained with"
        ) from error
    missing = _without_tied(model, result.missing_keys)
    if missing or result.unexpected_keys:
        raise CommandError(_misfit(path, type(model).__name__, missing, result.unexpected_keys))


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a .safetensors or .pt file, or of a folder of the former, by name.

    If the file is a training script's checkpoint, the weights are taken out of it.

    Raises ``CommandError`` if there is no such file, it cannot be read, or holds no tensors by name.
    """
    if is_sharded(path):
        return dict(Checkpoint(path))
    if not path.is_file():
        raise CommandError(f"expected a file of weights, but there is none at {path}; check the path of --weights")
    if path.suffix not in SUFFIXES:
        raise CommandError(f"expected weights in a file {', '.join(SUFFIXES)}, got {path.name!r}; convert it first")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes zipfile, pickle, safetensors and torch raise as many kinds
        raise CommandError(
            f"expected {path} to hold tensors only, but it cannot be read ({_first_line(error)}); save the "
            f"model's state_dict() anew"
        ) from error
    return _unwrapped(content, path)


def open_checkpoint(path: Path | None) -> Checkpoint:
    """Return weights that are read tensor by tensor; ``CommandError`` unless they are in safetensors files."""
    if path is None or not (is_sharded(path) or path.suffix == ".safetensors"):
        raise CommandError(
            f"expected --weights as a .safetensors file or a folder of them, to be read tensor by tensor, got {path}; "
            f"convert them, or leave --stream out"
        )
    return Checkpoint(path)


def check_names(program: Program, checkpoint: Checkpoint) -> None:
    """Raise ``CommandError`` unless a checkpoint has the tensors that a program without values lacks, and no other."""
    tensors = program.tensors
    there = {id(tensor) for name, tensor in tensors.items() if name in checkpoint}
    missing = [name for name, tensor in tensors.items() if tensor.is_meta and id(tensor) not in there]
    unexpected = [name for name in checkpoint if name not in tensors]
    if missing or unexpected:
        raise CommandError(_misfit(checkpoint.path, "the model", missing, unexpected))


def _misfit(path: Path, model: str, missing: Iterable[str], unexpected: Iterable[str]) -> str:
    return (
        f"expected a tensor in {path} for each of {model} and no other, but {_listed(missing)} are missing and "
        f"{_listed(unexpected)} are unexpected; give the --arg values that the model was trained with, or rename the "
        f"keys"
    )


def _unwrapped(content: Any, path: Path) -> dict[str, torch.Tensor]:
    for key in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    named = isinstance(content, Mapping) and all(isinstance(name, str) for name in content)
    if not named or not all(isinstance(t, torch.Tensor) for t in content.values()):
        found = f"the keys {_listed(map(str, content))}" if isinstance(content, Mapping) else type(content).__name__
        raise CommandError(
            f"expected {path} to hold tensors by name, at its top or under "
            f"{' or '.join(map(repr, WRAPPERS))}, got {found}; save the model's state_dict()"
        )
    return dict(content)


def _without_tied(model: nn.Module, missing: Iterable[str]) -> list[str]:
    """Leave out the names of tensors that were loaded under another name."""
    absent = set(missing)
    tensors = {
        **dict(model.named_parameters(remove_duplicate=False)),
    **dict(model.named_buffers(remove_duplicate=False)) }  # fmt: skip
    loaded = {id(tensor) for name, tensor in tensors.items() if name not in absent}
    return sorted(name for name in absent if id(tensors.get(name)) not in loaded)


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return f"{len(every)} ({', '.join(every[:SHOWN])}{more})" if every else "none"


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
