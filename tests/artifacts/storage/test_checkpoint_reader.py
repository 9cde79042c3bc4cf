"""Reading and writing safetensors files in parts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import swdc
from swdc.artifacts.storage import plain_json, tensor_files
from swdc.artifacts.storage.checkpoint_reader import DTYPES, INDEX, is_sharded
from swdc.artifacts.storage.checkpoint_writer import Described, write_shards
from swdc.errors import ArtifactError


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "a": torch.randn(7, 3, generator=generator),
        "half": torch.randn(5, 2, generator=generator).to(torch.bfloat16),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "flags": torch.tensor([True, False, True]),
        "none": torch.zeros(0, 4),
        "ids": torch.arange(6).reshape(2, 3),
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(tensors(), tmp_path / "all.safetensors")
    return tmp_path / "all.safetensors"


def test_tensors_are_read_as_they_were_written(file: Path) -> None:
    checkpoint = swdc.Checkpoint(file)
    assert set(checkpoint) == set(tensors())
    assert len(checkpoint) == 6
    for name, tensor in tensors().items():
        assert checkpoint[name].dtype == tensor.dtype
        assert torch.equal(checkpoint[name], tensor)
        assert checkpoint.entry(name).shape == checkpoint.shape(name) == tuple(tensor.shape)


def test_some_rows_are_read_without_the_others(file: Path) -> None:
    checkpoint = swdc.Checkpoint(file)
    for rows in ([0], [6], [1, 2, 3], [0, 2, 3, 6], [0, 1, 2, 3, 4, 5, 6], []):
        assert torch.equal(checkpoint.rows("a", np.array(rows, dtype=np.int64)), tensors()["a"][rows])


@pytest.mark.parametrize("rows", [[7], [-1], [0, 99], [0.0], [True], 3])
def test_rows_that_a_tensor_lacks_are_refused(file: Path, rows: object) -> None:
    checkpoint = swdc.Checkpoint(file)
    with pytest.raises(ArtifactError, match="expected an array of indices of the first dimension of a, of shape"):
        checkpoint.rows("a", np.array(rows))
    with pytest.raises(ArtifactError, match=r"expected the name of a tensor in .*, got 'b'"):
        checkpoint.rows("b", np.arange(1))


def test_a_folder_is_read_with_its_index_or_without(tmp_path: Path) -> None:
    one, other = dict(list(tensors().items())[:2]), dict(list(tensors().items())[2:])
    save_file(one, tmp_path / "one.safetensors")
    save_file(other, tmp_path / "other.safetensors")
    assert is_sharded(tmp_path)
    assert set(swdc.Checkpoint(tmp_path)) == set(tensors())
    where = dict.fromkeys(one, "one.safetensors")
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": where}))
    assert set(swdc.Checkpoint(tmp_path)) == set(one)
    assert set(swdc.Checkpoint(tmp_path / INDEX)) == set(one)
    assert not is_sharded(tmp_path / "one.safetensors")


def test_damaged_checkpoints_are_told(tmp_path: Path, file: Path) -> None:
    with pytest.raises(ArtifactError, match=r"expected a checkpoint of \.safetensors files, but there is no"):
        swdc.Checkpoint(tmp_path / "nowhere")
    content = file.read_bytes()
    for damaged in (content[:20], content[:-1], b"\xff" * 64, b"\x02" + bytes(7) + b"[]"):
        file.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"expected a safetensors file, but .*all\.safetensors is not one"):
            swdc.Checkpoint(file)
    file.write_bytes(content)
    for index, message in (
        ({}, "expected a 'weight_map' in"),
        ({"weight_map": {"a": "../all.safetensors"}}, "there is no"),
        ({"weight_map": {"a": "lost.safetensors"}}, "there is no"),
        ({"weight_map": {"b": "all.safetensors"}}, "expected the tensor b in"),
    ):
        (tmp_path / INDEX).write_text(json.dumps(index))
        with pytest.raises(ArtifactError, match=message):
            swdc.Checkpoint(tmp_path)


def test_files_take_no_more_memory_than_they_let_expect(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_files, "MOST_BYTES", 100)
    with pytest.raises(ArtifactError, match=r"a header of \d+ bytes, of at most 100, in a file of \d+; copy it again"):
        swdc.Checkpoint(file)
    with pytest.raises(ArtifactError, match=r"a header of \d+ bytes, of at most 100"):
        tensor_files.load_tensors(file)
    os.truncate(file, 2**30)
    with pytest.raises(ArtifactError, match="got 1073741824 bytes of which the disk holds"):
        swdc.Checkpoint(file)
    monkeypatch.setattr(plain_json, "MOST_BYTES", 10)
    (file.parent / INDEX).write_text(json.dumps({"weight_map": {}}))
    with pytest.raises(ArtifactError, match=r"got .*18 bytes, of at most 10.*; copy it again"):
        swdc.Checkpoint(file.parent)


@pytest.mark.parametrize("shape", [[0, 2**70], [2**40, 2**40, 0]])
def test_sizes_beyond_those_of_torch_are_told(file: Path, shape: list[int]) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}).encode()
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(ArtifactError, match=r"expected a safetensors file, but .*all\.safetensors is not one"):
        swdc.Checkpoint(file)


@pytest.mark.parametrize("size", [1, 60, 10**9])
def test_shards_are_files_that_others_read(tmp_path: Path, size: int) -> None:
    given = tensors()
    described = {name: Described(tuple(t.shape), t.dtype) for name, t in given.items()}
    parts = {name: t.split(2) if t.dim() else [t] for name, t in given.items()}
    write_shards(described, parts, tmp_path, size)
    index = json.loads((tmp_path / INDEX).read_text())["weight_map"]
    assert set(index) == set(given)
    assert len(set(index.values())) == {1: 6, 60: 3, 10**9: 1}[size]
    for name, tensor in given.items():
        assert torch.equal(load_file(tmp_path / index[name])[name], tensor)
        assert torch.equal(swdc.Checkpoint(tmp_path)[name], tensor)


def test_parts_that_do_not_make_up_a_tensor_are_refused(tmp_path: Path) -> None:
    described = {"a": Described((4, 2), torch.float32)}
    with pytest.raises(ArtifactError, match="expected 32 bytes of a, got parts of 8 in all"):
        write_shards(described, {"a": [torch.zeros(1, 2)]}, tmp_path)
    with pytest.raises(ArtifactError, match=r"got torch\.complex128 for a"):
        write_shards({"a": Described((1,), torch.complex128)}, {"a": [torch.zeros(1)]}, tmp_path)


def test_all_types_have_one_name() -> None:
    assert len(set(DTYPES.values())) == len(DTYPES)
