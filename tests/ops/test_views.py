"""Reshaping: sizes are derived again from what is left, whichever way the shape was written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from swdc.ops import lookup
from swdc.ops.views import factors
from tests.support import (
    Function,
    assert_slims,
    call_of,
    certified,
    conv,
    group_with,
    identity_of,
    image,
    members,
    plan_of,
    reason_at,
    traced,
)


@pytest.mark.parametrize(
    ("before", "after", "runs"),
    [
        ((7, 3, 4), (7, 12), [([0], [0]), ([1, 2], [1])]),
        ((7, 12), (7, 3, 1, 4), [([0], [0]), ([1], [1, 3])]),
        ((6, 4), (8, 3), [([0, 1], [0, 1])]),
        ((1, 5, 1), (5,), [([1], [0])]),
        ((2, 3, 5), (2, 3, 5), [([0], [0]), ([1], [1]), ([2], [2])]),
        ((4, 0), (0, 7), []),
        ((-4, 3), (-6, 2), []),
        ((4, 3), (6, 3), []),  # sizes that agree at some sizes of the inputs only
    ],
)
def test_which_dimensions_are_regrouped(before: Any, after: Any, runs: Any) -> None:
    assert factors(before, after) == runs


FLATTENED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "flatten": lambda y: y.flatten(1),
    "view": lambda y: y.view(y.shape[0], -1),
    "sizes": lambda y: y.view(-1, 96),
    "reshape": lambda y: y.reshape(y.size(0), 6 * 4 * 4),
    "squeezed": lambda y: F.avg_pool2d(y, 4)[:, :, 0, 0].repeat(1, 16),
    "in two steps": lambda y: y.flatten(2).flatten(1),
    "permuted": lambda y: y.permute(0, 2, 3, 1).flatten(1),
    "transposed": lambda y: y.transpose(1, 2).reshape(-1, 96),
    "batch first": lambda y: y.view(y.shape[0], 96),
}


@pytest.mark.parametrize("name", FLATTENED)
def test_channels_times_positions_into_a_dense_layer(name: str) -> None:
    model = Function(lambda m, x: m.fc(FLATTENED[name](m.c(x))), c=conv(3, 6), fc=nn.Linear(96, 2))
    program = assert_slims(model, image(1, 3, 4, 4))
    group = group_with(program, "c.weight[0]")
    assert (group.width, group.members[-1].multiplicity) == (6, 16)


def test_dense_to_maps() -> None:
    for shape in (
        lambda y: y.unflatten(1, (4, 2, 2)),
        lambda y: y.view(-1, 4, 2, 2),
        lambda y: y.reshape(y.shape[0], 4, 2, -1),
    ):
        model = Function(lambda m, x, shape=shape: m.c(shape(torch.relu(m.a(x)))), a=nn.Linear(5, 16), c=conv(4, 2))
        program = assert_slims(model, image(2, 5))
        group = group_with(program, "a.weight[0]")
        assert (group.width, group.members[0].multiplicity) == (4, 4)


def test_a_channel_shuffle() -> None:
    def shuffled(x: torch.Tensor, groups: int) -> torch.Tensor:
        n, c, h, w = x.shape
        return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.c(x))
        return m.d(torch.relu(m.e(shuffled(y, 2)))) + m.f(shuffled(torch.relu(m.g(y)), 4))

    parts = {"c": conv(3, 8), "e": conv(8, 8, groups=2), "d": conv(8, 2), "g": conv(8, 8), "f": conv(8, 2)}
    program = assert_slims(Function(forward, **parts))
    assert group_with(program, "g.weight[0]").width == 4  # pairs of channels, for four groups of two


def test_a_shuffle_of_pairs() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.c(x).view(-1, 2, 4, 8, 8).transpose(1, 2).flatten(1, 2)
        return m.d(torch.relu(y))

    program = assert_slims(Function(forward, c=conv(3, 8), d=conv(8, 2)))
    group = group_with(program, "c.weight[0]")
    assert [sorted(row) for row in group.members[0].indices.tolist()] == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_merged_with_the_batch_is_frozen() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.c(x)
        return m.d(y.reshape(-1, 1, 8, 8)).view(y.shape[0], 6, 8, 8)

    program = traced(Function(forward, c=conv(3, 6), d=conv(1, 1)))
    assert "channels merged with a dimension of symbolic size" in reason_at(program, "c.weight", 0)


def test_two_dimensions_with_channels_in_one() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        outer = torch.relu(m.a(x))[:, :, None] * torch.relu(m.b(x))[:, None, :]
        return m.c(outer.flatten(1))

    program = assert_slims(Function(forward, a=nn.Linear(5, 4), b=nn.Linear(5, 6), c=nn.Linear(24, 2)), image(2, 5))
    assert members(program) == [{"b.weight[0]", "b.bias[0]", "c.weight[1]"}]
    assert "loses channels along another factor" in reason_at(program, "a.weight", 0)


def test_positions_of_the_input_do_not_win_over_channels() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.Sigmoid(), nn.Flatten(), nn.Linear(54, 2))
    program = assert_slims(model, image(2, 9, 5))
    assert [group.width for group in program.groups] == [6]


def test_a_shape_taken_from_another_value_shrinks_with_it() -> None:
    def forward(m: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y, z = m.c(x), m.d(x)
        return m.e(y.view_as(z)), m.f(z.flatten(1).reshape_as(y.flatten(1)).view(y.shape))

    model = Function(forward, c=conv(3, 6), d=conv(3, 6), e=conv(6, 2), f=conv(6, 2))
    program = assert_slims(model, dynamic=["batch"])
    assert group_with(program, "c.weight[0]") is group_with(program, "d.weight[0]")


def test_a_view_after_surgery_has_the_sizes_that_are_left() -> None:
    model = Function(lambda m, x: m.fc(m.c(x).view(x.shape[0], 96)), c=conv(3, 6), fc=nn.Linear(96, 2))
    program = traced(model, image(1, 3, 4, 4))
    _, slim = certified(program, plan_of(program, {"c": [0, 4]}))
    views = [node for node in slim.graph.nodes if "reshape" in str(node.target)]
    assert views[0].args[1][1] == 32
    assert slim.get_submodule("fc").in_features == 32


def test_a_view_without_elements_is_frozen() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        return m.b(torch.cat([y, y[:, :0].reshape(y.shape[0], 0, 6)], 1))

    program = traced(Function(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 2)), image(2, 3, 5))
    assert "has no elements" in reason_at(program, "a.weight", 0)


@pytest.mark.parametrize(
    ("name", "function", "found"),
    [
        ("aten.reshape.default", lambda y: y.reshape(-1, 6), {1: 2}),
        ("aten.flatten.using_ints", lambda y: y.flatten(0, 1), {1: 2}),
        ("aten.flatten.using_ints", lambda y: y.flatten(1), {}),
        ("aten.unflatten.int", lambda y: y.unflatten(1, (2, 2)), {3: 2}),
        ("aten.view_as.default", lambda y: y.view_as(y.sin()), {2: 2}),
    ],
)
def test_the_last_dimension_is_laid_out_anew(name: str, function: Any, found: dict[int, int]) -> None:
    program = traced(Function(lambda m, x: function(m.a(x)), a=nn.Linear(5, 6)), image(2, 4, 5))
    operator, call = call_of(program, name)
    places = {dim: operator.laid_out_from(call, dim) for dim in range(len(call.shape))}
    assert {dim: place[1] for dim, place in places.items() if place is not None} == found
    assert {place[0] for place in places.values() if place is not None} <= {call["self"]}


def test_of_another_value_a_view_asks_the_sizes_only() -> None:
    program = traced(Function(lambda m, x: m.a(x).view_as(m.b(x)), a=nn.Linear(5, 6), b=nn.Linear(5, 6)), image(2, 5))
    operator, call = call_of(program, "aten.view_as.default")
    assert operator.asks_sizes(call, call["other"])
    assert not operator.asks_sizes(call, call["self"])
    program = traced(Function(lambda m, x: m.a(x).reshape(-1, 3, 2), a=nn.Linear(5, 6)), image(2, 5))
    operator, call = call_of(program, "aten.reshape.default")
    assert not operator.asks_sizes(call, call["self"])


def test_which_changes_of_shape_depend_on_how_a_value_lies_in_memory() -> None:
    strict = ("aten.view.default", "aten.as_strided.default", "aten.view.dtype")
    assert all(lookup(name).needs_layout for name in strict)
    assert not any(lookup(name).needs_layout for name in ("aten.reshape.default", "aten.flatten.using_ints"))


def test_a_change_to_the_same_shape_gives_back_what_it_reads() -> None:
    for shape, given_back in (((-1, 6), True), ((-1, 3, 2), False)):
        program = traced(Function(lambda m, x, s=shape: m.a(x).reshape(s), a=nn.Linear(5, 6)), image(2, 5))
        assert (identity_of(program, "aten.reshape.default") is not None) is given_back


def test_channels_that_height_and_width_mix_are_free_if_these_are_fixed() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(m.a(x))
        return m.c(x + m.b(x).flatten(2).transpose(1, 2).reshape(x.shape))

    model, example = Function(forward, a=conv(3, 8), b=conv(8, 8, 1), c=conv(8, 2, 1)), image(2, 3, 2, 2)
    program = traced(model, example)
    assert program.groups == ()
    assert "cut across with a dimension of symbolic size" in reason_at(program, "b.weight", 0)
    (held,) = (held for held in program.explanation.held if "cut across" in str(held.reason))
    assert "if height and width never change, trace with dynamic=[...]" in held.reason.edit
    assert [group.width for group in assert_slims(model, example, dynamic=["batch"]).groups] == [2]
