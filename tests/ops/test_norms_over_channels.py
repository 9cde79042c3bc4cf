"""Norms that mix channels let them go, and keep the divisor that they were trained with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from swdc.ops import statistics
from tests.support import (
    Function,
    assert_exact,
    certified,
    conv,
    frozen_at,
    group_with,
    image,
    members,
    plan_of,
    reason_at,
    traced,
)


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
    program = assert_exact(plain, image(2, 5))
    assert {f"{m.tensor}[{m.dim}]" for m in program.groups[0].with_role("writes")} == {
        "0.weight[0]", "0.bias[0]", "2.weight[1]"
    }  # fmt: skip
    constant = nn.Sequential(nn.Linear(5, 8), nn.Sigmoid(), nn.LayerNorm(8), nn.Linear(8, 2))
    program = traced(constant, image(2, 5))
    assert "aten.layer_norm.default: its statistic runs over the channel" in reason_at(program, "0.weight", 0)


@pytest.mark.parametrize("options", [{}, {"elementwise_affine": False}, {"eps": 1e-1}])
def test_rms_norms(options: Any) -> None:
    blocks = [Block(8, True, lambda width: nn.RMSNorm(width, **options)) for _ in range(2)]
    program = assert_exact(nn.Sequential(nn.Linear(5, 8), *blocks, nn.Linear(8, 3)), image(2, 4, 5))
    assert [group.width for group in program.groups] == [8, 12, 12]
    _, slim = certified(program)
    assert sum(isinstance(m, statistics.RMSNorm) for m in slim.leaves.values()) == 2


class Root(nn.Module):
    """An RMS norm by hand, with the gain as one plus a parameter if so wished."""

    def __init__(self, width: int, offset: float) -> None:
        super().__init__()
        self.weight, self.offset = nn.Parameter(torch.ones(width)), offset

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance = x.pow(2).mean(-1, keepdim=True)
        return (self.offset + self.weight) * (x * torch.rsqrt(variance + 1e-6))


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_rms_norms_by_hand(offset: float) -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.gate, self.up = Root(8, offset), nn.Linear(8, 12, False), nn.Linear(8, 12, False)
            self.down = nn.Linear(12, 8, False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.norm(x)
            result: torch.Tensor = x + self.down(F.silu(self.gate(y)) * self.up(y))
            return result

    program = assert_exact(
        nn.Sequential(nn.Linear(5, 8), Gated(), Gated(), Root(8, offset), nn.Linear(8, 3)), image(2, 4, 5)
    )
    assert [group.width for group in program.groups] == [8, 12, 12]


class Residual(nn.Module):
    """Convolutions with group norms and a skip connection."""

    def __init__(self, width: int, groups: int, **options: Any) -> None:
        super().__init__()
        self.a, self.b = conv(width, width), conv(width, width)
        self.n, self.m = nn.GroupNorm(groups, width, **options), nn.GroupNorm(groups, width, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.n(self.a(x))
        return F.silu(x + self.m(self.b(F.silu(y))))


@pytest.mark.parametrize(
    ("groups", "width", "free"), [(1, 6, 6), (2, 12, 6), (3, 12, 4), (4, 8, 4), (8, 8, 8), (4, 16, 4), (4, 20, 5)]
)
def test_group_norms_with_skip_connections(groups: int, width: int, free: int) -> None:
    parts = [conv(3, width), nn.GroupNorm(groups, width), nn.SiLU(), Residual(width, groups), Residual(width, groups)]
    program = assert_exact(nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 2)))
    assert {group.width for group in program.groups} == {free}
    _, slim = certified(program)
    exact = any(isinstance(m, statistics.GroupNorm) for m in slim.leaves.values())
    assert exact == (free != groups)


def test_attributes_of_group_norms() -> None:
    whole = traced(nn.Sequential(conv(3, 8), nn.GroupNorm(4, 8), conv(8, 2)))
    norm = certified(whole, plan_of(whole, {"0": [0, 3]}))[1].get_submodule("1")
    assert isinstance(norm, nn.GroupNorm)
    assert (norm.num_groups, norm.num_channels) == (2, 4)
    pattern = traced(nn.Sequential(conv(3, 8), nn.GroupNorm(2, 8), conv(8, 2)))
    norm = certified(pattern, plan_of(pattern, {"0": [0, 3]}))[1].get_submodule("1")
    assert isinstance(norm, statistics.GroupNorm)
    assert (norm.num_groups, norm.group_width) == (2, 4)


def test_a_group_norm_is_slimmed_first_by_channel_and_then_by_group() -> None:
    program = traced(nn.Sequential(conv(3, 20), nn.GroupNorm(4, 20), nn.SiLU(), conv(20, 2)))
    _, first = certified(program, plan_of(program, {"0": [1, 4]}))
    _, second = certified(first, plan_of(first, {"0": [0, 3]}))
    norm = second.get_submodule("1")
    assert isinstance(norm, statistics.GroupNorm)
    assert (norm.num_groups, norm.group_width, second.get_parameter("0.weight").shape[0]) == (2, 5, 4)


def test_group_norms_without_gain() -> None:
    whole = assert_exact(nn.Sequential(conv(3, 8), nn.GroupNorm(4, 8, affine=False), nn.SiLU(), conv(8, 2)))
    assert [group.width for group in whole.groups] == [4]
    pattern = assert_exact(nn.Sequential(conv(3, 8), nn.GroupNorm(2, 8, affine=False), nn.SiLU(), conv(8, 2)))
    assert [(group.width, len(group.with_role("writes"))) for group in pattern.groups] == [(4, 3)]
    constant = traced(nn.Sequential(conv(3, 8), nn.Sigmoid(), nn.GroupNorm(4, 8, affine=False), conv(8, 2)))
    assert "sums over the channel" in reason_at(constant, "0.weight", 0)


def test_a_group_norm_of_constants_loses_whole_groups_only() -> None:
    assert_exact(nn.Sequential(conv(3, 8), nn.Sigmoid(), nn.GroupNorm(4, 8), conv(8, 2)))
    pattern = traced(nn.Sequential(conv(3, 8), nn.Sigmoid(), nn.GroupNorm(2, 8), conv(8, 2)))
    assert "aten.group_norm.default: its statistic runs over the channel" in reason_at(pattern, "0.weight", 0)


def test_group_norms_with_tensors_of_their_own_names() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(F.group_norm(m.c(x), 2, m.gain * 2, m.shift))

    parts = {name: nn.Parameter(torch.randn(8)) for name in ("gain", "shift")}
    program = assert_exact(Function(forward, c=conv(3, 8), d=conv(8, 2), **parts))
    assert group_with(program, "gain[0]").width == 4


def test_group_norms_of_features_and_of_three_dimensions() -> None:
    assert_exact(nn.Sequential(nn.Linear(5, 8), nn.GroupNorm(2, 8), nn.GELU(), nn.Linear(8, 2)), image(2, 5))
    layers = [nn.Conv3d(3, 8, 1), nn.GroupNorm(1, 8), nn.GELU(), nn.Conv3d(8, 2, 1)]
    assert_exact(nn.Sequential(*layers), image(2, 3, 2, 3, 4))


def test_what_a_group_norm_takes_for_positions_is_frozen() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 8), nn.GroupNorm(2, 4), nn.Linear(8, 2)), image(2, 4, 5))
    assert "works along this dimension" in reason_at(program, "0.weight", 0)


@pytest.mark.parametrize(
    "norm",
    [
        lambda y: F.layer_norm(y, (4,), eps=0.0),
        lambda y: F.rms_norm(y, (4,), eps=0.0),
        lambda y: F.group_norm(y, 8, eps=0.0),
        lambda y: F.instance_norm(y, eps=0.0),
    ],
)
def test_without_eps_a_sample_of_zeros_is_not_defined(norm: Any) -> None:
    model = Function(lambda m, x: m.b(norm(m.a(x)).mean(2)), a=nn.Conv1d(3, 8, 3), b=nn.Linear(8, 2))
    assert "its dead value" in reason_at(traced(model, image(2, 3, 6)), "a.weight", 0)


@pytest.mark.parametrize("bias", [False, True])
def test_layers_over_tokens_leave_the_channels_free_without_a_bias(bias: bool) -> None:
    """An MLP-Mixer: a bias over tokens adds to every channel, so that a dead one is not zero in the statistics."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.stem(x)
        y = y + m.down(F.gelu(m.up(m.norm(y).transpose(1, 2)))).transpose(1, 2)
        return m.head(m.last(y).mean(1))

    over_tokens = {"up": nn.Linear(6, 7, bias=bias), "down": nn.Linear(7, 6, bias=bias)}
    norms = {"norm": nn.LayerNorm(8), "last": nn.LayerNorm(8)}
    model = Function(forward, stem=nn.Linear(5, 8), **over_tokens, **norms, head=nn.Linear(8, 3))
    program = assert_exact(model, image(2, 6, 5))
    assert sorted(group.width for group in program.groups) == ([7] if bias else [7, 8])
    held = [f.reason.edit for f in frozen_at(program, "stem.weight", 0)]
    assert all("bias=False in layers along another dimension" in edit for edit in held)
    assert bool(held) == bias
