"""Writing a checkpoint in several safetensors files, part by part: it does not have to fit into memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch

from swdc.artifacts.storage.checkpoint_reader import DTYPES, INDEX
from swdc.artifacts.storage.plain_json import write_json
from swdc.errors import ArtifactError

SHARD_BYTES = 5 * 10**9
"""Most bytes of tensors in one file, unless a single tensor is larger."""
_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Described:
    """The shape and the type of a tensor to write."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return prod(self.shape) * self.dtype.itemsize


def write_shards(
    tensors: Mapping[str, Described], parts: Mapping[str, Iterable[torch.Tensor]], folder: Path, size: int = SHARD_BYTES
) -> None:
    """Write tensors to files of at most ``size`` bytes each, and the index that says which tensor is in which file.

    A tensor larger than ``size`` has a file of its own. ``parts`` gives each tensor in pieces along its first
    dimension. Raises ``ArtifactError`` if the pieces do not add up to the tensor, or safetensors cannot hold its type.
    """
    shards = _divided(tensors, size)
    files = [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    for file, names in zip(files, shards, strict=True):
        _write({name: tensors[name] for name in names}, parts, folder / file)
    where = {name: file for file, names in zip(files, shards, strict=True) for name in names}
    total = sum(tensor.size for tensor in tensors.values())
    write_json({"metadata": {"total_size": total}, "weight_map": where}, folder / INDEX)


def _divided(tensors: Mapping[str, Described], size: int) -> list[list[str]]:
    shards: list[list[str]] = [[]]
    filled = 0
    for name, tensor in tensors.items():
        if shards[-1] and filled + tensor.size > size:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += tensor.size
    return shards


def _write(tensors: Mapping[str, Described], parts: Mapping[str, Iterable[torch.Tensor]], file: Path) -> None:
    order = sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)  # so that every tensor is aligned
    with file.open("wb") as stream:
        stream.write(_header({name: tensors[name] for name in order}))
        for name in order:
            written = 0
            for part in parts[name]:
                data = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
                written += stream.write(data)
            if written != tensors[name].size:
                raise ArtifactError(f"expected {tensors[name].size} bytes of {name}, got parts of {written} in all")


def _header(tensors: Mapping[str, Described]) -> bytes:
    described: dict[str, object] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in _NAMES:
            raise ArtifactError(f"expected types that safetensors can hold, got {tensor.dtype} for {name}; convert it")
        offsets = [position, position + tensor.size]
        described[name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        position += tensor.size
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
