"""A saved slim program in a new instance of the user's own class."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from swdc.artifacts.folder.save import OUTPUTS, load
from swdc.artifacts.storage.folders import read_folder, read_manifest, verified
from swdc.artifacts.storage.tensor_files import load_tensors
from swdc.artifacts.transplanting.copied_model import copied_model
from swdc.artifacts.transplanting.hooks import keep_hooks
from swdc.artifacts.transplanting.install import put_tensors
from swdc.artifacts.transplanting.same_program import copy_with_program
from swdc.artifacts.transplanting.scattered import scattered
from swdc.artifacts.transplanting.shorter import with_zero_branches
from swdc.artifacts.transplanting.stored_outputs import outputs_of
from swdc.artifacts.transplanting.transplantation import Transplanting
from swdc.errors import ArtifactError, TraceError, TransplantError, brief, told_as
from swdc.ir.argument_types import checked
from swdc.ir.differences import relative_error
from swdc.ir.module_tensors import need_values, tensors_of
from swdc.ir.program import Program
from swdc.rewriting.certificate import TOLERANCE


@checked(TransplantError)
def load_into(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Make a new instance of the user's class compute what the slim program in a folder computes; return it.

    ``model`` is made with the arguments of the model that was traced; its own weights do not matter. It gets the
    tensors of the slim program, and the integers and parts that fit them, as ``swdc.transplant`` finds them, and stays
    in its mode. The types of its tensors become those of the folder. Its hooks stay, except for those of modules that
    are replaced by parts of the slim program, which a warning names; its submodules are new objects.

    The result is compared with the slim program in float64, and with the outputs on the example inputs that
    ``swdc.save(..., model=)`` has stored, if there are any. Nothing in the folder is executed. Raises
    ``ArtifactError`` for a folder that ``swdc.load`` refuses or whose outputs differ, and ``TransplantError`` if the
    model is not of the class, or was not made with the arguments, of the one that was traced; then it is as it was.

    Example::

        small = swdc.load_into(make_model(), "folder")
    """
    need_values(model, TransplantError, "loading a slim program into it")
    slim = load(path)
    if slim.facts.origin is None or slim.facts.origin.dense is not None:
        raise TransplantError(
            f"expected the folder of a slim program, got another in {path}; save what swdc.slim returns"
        )
    name = type(model).__name__
    expected = f"an instance of {name} like the one that was traced"
    with told_as(TransplantError, expected, "make it with the same arguments"):
        whole = _whole(copied_model(model), slim, expected)
        made = Transplanting(with_zero_branches(slim, whole), whole, short=slim).result()
    stored = read_folder(Path(path), _stored)
    if stored is not None:
        error = relative_error(stored, outputs_of(copied_model(made), slim))  # a run may fill caches in float64
        if not error <= TOLERANCE:
            raise ArtifactError(
                f"expected {name} to return for the example inputs what it returned when {path} was saved, but it "
                f"differs by {error:.1e}; use the versions of the packages that it was saved with"
            )
    keep_hooks(model, made)
    model.__dict__ = made.__dict__
    return model


def _whole(model: nn.Module, slim: Program, expected: str) -> nn.Module:
    """Return the model with the tensors of the slim program in its own sizes."""
    given = slim.tensors
    for name, tensor in tensors_of(model).items():
        if name in given and tensor.is_floating_point():
            tensor.data = tensor.data.to(given[name].dtype)
    try:
        _, dense = copy_with_program(model, slim)
    except TraceError as error:
        raise TransplantError(
            f"expected {expected}, got one that does not run on its example inputs ({brief(error)}); make it with the "
            f"same arguments"
        ) from error
    put_tensors(model, scattered(dense, with_zero_branches(slim, model)), dense.tensors)
    return model


def _stored(folder: Path) -> list[torch.Tensor] | None:
    manifest = read_manifest(folder, (), lambda name: True)
    if OUTPUTS not in manifest["files"]:
        return None
    found = load_tensors(verified(folder, OUTPUTS, manifest))
    return [found[str(number)] for number in range(len(found))]
