"""Saving a program to a folder that runs without the user's code, and loading it: plain data, no pickle."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from swdc.artifacts.folder.consistency import check_folded, check_stored
from swdc.artifacts.folder.forms import Graph
from swdc.artifacts.folder.graph_json import GRAPH, decode_program, encode_program
from swdc.artifacts.storage.checkpoint_reader import INDEX, Checkpoint
from swdc.artifacts.storage.folders import (
    MANIFEST,
    new_folder,
    read_folder,
    read_manifest,
    readable,
    resolved,
    seal,
    verified,
)
from swdc.artifacts.storage.plain_json import read_json, write_json
from swdc.artifacts.storage.tensor_files import assemble, load_tensors, save_tensors, table_of
from swdc.artifacts.transplanting.stored_outputs import outputs_of
from swdc.artifacts.transplanting.transplantation import transplant
from swdc.errors import ArtifactError
from swdc.ir.argument_types import checked
from swdc.ir.data_forms import check_form
from swdc.ir.module_tensors import need_values
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ir.program_facts import Origin
from swdc.rewriting.certificate import Certificate, check_certificate

WEIGHTS = "weights.safetensors"
TRANSIENT = "transient.safetensors"
EXAMPLE = "example.safetensors"
FOLDED = "folded.safetensors"
OUTPUTS = "outputs.safetensors"
PLAN = "plan.json"
CERTIFICATE = "certificate.json"
_NEEDED = (GRAPH, EXAMPLE)
_KNOWN = (*_NEEDED, WEIGHTS, INDEX, TRANSIENT, FOLDED, OUTPUTS, PLAN, CERTIFICATE, MANIFEST)
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")

Store = Callable[[Program, Sequence[str], Path], None]
"""Writes the tensors with the given names to files in a folder."""


@checked(ArtifactError, on_cpu=True)
def save(
    program: Program,
    path: str | os.PathLike[str],
    certificate: Certificate | None = None,
    model: nn.Module | None = None,
) -> Path:
    """Write a program to a folder, and return the folder's path. ``load`` does not need the model's class.

    The folder holds ``weights.safetensors`` (each tied tensor once), ``graph.json``, ``example.safetensors``,
    and ``manifest.json`` with the hash of every file. For a slim or masked program it also holds ``plan.json``, and
    ``certificate.json`` if a ``certificate`` is given. Hooks and the dense program behind a masked one are not saved.

    ``model`` is the model that was traced, if the folder is to be loaded into its class with ``swdc.load_into``: that
    is tried at once, as ``swdc.transplant`` does it, and what the class then returns for the example inputs is stored,
    too. The given model is not changed.

    A folder that ``save`` wrote before is replaced. Raises ``ArtifactError`` if the path is a file or any other
    folder that is not empty, if the certificate belongs to another plan or to other weights, and if the program holds
    something that plain data cannot describe, and ``TransplantError`` as ``swdc.transplant``; then the path stays as it
    was.

    Example::

        swdc.save(slim, "folder", certificate)
    """
    check_certificate(program, certificate, ArtifactError)
    need_values(program, ArtifactError, "saving")
    outputs = None if model is None else outputs_of(transplant(program, model), program)
    return write(program, path, _store, certificate, outputs)


def write(
    program: Program,
    path: str | os.PathLike[str],
    store: Store,
    certificate: Certificate | None = None,
    outputs: Sequence[torch.Tensor] | None = None,
) -> Path:
    """Write a program to a folder as ``save`` does, but let ``store`` write its tensors."""
    with new_folder(resolved(path), _is_known) as folder:
        _write(program, folder, store)
        if outputs is not None:
            save_tensors({str(number): tensor for number, tensor in enumerate(outputs)}, folder / OUTPUTS)
        if certificate is not None:
            write_json(certificate.to_dict(), folder / CERTIFICATE)
        seal(folder, swdc=version("swdc"), torch=torch.__version__, program_hash=program.hash())
    return Path(path)


@checked(ArtifactError, on_cpu=True)
def load(path: str | os.PathLike[str]) -> Program:
    """Return the program that ``save`` wrote to a folder, on the CPU.

    It computes the same, and has the same parameters and buffers, modes, groups, origin and hash. Nothing in
    the folder is executed. Raises ``ArtifactError``, which names the file, if a file is missing, truncated or
    altered, if the format is newer than this version of swdc, or if something needed is not installed.

    Example::

        slim = swdc.load("folder")
    """
    return read_folder(Path(path), _load)


def _load(folder: Path) -> Program:
    manifest = read_manifest(folder, _NEEDED, _is_known)
    files = set(manifest["files"])
    for name in files:
        verified(folder, name, manifest)
    with readable(folder / GRAPH):
        program = _read(folder, files)
    if CERTIFICATE in files:
        check_certificate(program, replace(_certificate(folder), slim_hash=""), ArtifactError)
    if program.hash() != manifest["program_hash"]:
        raise ArtifactError(
            f"expected the graph that was saved in {folder / GRAPH}, but it reads as another one; load it with "
            f"torch {manifest['torch']} and swdc {manifest['swdc']}, which wrote it, or trace the model again"
        )
    return program


@checked(ArtifactError)
def load_certificate(path: str | os.PathLike[str]) -> Certificate | None:
    """Return the certificate saved with a program, ``None`` if there is none.

    It is not exact, and says why, if the folder's graph or weights are not those that it was made for. Whoever writes
    the folder can write the certificate too: ``swdc verify`` does not trust it. Raises ``ArtifactError`` as ``load``.
    """
    return read_folder(Path(path), _load_certificate)


def _load_certificate(folder: Path) -> Certificate | None:
    manifest = read_manifest(folder, _NEEDED, _is_known)
    if CERTIFICATE not in manifest["files"]:
        return None
    verified(folder, CERTIFICATE, manifest)
    certificate = _certificate(folder)
    return certificate.of(load(folder)) if certificate.slim_hash else certificate


def _certificate(folder: Path) -> Certificate:
    with readable(folder / CERTIFICATE):
        return Certificate.from_dict(read_json(folder / CERTIFICATE))


def _is_known(name: str) -> bool:
    """Whether ``save`` or ``slim_checkpoint`` writes files of this name."""
    return name in _KNOWN or _SHARD.fullmatch(name) is not None


def _store(program: Program, names: Sequence[str], folder: Path) -> None:
    tensors = program.tensors
    save_tensors({name: tensors[name] for name in names}, folder / WEIGHTS)


def _write(program: Program, folder: Path, store: Store) -> None:
    origin = program.facts.origin
    rows = table_of(program.tensors, program.transient)
    graph = {**encode_program(program), "tensors": rows}
    inputs = enumerate(pytree.tree_leaves(program.facts.example))
    example = {str(number): leaf for number, leaf in inputs if isinstance(leaf, torch.Tensor)}
    if origin is not None:
        graph["before"] = dict(origin.before)
        write_json(origin.plan.to_dict(), folder / PLAN)
        if origin.folded:
            save_tensors(origin.folded, folder / FOLDED)
    write_json(graph, folder / GRAPH)
    _check_readable(program, _read_graph(folder), example)
    store(program, list({row["stored"]: None for row in rows}), folder)
    save_tensors(example, folder / EXAMPLE)


def _check_readable(program: Program, graph: Mapping[str, Any], example: Mapping[str, torch.Tensor]) -> None:
    """Raise ``ArtifactError`` unless the written graph describes this very program."""
    again = decode_program(graph, program.tensors, example, program.transient)
    if again.hash() != program.hash():
        raise ArtifactError(
            "expected a program whose graph reads back as it was written, got one that does not: its modules "
            "or sizes are of a kind that plain data cannot describe; trace the model again, and save that"
        )


def _read_graph(folder: Path) -> dict[str, Any]:
    graph: dict[str, Any] = read_json(folder / GRAPH)
    check_form(graph, Graph)
    return graph


def _read(folder: Path, files: set[str]) -> Program:
    graph = _read_graph(folder)
    stored = _stored(folder, files)
    check_stored(stored, [row["stored"] for row in graph["tensors"]], "the files of weights")
    tensors, transient = assemble(graph["tensors"], stored)
    program = decode_program(graph, tensors, load_tensors(folder / EXAMPLE), transient)
    if (PLAN in files) != ("before" in graph) or (FOLDED in files and PLAN not in files):
        raise ArtifactError(f"expected {PLAN} with all that belongs to it in {folder}, got a part; save it again")
    if PLAN not in files:
        return program
    folded = load_tensors(folder / FOLDED) if FOLDED in files else {}
    check_folded(folded, tensors)
    return program.with_facts(origin=Origin(Plan.from_dict(read_json(folder / PLAN)), graph["before"], folded=folded))


def _stored(folder: Path, files: set[str]) -> dict[str, torch.Tensor]:
    """Return the tensors of a saved program, from one file or from several."""
    shards = {name for name in files if _SHARD.fullmatch(name)}
    if WEIGHTS in files:
        if shards or files & {INDEX, TRANSIENT}:
            raise ArtifactError(f"expected one file of weights in {folder}, got others, too; save it again")
        return load_tensors(folder / WEIGHTS)
    checkpoint = Checkpoint(folder / INDEX)
    where = {name: checkpoint.entry(name).file.name for name in checkpoint}
    index = read_json(folder / INDEX)
    size = sum(checkpoint.entry(name).size for name in checkpoint)
    if set(where.values()) != shards or index != {"metadata": {"total_size": size}, "weight_map": where}:
        raise ArtifactError(f"expected the tensors and files in {folder / INDEX} that are there; save it again")
    return {**checkpoint, **(load_tensors(folder / TRANSIENT) if TRANSIENT in files else {})}
