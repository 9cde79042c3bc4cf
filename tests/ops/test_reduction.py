"""Sums, means and extrema over positions let channels go; over channels, zeros keep their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from swdc.ops import statistics
from tests.support import (
    Function,
    assert_exact,
    assert_slims,
    certified,
    conv,
    frozen_at,
    image,
    members,
    plan_of,
    reason_at,
    traced,
)

Reduce = Callable[[torch.Tensor], torch.Tensor]

OVER_POSITIONS: dict[str, Reduce] = {
    "mean": lambda y: y.mean((2, 3)),
    "negative": lambda y: y.mean((-1, -2)),
    "kept": lambda y: y.mean((2, 3), keepdim=True).flatten(1),
    "one by one": lambda y: y.mean(3).mean(2),
    "sum": lambda y: y.sum((2, 3)) / 64,
    "maximum": lambda y: y.amax((2, 3)),
    "minimum": lambda y: y.amin((2, 3)),
}


@pytest.mark.parametrize("name", OVER_POSITIONS)
def test_channels_pass(name: str) -> None:
    model = Function(lambda m, x: m.d(OVER_POSITIONS[name](torch.tanh(m.c(x)))), c=conv(3, 6), d=nn.Linear(6, 2))
    program = assert_slims(model)
    assert [group.width for group in program.groups] == [6]


@pytest.mark.parametrize("name", ["mean", "kept", "one by one", "maximum", "minimum"])
def test_a_mean_of_a_constant_is_that_constant(name: str) -> None:
    model = Function(lambda m, x: m.d(OVER_POSITIONS[name](torch.sigmoid(m.c(x)))), c=conv(3, 6), d=nn.Linear(6, 2))
    program = assert_slims(model)
    assert program.coupling.constants


def test_a_sum_of_a_constant_is_not_followed() -> None:
    program = traced(Function(lambda m, x: m.d(torch.sigmoid(m.c(x)).sum((2, 3))), c=conv(3, 6), d=nn.Linear(6, 2)))
    assert "its dead value" in reason_at(program, "c.weight", 0)


def test_a_sum_over_channels_ends_them() -> None:
    program = assert_slims(Function(lambda m, x: torch.relu(m.c(x)).sum(1), c=conv(3, 6)))
    assert members(program) == [{"c.weight[0]", "c.bias[0]"}]
    held = traced(Function(lambda m, x: torch.sigmoid(m.c(x)).sum(1), c=conv(3, 6)))
    assert "not zero when dead" in reason_at(held, "c.weight", 0)


HELD: dict[str, Reduce] = {
    "places": lambda y: y.argmax(1).to(y.dtype),
    "both": lambda y: torch.stack(torch.aminmax(y, dim=1), 1),
    "median": lambda y: y.median(1).values,
    "product": lambda y: y.prod(1),
    "exponentials": lambda y: y.logsumexp(1),
    "all": lambda y: (y > 0).all(1).to(y.dtype),
    "smallest magnitude": lambda y: torch.linalg.vector_norm(y, float("-inf"), 1),
    "inverse": lambda y: torch.linalg.vector_norm(y + 1, -1, 1),
    "matrix": lambda y: torch.linalg.norm(y, "nuc", (1, 2)),
    "largest two": lambda y: y.topk(2, 1).values.sum(1),
    "sorted": lambda y: y.sort(1)[0][:, 1],
    "softmin": lambda y: nn.functional.softmin(y, 1).sum(1),
    "response": lambda y: nn.functional.local_response_norm(y, 3).sum(1),
}


@pytest.mark.parametrize("name", HELD)
def test_other_statistics_over_channels_hold_them(name: str) -> None:
    program = traced(Function(lambda m, x: HELD[name](torch.tanh(m.c(x))), c=conv(3, 6)))
    assert program.groups == ()
    assert frozen_at(program, "c.weight", 0)[0].indices.tolist() == list(range(6))


OVER_CHANNELS: dict[str, Reduce] = {
    "mean": lambda y: y.mean(1),
    "mean of all": lambda y: y.mean(),
    "mean, gate": lambda y: (y * y.mean((1, 3), keepdim=True)).sum(1),
    "mean, negative": lambda y: y.mean((-3, 0)),
    "variance": lambda y: y.var(1),
    "variance of all": lambda y: y.var(),
    "variance, kept": lambda y: (y / (1 + y.var((1, 2), keepdim=True))).sum(1),
    "biased variance": lambda y: y.var(1, unbiased=False),
    "corrected variance": lambda y: torch.var(y, (1, 3), correction=4),
    "deviation": lambda y: y.std((0, 1)),
    "deviation, kept": lambda y: (y * y.std(1, keepdim=True)).sum(1),
    "variance and mean": lambda y: torch.cat(torch.var_mean(y, 1), 1),
    "deviation and mean": lambda y: torch.cat(torch.std_mean(y, (1, 2), correction=0, keepdim=True), 1),
    "maximum": lambda y: y.amax(1),
    "maximum of all": lambda y: y.max() + y.sum(1),
    "maximum, kept": lambda y: (y * y.amax((1, 2), keepdim=True)).sum(1),
    "minimum": lambda y: y.amin((1, 3)),
    "minimum of all": lambda y: y.min() + y.sum(1),
    "maximum of two": lambda y: y.max(1)[0],
    "minimum of two": lambda y: y.min(1, keepdim=True).values,
}
NO_MODULE: dict[str, Reduce] = {
    "sum": lambda y: y.sum(1),
    "length": lambda y: y.norm(dim=1),
    "length of all": lambda y: y.norm(),
    "linear algebra": lambda y: torch.linalg.norm(y, dim=1),
    "of order 3": lambda y: torch.linalg.vector_norm(y, 3, 1),
    "of order 0": lambda y: torch.linalg.vector_norm(torch.relu(y), 0, 1),
    "largest magnitude": lambda y: torch.linalg.vector_norm(y, float("inf"), 1),
    "normalised": lambda y: nn.functional.normalize(y, dim=1).sum((1, 2)),
    "frobenius": lambda y: torch.norm(y, dim=(1, 2)),
    "count": lambda y: torch.relu(y).count_nonzero(1).to(y.dtype),
    "any": lambda y: (y > 0.1).any(1).to(y.dtype),
    "not a number": lambda y: y.nansum((1, 2)),
}


@pytest.mark.parametrize("name", OVER_CHANNELS)
def test_statistics_over_channels_count_the_zeros(name: str) -> None:
    program = assert_exact(
        Function(lambda m, x: OVER_CHANNELS[name](torch.tanh(m.c(x))), c=conv(3, 6)), image(2, 3, 4, 4)
    )
    _, slim = certified(program, plan_of(program, {"c": [1, 2]}))
    assert [m.widths[1] for m in slim.leaves.values() if isinstance(m, statistics.Statistic)] == [6]


@pytest.mark.parametrize("name", NO_MODULE)
def test_statistics_over_channels_that_do_not_see_zeros(name: str) -> None:
    program = assert_exact(Function(lambda m, x: NO_MODULE[name](torch.tanh(m.c(x))), c=conv(3, 6)))
    assert set(certified(program)[1].leaves) == {"c"}


@pytest.mark.parametrize("reduce", [lambda y: y.var(1), lambda y: y.amax(1), lambda y: y.norm(dim=1)])
def test_of_constants_that_are_not_zero_statistics_hold_the_channels(reduce: Reduce) -> None:
    program = traced(Function(lambda m, x: reduce(torch.sigmoid(m.c(x))), c=conv(3, 6)))
    assert "not zero when dead" in reason_at(program, "c.weight", 0)


PASSING: dict[str, Reduce] = {
    "variance": lambda y: y.var((2, 3)),
    "deviation": lambda y: y.std(3).sum(2),
    "variance and mean": lambda y: sum(torch.var_mean(y, (2, 3))),  # type: ignore[arg-type, return-value]
    "length": lambda y: y.norm(dim=(2, 3)),
    "first and second": lambda y: y.max(3)[0].min(2)[0],
    "most": lambda y: y.flatten(2).median(2).values,
    "sorted": lambda y: y.flatten(2).sort(2)[0][..., 3],
    "largest": lambda y: y.flatten(2).topk(3, 2)[0].sum(2),
    "exponentials": lambda y: y.logsumexp((2, 3)),
}


@pytest.mark.parametrize("name", PASSING)
def test_channels_pass_other_statistics_over_positions(name: str) -> None:
    follows = nn.BatchNorm1d(6)  # makes zero of whatever is dead
    model = Function(
        lambda m, x: m.d(m.n(PASSING[name](torch.tanh(m.c(x))))), c=conv(3, 6), n=follows, d=nn.Linear(6, 2)
    )
    assert [group.width for group in assert_exact(model).groups] == [6]


def test_attention_over_positions_and_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.c(x))
        squeezed = m.up(torch.relu(m.down(y.mean((2, 3), keepdim=True)))) + m.up(
            torch.relu(m.down(y.amax((2, 3), True)))
        )
        y = y * torch.sigmoid(squeezed)
        where = torch.cat([y.max(1, keepdim=True)[0], y.mean(1, keepdim=True)], 1)
        return m.head(y * torch.sigmoid(m.where(where)))

    model = Function(forward, c=conv(3, 8), down=conv(8, 4, 1), up=conv(4, 8, 1), where=conv(2, 1, 7), head=conv(8, 2))
    assert [group.width for group in assert_exact(model).groups] == [8, 4]


def test_global_response_normalisation() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.gelu(m.up(x.permute(0, 2, 3, 1)))
        energy = y.norm(p=2, dim=(1, 2), keepdim=True)
        y = m.gain * (y * (energy / (energy.mean(-1, keepdim=True) + 1e-6))) + m.shift + y
        return m.down(y)

    parts = {name: nn.Parameter(torch.zeros(1, 1, 1, 12)) for name in ("gain", "shift")}
    program = assert_exact(Function(forward, up=nn.Linear(3, 12), down=nn.Linear(12, 2), **parts))
    assert members(program) == [{"up.weight[0]", "up.bias[0]", "gain[3]", "shift[3]", "down.weight[1]"}]


def test_a_layer_norm_by_hand_with_deviations() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        return m.b(m.gain * (y - y.mean(-1, keepdim=True)) / (y.std(-1, keepdim=True) + 1e-6) + m.shift)

    parts = {name: nn.Parameter(torch.randn(8)) for name in ("gain", "shift")}
    program = assert_exact(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2), **parts), image(2, 5))
    assert [group.width for group in program.groups] == [8]


def test_standardised_weights() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        spread, mean = torch.var_mean(m.kernel, (1, 2, 3), keepdim=True, correction=0)
        y = torch.nn.functional.conv2d(y, (m.kernel - mean) / (spread + 1e-5).sqrt(), padding=1)
        return m.b(torch.relu(y))

    program = assert_exact(Function(forward, a=conv(3, 6), b=conv(8, 2), kernel=nn.Parameter(torch.randn(8, 6, 3, 3))))
    assert sorted(group.width for group in program.groups) == [6, 8]


def test_a_mean_over_two_dimensions_of_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        table = torch.tanh(m.rows.unsqueeze(1) * m.columns)
        return x * table.mean((0, 1)) + m.d(table.mean(0, keepdim=True))

    parts = {"rows": nn.Parameter(torch.randn(4)), "columns": nn.Parameter(torch.randn(5))}
    program = assert_exact(Function(forward, d=nn.Linear(5, 1), **parts), image(2, 1))
    assert {group.width for group in program.groups} == {4, 5}


def test_means_of_other_types_and_of_other_constants_hold_their_channels() -> None:
    parts = {"c": conv(3, 6)}
    typed = traced(Function(lambda m, x: torch.relu(m.c(x)).mean(1, dtype=torch.float64), **parts))
    assert "computes a statistic in another type than its input's" in reason_at(typed, "c.weight", 0)
    constant = traced(Function(lambda m, x: torch.sigmoid(m.c(x)).mean(1), **parts))
    assert "not zero when dead" in reason_at(constant, "c.weight", 0)


def test_a_penalty_on_the_weights_beside_the_output() -> None:
    def forward(m: Function, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        penalty = (m.c.weight**2).sum()  # type: ignore[union-attr, operator]
        return m.d(torch.relu(m.c(x))), penalty  # type: ignore[operator]

    program = assert_slims(Function(forward, c=conv(3, 6), d=conv(6, 2)))
    assert [group.name for group in program.groups] == ["c"]
    assert "works along this dimension" in reason_at(program, "c.weight", 2)


def test_everything_at_once() -> None:
    program = assert_slims(
        Function(lambda m, x: torch.relu(m.b(torch.relu(m.a(x)))).sum(), a=conv(3, 6), b=conv(6, 4)), image(2, 3, 4, 4)
    )
    assert [group.width for group in program.groups] == [6, 4]
