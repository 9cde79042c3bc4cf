"""The hash of all that a program computes with: its graph and the values of its tensors."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from swdc.ir.program import Program


def content_hash(program: Program) -> str:
    """Return a SHA-256 of a program's graph and of the types, shapes and values of all its tensors, by name.

    It depends neither on devices nor on modes, nor on where equal tensors are tied.
    """
    digest = hashlib.sha256(program.hash().encode())
    for name, tensor in sorted(program.tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: torch.Tensor) -> Any:
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().flatten()
    return flat.view(torch.uint8).numpy()
