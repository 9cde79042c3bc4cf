"""Pooling and resampling leave channels alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.ops.pooling import OverPositions
from tests.support import (
    Function,
    assert_slims,
    call_of,
    certified,
    conv,
    identity_of,
    image,
    reason_at,
    traced,
)

Pool = Callable[[torch.Tensor], torch.Tensor]

POOLS: dict[str, Pool] = {
    "max": lambda y: F.max_pool2d(y, 3, 2, 1),
    "average": lambda y: F.avg_pool2d(y, 2),
    "adaptive": lambda y: F.adaptive_avg_pool2d(y, 3),
    "nearest": lambda y: F.interpolate(y, scale_factor=2),
    "bilinear": lambda y: F.interpolate(y, size=(5, 7), mode="bilinear"),
    "bicubic": lambda y: F.interpolate(y, scale_factor=2, mode="bicubic", align_corners=True),
    "ceil": lambda y: F.max_pool2d(y, 3, 2, ceil_mode=True),
    "padded": lambda y: F.avg_pool2d(y, 3, 2, 1, count_include_pad=False),
    "average ceil": lambda y: F.avg_pool2d(y, 3, 2, ceil_mode=True),
    "adaptive maximum": lambda y: F.adaptive_max_pool2d(y, 3),
    "divided": lambda y: F.avg_pool2d(y, 2, divisor_override=3),
}


@pytest.mark.parametrize("name", POOLS)
def test_channels_pass(name: str) -> None:
    program = assert_slims(Function(lambda m, x: m.d(POOLS[name](torch.relu(m.c(x)))), c=conv(3, 6), d=conv(6, 2)))
    assert [group.width for group in program.groups] == [6]


@pytest.mark.parametrize("name", sorted(POOLS.keys() - {"divided"}))
def test_constants_stay_what_they_are(name: str) -> None:
    model = Function(lambda m, x: m.d(POOLS[name](torch.sigmoid(m.c(x)))), c=conv(3, 6), d=conv(6, 2, 1))
    program = assert_slims(model)
    assert program.coupling.constants


@pytest.mark.parametrize("pool", [lambda y: F.avg_pool2d(y, 3, 2, 1), POOLS["divided"]])
def test_an_average_that_counts_zeros_or_divides_otherwise_folds_nothing(pool: Pool) -> None:
    program = traced(Function(lambda m, x: m.d(pool(torch.sigmoid(m.c(x)))), c=conv(3, 6), d=conv(6, 2, 1)))
    assert "its dead value" in reason_at(program, "c.weight", 0)


@pytest.mark.parametrize("activation", [torch.relu, torch.sigmoid])
def test_maxima_that_are_put_back(activation: Pool) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y, where = F.max_pool2d(activation(m.c(x)), 2, return_indices=True)
        return m.d(F.max_unpool2d(m.e(y), where, 2, output_size=[8, 8]))

    model = Function(forward, c=conv(3, 6), e=conv(6, 6, groups=6), d=conv(6, 2))
    assert [group.width for group in assert_slims(model).groups] == [6]
    model.e = nn.Sigmoid()
    assert "its dead value" in reason_at(traced(model), "c.weight", 0)


@pytest.mark.parametrize(("pool", "layer", "rank"), [(F.max_pool1d, nn.Conv1d, 1), (F.avg_pool3d, nn.Conv3d, 3)])
def test_other_ranks(pool: Pool, layer: type[nn.Module], rank: int) -> None:
    model = Function(lambda m, x: m.d(pool(torch.relu(m.c(x)), 2)), c=layer(3, 6, 1), d=layer(6, 2, 1))  # type: ignore[call-arg]
    certified(traced(model, image(1, 3, *[4] * rank)))


def test_pooling_over_features_is_frozen() -> None:
    model = Function(lambda m, x: m.b(F.avg_pool1d(torch.relu(m.a(x)), 2)), a=nn.Linear(6, 8), b=nn.Linear(4, 3))
    program = traced(model, image(2, 5, 6))
    assert "works along this dimension" in reason_at(program, "a.weight", 0)


@pytest.mark.filterwarnings("ignore:the .* of .* inputs (are|is) fixed:UserWarning")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_over_how_many_dimensions_a_pool_works(rank: int) -> None:
    pool, layer = (getattr(nn, f"{name}{rank}d") for name in ("AdaptiveAvgPool", "Conv"))
    for example in (image(1, 3, *[4] * rank), image(3, *[4] * rank)):  # with a batch, and without
        program = swdc.trace(nn.Sequential(layer(3, 6, 1), pool(2)).double().eval(), example)
        operator, call = call_of(program, f"aten.adaptive_avg_pool{rank}d.default")
        assert isinstance(operator, OverPositions)
        assert operator.spatial(call) == rank


@pytest.mark.parametrize(
    ("name", "pool", "given_back"),
    [
        ("aten.max_pool2d.default", lambda y: F.max_pool2d(y, 1, 1), True),
        ("aten.max_pool2d.default", lambda y: F.max_pool2d(y, 3, 1, 1), False),
        ("aten.avg_pool2d.default", lambda y: F.avg_pool2d(y, 1), True),
        ("aten.avg_pool2d.default", lambda y: F.avg_pool2d(y, 1, divisor_override=2), False),
        ("aten.adaptive_avg_pool2d.default", lambda y: F.adaptive_avg_pool2d(y, 8), True),
        ("aten.adaptive_avg_pool2d.default", lambda y: F.adaptive_avg_pool2d(y, 4), False),
        ("operator.getitem", lambda y: F.adaptive_max_pool2d(y, 8), True),
        ("operator.getitem", lambda y: F.adaptive_max_pool2d(y, 4), False),
        ("operator.getitem", lambda y: F.adaptive_max_pool2d(y, 8, return_indices=True)[1].double(), False),
        ("aten.upsample_nearest2d.vec", lambda y: F.interpolate(y, scale_factor=1.0), False),
    ],
)
def test_pools_of_single_elements_give_back_what_they_read(name: str, pool: Pool, given_back: bool) -> None:
    model = Function(lambda m, x: m.d(pool(m.c(x))), c=conv(3, 6), d=conv(6, 2))
    program = traced(model, dynamic=["batch"])
    identity = identity_of(program, name)
    assert (identity is not None) is given_back
    assert identity is None or identity.copies


@pytest.mark.parametrize(
    "pool",
    [
        lambda y: F.max_pool1d(y, 2, 1, padding=1, dilation=2),
        lambda y: F.max_pool1d(y, 2, 1, 1, 2, return_indices=True)[0],
    ],
)
def test_windows_beside_the_input_are_not_constant(pool: Pool) -> None:
    """A dilated window may lie in the padding altogether: its maximum is minus infinity."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.sigmoid(pool(m.a(x)[:, :, :1])).mean(2))

    assert pool(torch.zeros(1, 1, 1)).tolist() == [[[-torch.inf]]]
    program = traced(Function(forward, a=nn.Conv1d(3, 8, 3), b=nn.Linear(8, 2)), image(2, 3, 9))
    assert "its dead value" in reason_at(program, "a.weight", 0)


def test_dilated_windows_without_padding() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.sigmoid(F.max_pool1d(m.a(x), 2, 1, dilation=2)).mean(2))

    assert_slims(Function(forward, a=nn.Conv1d(3, 8, 3), b=nn.Linear(8, 2)), image(2, 3, 9), seeds=(0,))
