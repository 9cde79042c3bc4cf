"""Windows: image to columns and back, sliding windows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.support import Function, assert_slims, certified, conv, image, members, reason_at, traced


def test_a_window_is_a_block_of_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(F.unfold(torch.relu(m.c(x)), 3, padding=1))

    program = assert_slims(Function(forward, c=conv(3, 6), d=nn.Conv1d(54, 2, 1)))
    assert members(program) == [{"c.weight[0]", "c.bias[0]", "d.weight[1]"}]
    assert program.groups[0].members[-1].multiplicity == 9


@pytest.mark.parametrize("padding", [0, 1])
def test_a_constant_meets_the_padding(padding: int) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(F.unfold(torch.sigmoid(m.c(x)), 3, padding=padding))

    model = Function(forward, c=conv(3, 6), d=nn.Conv1d(54, 2, 1))
    if padding:
        assert "its dead value" in reason_at(traced(model), "c.weight", 0)
    else:
        assert_slims(model)


def test_there_and_back() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = F.unfold(torch.relu(m.c(x)), 2, stride=2)
        return m.d(torch.relu(F.fold(m.mix(y) if "mix" in m._modules else y, (8, 8), 2, stride=2)))

    program = assert_slims(Function(forward, c=conv(3, 6), d=conv(6, 2)))
    assert [group.width for group in program.groups] == [6]
    program = assert_slims(Function(forward, c=conv(3, 6), d=conv(6, 2), mix=nn.Conv1d(24, 24, 1)))
    assert [group.width for group in program.groups] == [6, 6]
    assert program.groups[1].members[0].multiplicity == 4


def test_sums_of_a_constant_differ_from_place_to_place() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(F.fold(torch.sigmoid(F.unfold(m.c(x), 3)), (8, 8), 3))

    assert "its dead value" in reason_at(traced(Function(forward, c=conv(3, 6), d=conv(6, 2, 1))), "c.weight", 0)


def test_columns_of_one_channel_cannot_go() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(F.fold(m.c(x).flatten(2), (16, 16), 2, stride=2))

    program = traced(Function(forward, c=conv(3, 4), d=conv(1, 2)))
    assert "become a single one" in reason_at(program, "c.weight", 0)


def test_sliding_windows_pass_the_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.sigmoid(m.c(x)).unfold(2, 3, 2).unfold(3, 3, 2)
        return m.d(y.flatten(4).amax(4))

    assert [group.width for group in assert_slims(Function(forward, c=conv(3, 6), d=conv(6, 2, 1))).groups] == [6]


def test_sliding_windows_hold_the_dimension() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(m.c(x).unfold(-1, 2, 2))

    program = traced(Function(forward, c=nn.Linear(5, 8), d=nn.Linear(2, 2)), image(2, 5))
    assert "works along this dimension" in reason_at(program, "c.weight", 0)


@pytest.mark.parametrize("padding", [0, 1])
def test_a_constant_along_the_batch_meets_the_padding(padding: int) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.sigmoid(m.c(x)).permute(3, 0, 1, 2)  # the channels lie along the dimension of the batch
        return m.d(F.unfold(y, 2, padding=padding).movedim(0, -1))

    program = traced(Function(forward, c=nn.Linear(3, 6), d=nn.Linear(6, 2)), image(2, 4, 4, 3))
    if padding:
        assert "its dead value" in reason_at(program, "c.weight", 0)
    else:
        certified(program)


def test_constants_add_up_where_windows_overlap() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.sigmoid(m.c(x.mean(0))).permute(2, 1, 0)
        return m.d(F.fold(y, (3, 3), 2).movedim(0, -1))

    program = traced(Function(forward, c=nn.Linear(3, 6), d=nn.Linear(6, 2)), image(2, 4, 8, 3))
    assert "its dead value" in reason_at(program, "c.weight", 0)
