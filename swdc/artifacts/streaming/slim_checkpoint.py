"""Slimming a checkpoint larger than memory: the plan is made on the meta device, the tensors are cut one by one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.utils import _pytree as pytree

from swdc.artifacts.folder.save import TRANSIENT, write
from swdc.artifacts.storage.checkpoint_writer import SHARD_BYTES, Described, write_shards
from swdc.artifacts.storage.tensor_files import save_tensors
from swdc.artifacts.streaming.tape import Tape
from swdc.errors import ArtifactError, PlanError
from swdc.ir.argument_types import checked
from swdc.ir.dtypes_and_devices import move_literals_to_cpu
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ir.weight_sources import Values
from swdc.rewriting.rewrites import slim


@checked(ArtifactError)
def slim_checkpoint(
    program: Program,
    plan: Plan,
    weights: Mapping[str, torch.Tensor],
    path: str | os.PathLike[str],
    shard_bytes: int = SHARD_BYTES,
    announce: Callable[[str], None] = lambda name: None,
) -> Program:
    """Write the slim program of a checkpoint to a folder, and return the slim program without its values.

    ``program`` is traced on the meta device, as ``swdc.trace_skeleton`` does it, and ``weights`` (a
    ``swdc.Checkpoint``) has the values of its parameters. The tensors are, bit by bit, those that ``swdc.slim`` makes
    in memory, but only about one tensor is in memory at a time. ``swdc.load`` gives the slim program back. The folder
    also holds a checkpoint under the names of the model, in files of ``shard_bytes`` with an index. ``announce`` is
    called with the name of each tensor before it is written.

    The program is not run, so there is no certificate. Raises ``PlanError`` if the plan was not made for this program
    or the weights do not fit it, and ``ArtifactError`` as ``swdc.save`` does; then nothing is written.

    Example::

        plan = swdc.plan(skeleton, 0.5, weights=weights)
        swdc.slim_checkpoint(skeleton, plan, weights, "streamed")
    """
    if shard_bytes < 1:
        raise ArtifactError(f"expected shard_bytes as a positive number of bytes, got {shard_bytes}")
    values = Values(program, weights)
    values.check()
    _check_without_values(program, weights)
    with Tape(program.tensors, values) as tape:
        made = slim(program, plan)
    made = _to_cpu(made)
    origin = made.facts.origin
    assert origin is not None
    folded = {name: tape.whole(tensor) for name, tensor in origin.folded.items()}
    made = made.with_facts(origin=replace(origin, folded=folded))

    def store(program: Program, names: Sequence[str], folder: Path) -> None:
        tensors = program.tensors
        kept = [name for name in names if name not in program.transient]
        described = {name: Described(tuple(tensors[name].shape), tensors[name].dtype) for name in kept}
        write_shards(described, _Parts(tape, tensors, announce), folder, shard_bytes)
        transient = {name: tape.whole(tensors[name]) for name in names if name in program.transient}
        if transient:
            save_tensors(transient, folder / TRANSIENT)

    write(made, path, store)
    return made


class _Parts(Mapping[str, Iterator[torch.Tensor]]):
    """The pieces of every tensor of a slim program, computed on access."""

    def __init__(self, tape: Tape, tensors: Mapping[str, torch.Tensor], announce: Callable[[str], None]) -> None:
        self._tape, self._tensors, self._announce = tape, tensors, announce

    def __getitem__(self, name: str) -> Iterator[torch.Tensor]:
        self._announce(name)
        return self._tape.parts(self._tensors[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _check_without_values(program: Program, weights: Mapping[str, torch.Tensor]) -> None:
    own = [n for n, t in program.tensors.items() if not t.is_meta and (n in weights or isinstance(t, nn.Parameter))]
    if own:
        raise PlanError(
            f"expected a program on the meta device, got one with values of its own for {', '.join(own[:3])}; trace "
            f"the model with swdc.trace_skeleton, or slim it in memory with swdc.slim"
        )


def _to_cpu(program: Program) -> Program:
    """Change a program that was traced on the meta device so that it makes its tensors on the CPU, and return it."""
    move_literals_to_cpu(program)
    example = pytree.tree_map(
        lambda leaf: torch.zeros_like(leaf, device="cpu") if isinstance(leaf, torch.Tensor) and leaf.is_meta else leaf,
        program.facts.example,
    )
    return program.with_facts(example=example)
