"""Tensors on disk without pickle: each is stored once, with a table of the names that share it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from swdc.artifacts.storage.plain_json import MOST_BYTES, parse_json
from swdc.errors import ArtifactError


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write tensors to a safetensors file. Raises ``ArtifactError`` for types or layouts that the file cannot hold.

    Raises ``OSError`` if the file cannot be written.
    """
    try:
        save_file(_apart(tensors), path)
    except (SafetensorError, KeyError, RuntimeError, ValueError) as error:
        _raise_system_error(error, path)
        kinds = sorted({f"{t.dtype}, {t.layout}" for t in tensors.values()})
        raise ArtifactError(
            f"expected dense tensors of types that safetensors can hold, got {kinds}: {error}; convert them"
        ) from error


def _raise_system_error(error: Exception, path: Path) -> None:
    """Raise the error of the system that an error of safetensors tells of, if it does."""
    code = re.search(r"\(os error (\d+)\)", str(error))
    if code is not None:
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from error


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors as contiguous ones that share no memory."""
    apart: dict[str, torch.Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        plain = tensor.detach().contiguous()
        storage = plain.untyped_storage().data_ptr()
        apart[name] = plain.clone() if storage in seen else plain
        seen.add(storage)
    return apart


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file, on the CPU. Raises ``ArtifactError`` if it is not one."""
    try:
        with path.open("rb") as stream:
            read_header(stream)  # safetensors takes the last of two tensors of one name
        loaded: dict[str, torch.Tensor] = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(f"expected a safetensors file, but {path} is not one: {error}; copy it again") from error
    # Tensors mapped from a file lie at unaligned addresses, for which kernels round in another order.
    return {name: tensor.clone() for name, tensor in loaded.items()}


def read_header(stream: BinaryIO) -> tuple[dict[str, Any], int]:
    """Return the header of a safetensors file, and where the data after it begins.

    Raises ``ValueError`` for a header that is longer than the file or than JSON may be, or says one thing twice.
    """
    length, size = int.from_bytes(stream.read(8), "little"), os.fstat(stream.fileno()).st_size
    if length > min(size - 8, MOST_BYTES):
        raise ValueError(f"a header of {length} bytes, of at most {MOST_BYTES}, in a file of {size}")
    return parse_json(stream.read(length)), 8 + length


def table_of(tensors: Mapping[str, torch.Tensor], transient: Collection[str]) -> list[dict[str, Any]]:
    """Return everything about the tensors except their values: one row per name, in order.

    ``stored`` is the first name of the same tensor; its values are saved under that name.
    """
    first: dict[int, str] = {}
    rows = []
    for name, tensor in tensors.items():
        row: dict[str, Any] = {"name": name, "stored": first.setdefault(id(tensor), name)}
        row["kind"] = "parameter" if isinstance(tensor, nn.Parameter) else "buffer"
        row["requires_grad"] = tensor.requires_grad
        if not tensor.is_contiguous() and _is_dense(tensor):
            row["strides"] = list(tensor.stride())
        if name in transient:
            row["persistent"] = False
        rows.append(row)
    return rows


def assemble(
    rows: list[dict[str, Any]], values: Mapping[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], set[str]]:
    """Return the tensors that a table describes, by name, and the names that ``state_dict`` leaves out.

    Raises ``ValueError`` or ``LookupError`` for a table that does not fit the values.
    """
    made: dict[str, torch.Tensor] = {}
    for row in rows:
        if row["stored"] == row["name"]:
            made[row["name"]] = _restored(row, values[row["name"]])
    tensors = {row["name"]: made[row["stored"]] for row in rows}
    if len(tensors) != len(rows):
        raise ValueError("it names a tensor twice")
    return tensors, {row["name"] for row in rows if not row.get("persistent", True)}


def _restored(row: Mapping[str, Any], values: torch.Tensor) -> torch.Tensor:
    if row["kind"] not in ("parameter", "buffer") or not isinstance(row["requires_grad"], bool):
        raise ValueError(f"it holds an unknown kind of tensor, {row['kind']!r}")
    if "strides" in row:
        values = _laid_out(values, row["strides"])
    if row["kind"] == "parameter":
        return nn.Parameter(values, requires_grad=row["requires_grad"])
    return values.requires_grad_() if row["requires_grad"] else values


def _laid_out(values: torch.Tensor, strides: list[int]) -> torch.Tensor:
    """Return a copy with other strides; raise ``ValueError`` for strides that leave gaps, which may take any memory."""
    if not _is_dense(torch.empty_strided(values.shape, strides, dtype=values.dtype, device="meta")):
        raise ValueError(f"strides {strides} leave gaps in a tensor of {tuple(values.shape)}")
    return torch.empty_strided(values.shape, strides, dtype=values.dtype).copy_(values)


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether the elements of a tensor fill their memory without gaps or overlaps, in any order of dimensions."""
    order = sorted(range(tensor.dim()), key=tensor.stride, reverse=True)
    return tensor.permute(order).is_contiguous()
