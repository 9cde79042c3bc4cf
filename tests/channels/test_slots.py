"""The dimensions of tensors: their labels under one name, their roles, who reads them."""

from __future__ import annotations

import torch
from torch import nn

from swdc.channels.slots import Slots
from swdc.ir.call import Ref
from swdc.ir.groups import READS, WRITES
from swdc.ir.program import Program
from swdc.ops import calls
from tests.support import traced


class Tied(nn.Module):
    """An embedding whose table is also the weight of the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(5, 4), nn.Linear(4, 5)
        self.head.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores for every row of the table."""
        scores: torch.Tensor = self.head(self.table(x))
        return scores


def tied() -> tuple[Program, Slots]:
    program = traced(Tied(), torch.arange(3))
    return program, Slots(program, program.tensors)


def test_a_tied_tensor_has_one_slot_for_each_dimension() -> None:
    _, slots = tied()
    assert slots.of(Ref("table.weight")) is slots.of(Ref("head.weight"))
    assert slots.first_names["head.weight"] == "table.weight"
    assert list(slots.labels) == ["table.weight"]


def test_every_name_counts_as_a_reader() -> None:
    _, slots = tied()
    assert not slots.reads_alone(Ref("table.weight"))
    assert slots.reads_alone(Ref("head.bias"))


def test_a_tensor_writes_unless_the_call_gives_it_another_role() -> None:
    program, slots = tied()
    assert slots.roles("table.weight", 1) == {WRITES}
    *_, (_, dense) = calls(program).values()
    slots.bind(dense["weight"], 1, READS)
    slots.finish(dense)
    assert slots.roles("table.weight", 1) == {READS}
    assert slots.roles("head.weight", 0) == {WRITES}
    slots.finish(dense)  # by a rule that binds nothing
    assert slots.roles("table.weight", 1) == {READS, WRITES}


def test_the_first_call_that_holds_a_dimension_is_named() -> None:
    program, slots = tied()
    (_, first), (_, second) = calls(program).values()
    assert slots.holder(Ref("head.weight"), 0) is None
    slots.hold(Ref("head.weight"), 0, first)
    slots.hold(Ref("table.weight"), 0, second)
    assert slots.holder(Ref("head.weight"), 0) is first
