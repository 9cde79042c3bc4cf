"""Removing residual branches: a mask sets them to zero where they are written, and a slim program does without them."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import torch

from swdc.analysis.branches import Branch, branches_of
from swdc.errors import PlanError
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ops.base import OPERATORS
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


def blocks_of(program: Program) -> dict[str, tuple[str, ...]]:
    """Return each branch that can be removed, by its own name."""
    return {name: (name,) for name in branches_of(program)}


def layers_of(program: Program) -> dict[str, tuple[str, ...]]:
    """Return the branches of each layer that can be removed as a whole, by the path of the layer.

    A layer is the innermost numbered module beside another one with tensors of the same names, if it has no tensors
    left without its branches, and these follow one another in one stream. Layers are in the order of the graph.
    """
    return program.derived("layers", lambda: _layers(program), OPERATORS.version)


def _layers(program: Program) -> dict[str, tuple[str, ...]]:
    known = branches_of(program)
    if not known:
        return {}
    widths = {group.name: group.width for group in program.groups}
    every = Plan({}, widths, program.hash(), {"branches": list(known)})
    left = without_branches(program, every, program).read_tensors()
    inside: dict[str, list[str]] = {}
    repeated = _repeated(program)
    for name in known:
        for prefix in _numbered(name):
            inside.setdefault(prefix, []).append(name)
    found: dict[str, tuple[str, ...]] = {}
    for name in known:
        prefix = next((each for each in _numbered(name) if each in repeated), "")
        if prefix and _is_whole(program, [known[one] for one in inside[prefix]], prefix, left):
            found[prefix] = tuple(inside[prefix])
    return found


def _repeated(program: Program) -> set[str]:
    """Return the paths of the numbered modules beside another one with tensors of the same names."""
    inside: dict[str, list[str]] = {}
    for name in program.tensors:
        for prefix in _numbered(name):
            inside.setdefault(prefix, []).append(name.removeprefix(prefix))
    forms = {prefix: (prefix.rpartition(".")[0], tuple(sorted(names))) for prefix, names in inside.items()}
    times = Counter(forms.values())
    return {prefix for prefix, form in forms.items() if times[form] > 1}


def _numbered(name: str) -> list[str]:
    """Return the paths of the numbered modules above a layer, the innermost first."""
    parts = name.split(".")
    return [".".join(parts[: place + 1]) for place in range(len(parts) - 1, -1, -1) if parts[place].isdecimal()]


def _is_whole(program: Program, branches: list[Branch], prefix: str, left: set[str]) -> bool:
    follow = all(_comes_from(program, other.stream, one.total) for one, other in pairwise(branches))
    return follow and not any(name.startswith(f"{prefix}.") for name in left)


def _comes_from(program: Program, value: str, source: str) -> bool:
    """Whether nothing but calls of one input (casts, activations) lies between two nodes, given by name."""
    (node,) = [node for node in program.graph.nodes if node.name == value]
    while node.name != source and len(node.all_input_nodes) == 1:
        (node,) = node.all_input_nodes
    return bool(node.name == source)


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
