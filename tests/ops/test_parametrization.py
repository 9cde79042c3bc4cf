"""Weights that are computed: weight norm, spectral norm, weights that are standardised."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations as made

import swdc
from tests.support import (
    Function,
    assert_same,
    assert_slims,
    certified,
    conv,
    group_with,
    image,
    members,
    operators,
    plan_of,
    reason_at,
    traced,
)


@pytest.mark.parametrize("dim", [0, 1, -3])
def test_slices_of_a_largest_norm(dim: int) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(F.conv2d(torch.relu(m.c(x)), m.weight.renorm(2, dim, 0.5), padding=1).relu())

    weight = nn.Parameter(torch.randn(8, 6, 3, 3))
    program = assert_slims(Function(forward, c=conv(3, 6), weight=weight, d=conv(8, 2)))
    assert members(program) == [{"c.weight[0]", "c.bias[0]", "weight[1]"}, {"weight[0]", "d.weight[1]"}]


def test_a_norm_over_channels_that_are_not_zero_when_dead() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(torch.sigmoid(m.c(x)).renorm(2, 2, 1.0))

    program = traced(Function(forward, c=conv(3, 6), d=conv(6, 2)))
    assert "its statistic runs over the channel" in reason_at(program, "c.weight", 0)


def test_lengths_go_with_directions() -> None:
    layer = made.weight_norm(conv(6, 8))
    program = assert_slims(nn.Sequential(conv(3, 6), nn.ReLU(), layer, nn.ReLU(), conv(8, 2)))
    g, v = (f"2.parametrizations.weight.original{i}" for i in (0, 1))
    assert members(program) == [
        {"0.weight[0]", "0.bias[0]", f"{v}[1]"},
        {f"{v}[0]", f"{g}[0]", "2.bias[0]", "4.weight[1]"},
    ]
    assert f"{v}[0]" not in {f"{m.tensor}[{m.dim}]" for m in program.groups[1].with_role("writes")}
    group = group_with(program, f"{v}[0]")
    masked, slim = certified(program, plan_of(program, {group.name: [0, 3, 7]}))
    assert torch.equal(masked.get_parameter(v), program.get_parameter(v))  # |0| would divide by zero
    assert slim.get_parameter(g).shape == (3, 1, 1, 1)


def test_a_chain() -> None:
    model = nn.Sequential(
        *(layer for n in (3, 6, 8, 6) for layer in (made.weight_norm(conv(n, 8 if n == 6 else 6)), nn.GELU()))
    )
    assert [group.width for group in assert_slims(nn.Sequential(*model, conv(8, 2))).groups] == [6, 8, 6, 8]


@pytest.mark.parametrize("dim", [None, 1, 2])
def test_other_dimensions(dim: int | None) -> None:
    layer = made.weight_norm(nn.Conv1d(6, 8, 3, groups=2), dim=dim)
    model = nn.Sequential(nn.Conv1d(3, 6, 1), nn.GELU(), layer, nn.GELU(), nn.Conv1d(8, 2, 1))
    assert [group.width for group in assert_slims(model, image(1, 3, 6)).groups] == [3, 4]


@pytest.mark.parametrize("groups", [1, 6])
def test_a_transposed_convolution(groups: int) -> None:
    layer = made.weight_norm(nn.ConvTranspose2d(6, 6, 2, groups=groups))
    model = nn.Sequential(conv(3, 6), nn.ReLU(), layer, nn.ReLU(), conv(6, 2))
    assert [group.width for group in assert_slims(model).groups] == [6] * (2 if groups == 1 else 1)


def test_a_dense_layer_and_a_depthwise_one() -> None:
    dense = nn.Sequential(nn.Linear(5, 6), nn.GELU(), made.weight_norm(nn.Linear(6, 8)), nn.GELU(), nn.Linear(8, 2))
    assert [group.width for group in assert_slims(dense, image(2, 5)).groups] == [6, 8]
    depthwise = nn.Sequential(conv(3, 6), made.weight_norm(conv(6, 6, groups=6)), nn.GELU(), conv(6, 2))
    assert [group.width for group in assert_slims(depthwise).groups] == [6]


@pytest.mark.filterwarnings("ignore")
def test_the_older_way_to_ask_for_it() -> None:
    layer = nn.utils.weight_norm(conv(6, 8))
    assert len(assert_slims(nn.Sequential(conv(3, 6), nn.ReLU(), layer, nn.ReLU(), conv(8, 2))).groups) == 2


def test_a_direction_that_is_computed_is_frozen() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(F.relu(F.linear(m.c(x), torch._weight_norm(m.v * 2, m.g, 0))))

    parts = {"v": nn.Parameter(torch.randn(8, 6)), "g": nn.Parameter(torch.rand(8, 1))}
    program = traced(Function(forward, c=nn.Linear(5, 6), d=nn.Linear(8, 2), **parts), image(2, 5))
    assert program.groups == ()
    assert "a weight that is computed" in reason_at(program, "g", 0)


@pytest.mark.filterwarnings("ignore:.* computes in training differs:UserWarning")
@pytest.mark.parametrize("layer", [conv(6, 8), conv(6, 8, groups=2)])
def test_a_spectral_norm(layer: nn.Module) -> None:
    model = nn.Sequential(conv(3, 6), nn.ReLU(), made.spectral_norm(layer), nn.ReLU(), conv(8, 2))
    program = assert_slims(model)
    assert len(program.groups) == 2


@pytest.mark.filterwarnings("ignore:.* computes in training differs:UserWarning")
def test_a_spectral_norm_of_a_dense_layer() -> None:
    model = nn.Sequential(nn.Linear(5, 6), nn.GELU(), made.spectral_norm(nn.Linear(6, 8)), nn.GELU(), nn.Linear(8, 2))
    assert [group.width for group in assert_slims(model, image(2, 5)).groups] == [6, 8]


@pytest.mark.parametrize("gain", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_weight_standardisation_by_batch_norm(gain: bool, groups: int) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        scale = (m.g * 0.7).view(-1) if gain else None
        flat = F.batch_norm(m.w.reshape(1, 8, -1), None, None, weight=scale, training=True, momentum=0.0, eps=1e-3)
        return m.d(F.gelu(F.conv2d(F.gelu(m.c(x)), flat.reshape_as(m.w), m.b, padding=1, groups=groups)))

    parts = {"w": torch.randn(8, 6 // groups, 3, 3), "b": torch.randn(8), "g": torch.rand(8, 1, 1, 1)}
    model = Function(forward, c=conv(3, 6), d=conv(8, 2), **{name: nn.Parameter(t) for name, t in parts.items()})
    program = assert_slims(model)
    assert sorted(group.width for group in program.groups) == [6 // groups, 8 // groups]
    _, slim = certified(program)
    assert "BatchNorm" in operators(slim)  # over what is left of the inputs, with the original divisor


def test_weights_that_are_standardised_with_statistics_of_a_constant_are_held() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        flat = F.batch_norm(torch.exp(m.w).reshape(1, 8, -1), None, None, training=True)
        return m.d(F.gelu(F.conv2d(m.c(x), flat.reshape_as(m.w), padding=1)))

    program = traced(Function(forward, c=conv(3, 6), d=conv(8, 2), w=nn.Parameter(torch.randn(8, 6, 3, 3))))
    assert "its dead value" in reason_at(program, "w", 1)


def test_a_direction_that_reads_a_constant_counts_in_its_norm() -> None:
    """The weights that read a padded zero are no zeros, so that without them the others would be longer."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(F.pad(m.a(x), (0, 1)))  # type: ignore[no-any-return]

    program = traced(Function(forward, a=nn.Linear(5, 4), b=made.weight_norm(nn.Linear(5, 3))), image(2, 5))
    x = image(7, 5, seed=2)
    assert_same(program(x), swdc.deploy(program)(x))
