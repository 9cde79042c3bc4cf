"""Whether the parts of a program that was read fit each other: modes, example inputs, sizes, tensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import fx
from torch.utils import _pytree as pytree

from swdc.errors import ArtifactError
from swdc.ir.graph import DTYPE, SHAPE
from swdc.ir.program import Program
from swdc.ir.sizes import evaluate


def check_modes(program: Program, modes: Collection[str]) -> None:
    """Raise ``ArtifactError`` unless there is a mode for each module of a program, and for nothing else."""
    paths = {path for path, _ in program.named_modules(remove_duplicate=False)}
    wrong = sorted(paths ^ set(modes))
    if wrong:
        raise ArtifactError(f"expected a mode for each module of the program, got other ones at {wrong}; save it again")


def check_example(program: Program) -> None:
    """Raise ``ArtifactError`` unless a program has an example of each input, of the sizes that its graph names."""
    nodes = program.graph.find_nodes(op="placeholder")
    leaves = pytree.tree_leaves(program.facts.example)
    if len(leaves) != len(nodes):
        raise ArtifactError(f"expected {len(nodes)} example inputs, got {len(leaves)}; save the program again")
    for node, leaf in zip(nodes, leaves, strict=True):
        _check_input(node, leaf, program.facts.symbols)


def _check_input(node: fx.Node, leaf: object, symbols: Mapping[str, int]) -> None:
    if node.meta.get(SHAPE) is None or node.meta.get(DTYPE) is None:
        return
    wanted = evaluate(node.meta[SHAPE], symbols)
    found = tuple(leaf.shape) if isinstance(leaf, torch.Tensor) else type(leaf).__name__
    if found != wanted:
        raise ArtifactError(
            f"expected an example of {node.name} of shape {wanted}, got {found}; save the program again"
        )


def check_stored(stored: Collection[str], named: Collection[str], file: str) -> None:
    """Raise ``ArtifactError`` if a file holds tensors that nothing names."""
    more = sorted(set(stored) - set(named))
    if more:
        raise ArtifactError(f"expected the tensors that graph.json names in {file}, got {more}, too; save it again")


def check_folded(folded: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ``ArtifactError`` unless each unrounded tensor is one of a program, in float64."""
    for name, value in folded.items():
        if name not in tensors or value.shape != tensors[name].shape or value.dtype is not torch.float64:
            raise ArtifactError(
                f"expected unrounded tensors of the program in float64, got {name!r} of {value.dtype} and shape "
                f"{tuple(value.shape)}; save it again"
            )
