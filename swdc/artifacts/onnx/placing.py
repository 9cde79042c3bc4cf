"""A file of ONNX, and the weights beside it, put in their place in one step."""

from __future__ import annotations

import os
from pathlib import Path

import onnx

from swdc.errors import ExportError
from swdc.ir.atomic_files import locked, need_plain_file


def weight_files(target: Path) -> tuple[Path, Path]:
    """Return the two names that the weights of a file may have; the second is used while the first is in use."""
    return target.with_name(f"{target.name}.data"), target.with_name(f"{target.name}.other.data")


def parts_of(file: Path) -> list[Path]:
    """Return a file and, if its weights are not in it, the files that hold them."""
    return [file, *(file.with_name(name) for name in sorted(_weights_of(file)))]


def check_place(target: Path) -> None:
    """Raise ``ExportError`` if a file would take the place of a folder, a link or a device, or cannot be there."""
    try:
        if target.is_dir():
            raise ExportError(f"expected the path of a file to write, got the folder {target}; name a file in it")
        for path in (target, *weight_files(target)):
            need_plain_file(path)
    except (OSError, ValueError) as error:
        raise ExportError(f"expected the path of a file to write, but {error}; give another path") from error


def place(made: Path, target: Path) -> None:
    """Move a file to its place, after its weights, which take the name that the file in place does not use.

    A process that is killed on the way leaves the old file or the new one, each with its own weights.
    """
    with locked(target.parent):
        check_place(target)
        used = _weights_of(target)
        first, second = weight_files(target)
        free = second if first.name in used else first
        if weight_files(made)[0].exists():
            _name_weights(made, free.name)
            os.replace(weight_files(made)[0], free)
        os.replace(made, target)
        left = {second, *(target.with_name(name) for name in used)} - {target.with_name(n) for n in _weights_of(target)}
        for file in left & {first, second}:
            file.unlink(missing_ok=True)


def _weights_of(file: Path) -> set[str]:
    """Return the names of the files that hold the weights of a file; none if it is missing, or no file of ONNX."""
    try:
        model = onnx.load(file, load_external_data=False)
    except Exception:  # protobuf has errors of its own
        return set()
    return {entry.value for entry in _locations(model)}


def _name_weights(file: Path, name: str) -> None:
    model = onnx.load(file, load_external_data=False)
    for entry in _locations(model):
        entry.value = name
    onnx.save(model, file)


def _locations(model: onnx.ModelProto) -> list[onnx.StringStringEntryProto]:
    return [entry for tensor in model.graph.initializer for entry in tensor.external_data if entry.key == "location"]
