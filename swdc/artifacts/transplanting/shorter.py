"""Transplanting a slim program without some residual branches, which the user's class adds.

The branches are zero in the transplanted model at first. Then each module that adds a removed one is replaced by its
part of the slim program, in which nothing is added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from swdc.analysis.branches import branches_of
from swdc.artifacts.transplanting.expected_tensors import IN, OUT, Side, observe
from swdc.artifacts.transplanting.graph_part import extract
from swdc.artifacts.transplanting.part_module import Extracted
from swdc.artifacts.transplanting.same_program import copy_with_program
from swdc.errors import PassError, TransplantError
from swdc.ir.graph import SCOPE
from swdc.ir.program import Program
from swdc.rewriting.branches import silence
from swdc.rewriting.rewrites import slim as slimmed

Calls = Mapping[tuple[str, int], dict[str, Side]]


def with_zero_branches(slim: Program, model: nn.Module) -> Program:
    """Return the slim program of the same plan in which the removed branches are there, and zero.

    It is the given program if that has all of its branches.
    """
    origin = slim.facts.origin
    if origin is None or origin.dense is not None or not origin.plan.branches:
        return slim
    if slim.facts.example_only:
        raise TransplantError(
            f"expected a slim program with all of its residual branches, because it was recorded, got one without "
            f"{origin.plan.branches[0]}; use the slim program itself"
        )
    _, dense = copy_with_program(model, slim)
    quiet = dense.clone()
    silence(quiet, origin.plan, dense)
    plan = replace(origin.plan, settings={**origin.plan.settings, "branches": []}, program_hash=dense.hash())
    whole = slimmed(quiet, plan)
    given, made = slim.tensors, whole.facts.origin
    assert made is not None
    with torch.no_grad():
        for name, tensor in whole.tensors.items():
            if name in given:
                tensor.copy_(given[name])
    folded = {name: origin.folded.get(name, value) for name, value in made.folded.items()}
    return whole.with_facts(origin=replace(made, folded=folded))


def shorten(
    model: nn.Module, dense: Program, short: Program, inputs: Any, batch: int, names: set[str],
    put: Callable[[str, Extracted], None],
) -> list[str]:  # fmt: skip
    """Let ``put`` replace the modules that add removed branches by their parts of ``short``; return their paths.

    The model computes what ``short`` does, in float64; ``batch`` is the size of ``inputs``. Raises ``TransplantError``
    if a branch is added outside of any module that can be replaced.
    """
    paths, done = _adding(dense, short), []
    calls = observe(model, short, short, inputs).calls if paths else {}
    for path in paths:
        part, where = _part_of(model, path, short.clone(), calls, names, batch)
        put(where, part)
        done.append(where)
    return done


def drop_removed(model: nn.Module, paths: Sequence[str], dense: Program, short: Program) -> set[str]:
    """Take out of the modules at some paths the tensors that ``short`` lacks, and return the names of these."""
    below = tuple(f"{path}." for path in paths)
    gone = {name for name in dense.tensors.keys() - short.tensors.keys() if name.startswith(below)}
    for name in gone:
        path, _, attribute = name.rpartition(".")
        owner = model.get_submodule(path)
        for store in (owner._parameters, owner._buffers):
            if attribute in store:
                store[attribute] = None  # its name stays, because the class reads it where it prints itself
    return gone


def _adding(dense: Program, short: Program) -> list[str]:
    """Return the paths of the innermost modules that add a removed branch, without those inside another one."""
    assert short.facts.origin is not None
    known = branches_of(dense)
    totals = {known[name].total for name in short.facts.origin.plan.branches}
    paths = {str(node.meta.get(SCOPE) or "") for node in dense.graph.nodes if node.name in totals}
    return sorted(path for path in paths if not any(path.startswith(f"{other}.") for other in paths))


def _part_of(
    model: nn.Module, path: str, short: Program, calls: Calls, names: set[str], batch: int
) -> tuple[Extracted, str]:
    """Return the part of a module, or of the nearest module above it that can be replaced, and its path.

    ``calls`` are those of the model's modules, with the nodes of ``short``. Raises ``TransplantError`` if there
    is no such module.
    """
    why: Any = "it is no module of its own"
    where = path
    while where:
        call = calls.get((where, 0), {})
        if {IN, OUT} <= call.keys() and (where, 1) not in calls:
            try:
                return extract(short, where, model.get_submodule(where), call, names, batch), where
            except PassError as error:
                why = error
        where = where.rpartition(".")[0]
    raise TransplantError(
        f"expected residual branches that are added in a module which can be replaced by its part of the slim program, "
        f"got one that is added in {path or 'the forward of the model'}: {why}; use the slim program itself"
    )
