"""Tensors in safetensors files, read one at a time and in parts, so that a model does not have to fit into memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from swdc.artifacts.storage.folders import check_held
from swdc.artifacts.storage.plain_json import read_json
from swdc.artifacts.storage.tensor_files import read_header
from swdc.errors import ArtifactError, told_as
from swdc.ir.argument_types import checked, shown
from swdc.ir.weight_sources import Rows

INDEX = "model.safetensors.index.json"
"""The file that says which tensor is in which file of a checkpoint."""
SUFFIX = ".safetensors"
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "U16": torch.uint16, "U32": torch.uint32, "U64": torch.uint64, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2,
}  # fmt: skip
"""The types that a safetensors file can hold, by their names in the file."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor is stored: its file, the position of its first byte there, its shape and its type."""

    file: Path
    offset: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return prod(self.shape) * self.dtype.itemsize

    @property
    def row_bytes(self) -> int:
        """Bytes of one index of the first dimension."""
        return prod(self.shape[1:]) * self.dtype.itemsize


class Checkpoint(Mapping[str, torch.Tensor]):
    """A ``.safetensors`` file, or a folder of them with or without an index, as a mapping that reads on access.

    Files are read, not mapped: a tensor that was read and released no longer counts as memory of the process.
    """

    @checked(ArtifactError)
    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read the headers. Raises ``ArtifactError`` if there is no checkpoint at the path, or a file is damaged."""
        given = Path(path)
        self.path = given.parent if given.name == INDEX else given
        self._entries: dict[str, Entry] = {}
        with told_as(ArtifactError, f"a checkpoint that can be read, got {given}", "check the path"):
            for file in _files(self.path):
                self._entries.update(_header(file))
        for name, where in _index(self.path).items():
            if name not in self._entries or self._entries[name].file.name != where:
                raise ArtifactError(
                    f"expected the tensor {name} in {self.path / where}, as {INDEX} says; copy it again"
                )

    def __getitem__(self, name: str) -> torch.Tensor:
        entry = self._entries[name]
        runs = [(0, entry.shape[0])] if entry.shape else [(0, 1)]
        return _read(entry, runs, entry.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    @checked(ArtifactError)
    def entry(self, name: str) -> Entry:
        """Return where a tensor is stored, and its shape and type; ``ArtifactError`` for an unknown name."""
        if name not in self._entries:
            raise ArtifactError(f"expected the name of a tensor in {self.path}, got {name!r}; list(checkpoint) has all")
        return self._entries[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor; ``ArtifactError`` for an unknown name."""
        return self.entry(name).shape

    def rows(self, name: str, rows: Rows) -> torch.Tensor:
        """Return the given rows of a tensor (indices of its first dimension, in ascending order).

        Raises ``ArtifactError`` for an unknown name, and for rows that the tensor does not have.
        """
        entry = self.entry(name)
        whole = isinstance(rows, np.ndarray) and rows.ndim == 1 and (rows.dtype.kind in "iu" or not len(rows))
        if not whole or not entry.shape or (len(rows) and not 0 <= rows.min() <= rows.max() < entry.shape[0]):
            raise ArtifactError(
                f"expected an array of indices of the first dimension of {name}, of shape {entry.shape}, got "
                f"{shown(rows)}; give whole numbers from 0 on"
            )
        return _read(entry, _runs(rows), (len(rows), *entry.shape[1:]))


def is_sharded(path: Path) -> bool:
    """Whether a path is a folder with a checkpoint in safetensors files."""
    return path.is_dir() and ((path / INDEX).is_file() or any(path.glob(f"*{SUFFIX}")))


def _index(path: Path) -> dict[str, str]:
    if not (path / INDEX).is_file():
        return {}
    try:
        found = read_json(path / INDEX)["weight_map"]
        return {str(name): str(file) for name, file in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ArtifactError(f"expected a 'weight_map' in {path / INDEX}, got {error!r}; copy it again") from error


def _files(path: Path) -> list[Path]:
    """Return the files of a checkpoint: the files that its index names, or all in the folder."""
    if path.is_file() and path.suffix == SUFFIX:
        return [path]
    named = sorted(set(_index(path).values()))
    files = [path / name for name in named] or sorted(path.glob(f"*{SUFFIX}"))
    missing = [file for file in files if not file.is_file() or file.parent != path]
    if missing or not files:
        what = f"there is no {missing[0]}" if missing else f"there is no {SUFFIX} file at {path}"
        raise ArtifactError(f"expected a checkpoint of {SUFFIX} files, but {what}; check the path, or copy it again")
    return files


def _header(file: Path) -> dict[str, Entry]:
    """Return the entries in the header of a safetensors file. Raises ``ArtifactError`` if they do not fit the file."""
    check_held(file)
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            header, start = read_header(stream)
        header.pop("__metadata__", None)
        entries = {name: _entry(file, start, size, data) for name, data in header.items()}
        if sum(entry.size for entry in entries.values()) > size - start:
            raise ValueError("tensors that share their bytes")
        return entries
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ArtifactError(f"expected a safetensors file, but {file} is not one: {error}; copy it again") from error


def _entry(file: Path, start: int, size: int, data: Mapping[str, Any]) -> Entry:
    first, last = data["data_offsets"]
    entry = Entry(file, start + first, tuple(data["shape"]), DTYPES[data["dtype"]])
    whole = all(type(number) is int and number >= 0 for number in (first, last, *entry.shape))
    if not whole or last - first != entry.size or start + last > size:
        raise ValueError(f"{last - first} bytes at {first} for {entry.shape} of {data['dtype']}")
    if entry.size == 0:
        torch.empty(
            entry.shape, dtype=entry.dtype, device="meta"
        )  # sizes of a tensor without values may be beyond torch
    return entry


def _runs(rows: Rows) -> list[tuple[int, int]]:
    """Return the ranges of consecutive numbers in an ascending array."""
    if len(rows) == 0:
        return []
    starts = np.flatnonzero(np.r_[True, np.diff(rows) != 1])
    ends = np.r_[starts[1:], len(rows)] - 1
    return [(int(rows[a]), int(rows[b]) + 1) for a, b in zip(starts, ends, strict=True)]


def _read(entry: Entry, runs: list[tuple[int, int]], shape: tuple[int, ...]) -> torch.Tensor:
    tensor = torch.empty(shape, dtype=entry.dtype)
    if tensor.numel() == 0:
        return tensor
    memory = memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data)
    width = entry.row_bytes
    with entry.file.open("rb", buffering=0) as stream:
        for first, last in runs:
            size = (last - first) * width
            stream.seek(entry.offset + first * width)
            _fill(memory[:size], stream, entry.file)
            memory = memory[size:]
    return tensor


def _fill(memory: memoryview, stream: FileIO, file: Path) -> None:
    while len(memory):
        got = stream.readinto(memory)
        if not got:
            raise ArtifactError(f"expected {file} as it was opened, but it ends early; copy it again")
        memory = memory[got:]
