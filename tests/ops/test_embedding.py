"""Embedding tables, tied or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.support import Function, assert_slims, certified, members, plan_of, reason_at

TOKENS = torch.arange(10).reshape(2, 5)
BAGS = torch.tensor([[1, 2, 3], [4, 5, 9], [0, 7, 7], [8, 6, 1], [2, 9, 0]])


class Language(nn.Module):
    def __init__(self, tied: bool, activation: Any, positions: bool = True) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(10, 8, padding_idx=0), nn.Embedding(5, 8) if positions else None
        self.hidden, self.decode = nn.Linear(8, 8), nn.Linear(8, 10, bias=not tied)
        self.activation = activation
        if tied:
            self.decode.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        y = self.embed(tokens)
        if self.place is not None:
            y = y + self.place(torch.arange(tokens.shape[1]))
        result: torch.Tensor = self.decode(self.activation(self.hidden(y)))
        return result


def test_columns_go_and_rows_stay() -> None:
    program = assert_slims(Language(False, torch.relu), TOKENS)
    assert members(program)[0] == {"embed.weight[1]", "place.weight[1]", "hidden.weight[1]"}
    assert "rows are looked up by the data" in reason_at(program, "embed.weight", 0)
    _, slim = certified(program, plan_of(program, {program.groups[0].name: [1, 7]}))
    table = slim.get_submodule("embed")
    assert (table.num_embeddings, table.embedding_dim, table.padding_idx) == (10, 2, 0)


def test_a_tied_table_is_cut_once() -> None:
    program = assert_slims(Language(True, torch.relu), TOKENS)
    assert len(program.groups) == 1
    _, slim = certified(program, plan_of(program, {program.groups[0].name: [0, 3, 4]}))
    tables = [tensor for tensor in slim.tensors.values() if tensor.shape[0] == 10]
    assert {tuple(table.shape) for table in tables} == {(10, 3)}
    assert len({id(table) for table in tables}) == 1


def test_a_tied_table_behind_a_sigmoid() -> None:
    program = assert_slims(Language(True, torch.sigmoid, positions=False), TOKENS)
    assert [group.width for group in program.groups] == [8]


def test_an_untied_table_behind_a_sigmoid_folds() -> None:
    program = assert_slims(Language(False, torch.sigmoid), TOKENS)
    assert program.coupling.constants


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_rows(mode: str) -> None:
    def forward(m: Any, indices: torch.Tensor) -> torch.Tensor:
        return m.b(m.e(indices))

    parts = {"e": nn.EmbeddingBag(10, 8, mode=mode), "b": nn.Linear(8, 2)}
    program = assert_slims(Function(forward, **parts), BAGS)
    assert members(program) == [{"e.weight[1]", "b.weight[1]"}]
    assert "looked up by the data" in reason_at(program, "e.weight", 0)


@pytest.mark.filterwarnings("ignore:the model overwrites")
def test_rows_of_a_largest_norm() -> None:
    parts = {"e": nn.Embedding(10, 8, max_norm=0.7), "b": nn.Linear(8, 2)}
    program = assert_slims(Function(lambda m, i: m.b(m.e(i)), **parts), BAGS)
    assert members(program) == [{"e.weight[1]", "b.weight[1]"}]
