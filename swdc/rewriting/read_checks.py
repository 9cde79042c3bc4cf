"""Checks of what recorded code read from the example: which of them a rewrite can keep."""

from __future__ import annotations

from torch import fx

from swdc.ir.call import source_of
from swdc.ir.program import Program
from swdc.ir.value_checks import checks_of_reads, with_what_they_need

_UNCHECKED = "the model reads numbers that depend on weights"
"""The start of the note on checks that have gone."""


def assumed_reads(program: Program) -> tuple[str, ...]:
    """Return what has to hold of inputs because a program no longer checks what the model's code read."""
    unchecked = (note.removeprefix(_UNCHECKED) for note in program.facts.notes if note.startswith(_UNCHECKED))
    places = (note.partition(";")[0] for note in unchecked)
    return tuple(f"no input lets the model go another way than on the example{place}" for place in places)


def without_checks_of_weights(program: Program) -> Program:
    """Return a recorded program that no longer checks numbers which depend on weights, because these have changed.

    A note says so. What is read from the inputs alone stays checked. Any other program is returned as it is.
    """
    every = checks_of_reads(program.graph)
    checks = [node for node in every if _depends_on_weights(program, node)]
    if not checks:
        return program
    made, gone = program.rebuilt(), {node.name for node in checks}
    needed = {node.name for node in with_what_they_need(program.graph).difference(every)}
    for node in reversed(list(made.graph.nodes)):
        if node.name in gone or (node.name in needed and not node.users):
            made.graph.erase_node(node)
    made.recompile()
    lines = ", ".join(list(dict.fromkeys(source_of(node) or node.name for node in checks))[:3])
    note = (
        f"{_UNCHECKED} ({lines}); since these have changed, the program does not "
        f"check them, and goes the way that the model went on the example before"
    )
    return made.with_facts(notes=tuple(dict.fromkeys([*made.facts.notes, note])))


def _depends_on_weights(program: Program, check: fx.Node) -> bool:
    pending, seen = [check], {check}
    leaves, transient = program.leaves, program.transient
    while pending:
        node = pending.pop()
        if node.op == "get_attr" and node.target not in transient:  # what was read is kept as a constant
            return True
        if node.op == "call_module":
            module = leaves[str(node.target)]
            if any(True for _ in (*module.parameters(), *module.buffers())):
                return True
        new = set(node.all_input_nodes) - seen
        seen |= new
        pending += new
    return False
