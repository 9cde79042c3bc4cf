"""Removing residual branches: a mask sets them to zero where they are written, and a slim program does without them."""

from __future__ import annotations

import torch

from swdc.analysis.branches import branches_of
from swdc.errors import PlanError
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.rewriting.rebuild import revise, still_standing


def check_branches(plan: Plan, program: Program) -> None:
    """Raise ``PlanError`` if a plan removes branches that a program does not have."""
    known = branches_of(program) if plan.branches else {}
    unknown = [name for name in plan.branches if name not in known]
    if unknown:
        raise PlanError(
            f"expected residual branches of this program, got {unknown[0]!r}; they are {', '.join(known) or 'none'}"
        )


def silence(program: Program, plan: Plan, dense: Program) -> None:
    """Set what writes the removed branches to zero, in place; ``dense`` is the program that the plan is for."""
    tensors, known = program.tensors, branches_of(dense) if plan.branches else {}
    with torch.no_grad():
        for name in plan.branches:
            for tensor in known[name].tensors:
                tensors[tensor].zero_()


def without_branches(program: Program, plan: Plan, dense: Program) -> Program:
    """Return a program whose sums pass the streams on; what only the branches read is gone.

    Nodes have the names that they have in the dense program.
    """
    if not plan.branches:
        return program
    known = branches_of(dense)
    nodes = {node.name: node for node in program.graph.nodes}
    before = program.read_tensors()
    chosen = [known[name] for name in plan.branches]
    result = revise(program, instead={nodes[one.total]: nodes[one.stream] for one in chosen})
    for node in reversed(list(result.graph.nodes)):
        if not node.users and node.op not in ("placeholder", "output"):
            result.graph.erase_node(node)
    gone = before - result.read_tensors()
    own = program.tensors
    held = {id(tensor) for name, tensor in own.items() if name not in gone}
    tensors = {name: tensor for name, tensor in own.items() if name not in gone or id(tensor) in held}
    leaves = result.leaves
    for module in leaves.values():
        module._modules.clear()  # modules below a leaf in the tree of names are attached anew
    facts = program.with_facts(origin=still_standing(program, tensors)).facts
    return program.rebuilt(graph=result.graph, tensors=tensors, leaves=leaves, facts=facts)
