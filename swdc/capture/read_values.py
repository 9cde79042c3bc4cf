"""What recorded code read from tensors: its program stands only for inputs from which it reads the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx

from swdc.ir.call import source_of
from swdc.ir.value_checks import READS
from swdc.ops.read_values import as_text, expect_read


def check_reads(made: Mapping[Any, fx.Node], read: Mapping[int, Any]) -> None:
    """Let a graph fail where the model would read something else than it read from the example.

    ``made`` holds the nodes of the graph by the number of the step, and of its result if it has several; ``read`` what
    was read, by the number of the step.
    """
    for number, value in read.items():
        node = made.get((number, None)) or made.get((number, 0))
        if node is None:
            continue
        if (number, None) not in made:  # one of several results
            node = node.all_input_nodes[0]
        line = source_of(node) or node.name
        text = f"{READS}{as_text(value)} at {line}, as in the example, got inputs in which it reads something else; run"
        expect_read(node, value, f"{text} the model itself, whose parameters these are, or trace it again with these")
