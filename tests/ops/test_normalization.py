"""Norms let channels go, and those that mix channels keep the divisor that they were trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc import statistics
from tests.support import (
    Function,
    assert_exact,
    assert_slims,
    certified,
    conv,
    image,
    members,
    plan_of,
    reason_at,
    traced,
)


def test_a_batch_norm_goes_with_its_channels() -> None:
    program = assert_slims(nn.Sequential(conv(3, 8, bias=False), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 2)))
    names = ("weight", "bias", "running_mean", "running_var")
    assert members(program) == [{"0.weight[0]", *(f"1.{name}[0]" for name in names), "3.weight[1]"}]
    masked, slim = certified(program, plan_of(program, {"0": [2, 5]}))
    norm, held = slim.get_submodule("1"), masked.get_submodule("1")
    assert norm.num_features == 2
    assert torch.equal(norm.running_mean, program.get_buffer("1.running_mean")[[2, 5]])
    assert torch.equal(held.running_mean, program.get_buffer("1.running_mean"))  # statistics are not masked
    assert held.weight.count_nonzero() == held.bias.count_nonzero() == 2


def test_a_batch_norm_makes_zero_of_any_constant() -> None:
    program = assert_slims(nn.Sequential(conv(3, 6), nn.Sigmoid(), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 2)))
    assert [group.width for group in program.groups] == [6]


@pytest.mark.parametrize("options", [{"affine": False}, {"affine": False, "track_running_stats": False}])
def test_without_gain_and_shift_a_dead_channel_is_not_zero(options: Any) -> None:
    program = traced(nn.Sequential(conv(3, 6), nn.BatchNorm2d(6, **options), conv(6, 2)))
    assert program.groups == ()


def test_without_gain_but_with_another_norm_behind() -> None:
    model = nn.Sequential(
        conv(3, 6), nn.BatchNorm2d(6, affine=False), conv(6, 6, groups=6), nn.BatchNorm2d(6), conv(6, 2)
    )
    program = assert_slims(model)
    _, slim = certified(program)
    assert slim.get_submodule("1").num_features == slim.get_submodule("3").num_features < 6


def test_with_batch_statistics_only() -> None:
    assert_slims(nn.Sequential(conv(3, 6), nn.BatchNorm2d(6, track_running_stats=False), nn.ReLU(), conv(6, 2)))


@pytest.mark.parametrize(
    ("norm", "shape"), [(nn.BatchNorm1d, (4,)), (nn.BatchNorm1d, (4, 5)), (nn.BatchNorm3d, (4, 3, 3, 3))]
)
def test_other_ranks(norm: Any, shape: tuple[int, ...]) -> None:
    layer = nn.Linear if len(shape) == 1 else (nn.Conv1d if len(shape) == 2 else nn.Conv3d)
    extra = () if len(shape) == 1 else (1,)
    assert_slims(nn.Sequential(layer(4, 8, *extra), norm(8), nn.GELU(), layer(8, 2, *extra)), image(3, *shape))


def test_a_computed_gain_that_is_not_zero_when_dead_is_frozen() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        mean, var = torch.zeros(6, dtype=x.dtype), torch.ones(6, dtype=x.dtype)
        return m.d(F.batch_norm(m.c(x), mean, var, m.gain + 1, m.shift, m.training))

    parts = {"gain": nn.Parameter(torch.randn(6)), "shift": nn.Parameter(torch.randn(6))}
    with pytest.warns(UserWarning, match="keeps its evaluation mode"):
        program = traced(Function(forward, c=conv(3, 6), d=conv(6, 2), **parts))
    assert program.groups == ()


def test_features_normalised_as_positions_are_frozen() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(4), nn.Linear(8, 2)), image(2, 4, 5))
    assert "works along this dimension" in reason_at(program, "0.weight", 0)


@pytest.mark.parametrize("affine", [True, False])
def test_instance_norms(affine: bool) -> None:
    model = nn.Sequential(conv(3, 6), nn.Sigmoid(), nn.InstanceNorm2d(6, affine=affine), nn.ReLU(), conv(6, 2))
    program = assert_slims(model)
    _, slim = certified(program, plan_of(program, {"0": [0, 1]}))
    norms = [m for m in slim.leaves.values() if isinstance(m, nn.InstanceNorm2d)]
    assert [norm.num_features for norm in norms] == [2]


@pytest.mark.parametrize(
    ("norm", "operator"),
    [
        (nn.GroupNorm(2, 6), "aten.group_norm.default"),
        (nn.GroupNorm(2, 6, affine=False), "aten.group_norm.default"),
    ],
)
def test_norms_that_mix_channels_hold_them(norm: nn.Module, operator: str) -> None:
    program = traced(nn.Sequential(conv(3, 6), norm, conv(6, 2)))
    expected = f"{operator}: its statistics run over the channels, so removing one changes all others"
    for name, dim in (("0.weight", 0), ("2.weight", 1)):
        assert reason_at(program, name, dim).startswith(expected)


class Block(nn.Module):
    """A two-layer perceptron with a residual sum, and a norm before or after it."""

    def __init__(self, width: int, before: bool, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        self.norm, self.up, self.down, self.before = norm(width), nn.Linear(width, 12), nn.Linear(12, width), before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.down(F.gelu(self.up(self.norm(x) if self.before else x)))
        return x + y if self.before else self.norm(x + y)


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"eps": 1e-1}])
def test_layer_norms_of_perceptrons_with_residual_sums(before: bool, options: Any) -> None:
    blocks = [Block(8, before, lambda width: nn.LayerNorm(width, **options)) for _ in range(2)]
    program = assert_exact(nn.Sequential(nn.Linear(5, 8), *blocks, nn.LayerNorm(8), nn.Linear(8, 3)), image(2, 4, 5))
    assert [group.width for group in program.groups] == [8, 12, 12]
    _, slim = certified(program, plan_of(program, {"0": [1, 4, 6]}))
    norms = [m for m in slim.leaves.values() if isinstance(m, statistics.LayerNorm)]
    assert [norm.normalized_shape for norm in norms] == [[8], [8], [8]]
    assert all(norm.weight is not None and norm.weight.shape == (3,) for norm in norms)


def test_a_norm_that_keeps_all_its_channels_stays_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 2))
    program = traced(model, image(2, 5))
    _, slim = certified(program, plan_of(program, {"2": [0, 3]}))
    assert type(slim.get_submodule("1")) is nn.LayerNorm


def test_a_layer_norm_over_channels_and_positions() -> None:
    program = assert_exact(nn.Sequential(conv(3, 6), nn.LayerNorm([6, 8, 8]), nn.GELU(), conv(6, 2)))
    assert members(program) == [{"0.weight[0]", "0.bias[0]", "1.weight[0]", "1.bias[0]", "3.weight[1]"}]


def test_a_layer_norm_between_permutations() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.depthwise(x := m.stem(x)).permute(0, 2, 3, 1)
        y = m.gain * m.down(F.gelu(m.up(m.norm(y))))
        return m.head((x + y.permute(0, 3, 1, 2)).mean((2, 3)))

    model = Function(
        forward, stem=conv(3, 8), depthwise=conv(8, 8, 7, groups=8), norm=nn.LayerNorm(8, eps=1e-6),
        up=nn.Linear(8, 16), down=nn.Linear(16, 8), gain=nn.Parameter(torch.randn(8)), head=nn.Linear(8, 2),
    )  # fmt: skip
    assert [group.width for group in assert_exact(model).groups] == [8, 16]


def test_a_layer_norm_with_tensors_of_other_names_and_computed_ones() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = F.layer_norm(m.a(x), (8,), m.gain, m.shift)
        return m.c(F.layer_norm(m.b(y), (8,), m.gain * m.scale, None, 1e-3))

    parts = {name: nn.Parameter(torch.randn(8)) for name in ("gain", "shift", "scale")}
    program = assert_exact(
        Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 2), **parts), image(2, 5)
    )
    _, slim = certified(program)
    assert sum(isinstance(m, statistics.LayerNorm) for m in slim.leaves.values()) == 2
    assert set(slim.tensors) == set(program.tensors)


def test_a_layer_norm_called_twice_is_one_module() -> None:
    model = Function(lambda m, x: m.c(m.n(m.b(m.n(m.a(x))))), a=nn.Linear(5, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 2),
                     n=nn.LayerNorm(8))  # fmt: skip
    program = assert_exact(model, image(2, 5))
    _, slim = certified(program)
    assert [str(n.target) for n in slim.graph.nodes if n.op == "call_module"] == ["a", "n", "b", "n", "c"]


def test_features_that_are_not_normalised_pass_a_layer_norm_without_shift() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(m.n(m.c(x).flatten(2)).mean(2))

    parts = {"c": conv(3, 6), "d": nn.Linear(6, 2)}
    program = assert_exact(Function(forward, n=nn.LayerNorm(64, bias=False), **parts))
    assert [group.name for group in program.groups] == ["c"]
    assert "sums over the channel" in reason_at(traced(Function(forward, n=nn.LayerNorm(64), **parts)), "c.weight", 0)


def test_layer_norms_without_gain_and_of_channels_that_are_not_zero() -> None:
    plain = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8, elementwise_affine=False), nn.Linear(8, 2))
    assert "aten.linear.default: sums over the channel" in reason_at(traced(plain, image(2, 5)), "0.weight", 0)
    constant = nn.Sequential(nn.Linear(5, 8), nn.Sigmoid(), nn.LayerNorm(8), nn.Linear(8, 2))
    program = traced(constant, image(2, 5))
    assert "aten.layer_norm.default: sums over the channel" in reason_at(program, "0.weight", 0)


def test_costs_by_hand() -> None:
    program = traced(nn.Sequential(nn.BatchNorm2d(3), nn.InstanceNorm2d(3), nn.GroupNorm(3, 3)))
    counted = swdc.count(program)
    assert (counted.operations, counted.macs, counted.parameters) == (2 * 3 * 64, 0, 6 + 6)
