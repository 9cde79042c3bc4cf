"""Norms that work channel by channel let channels go."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.ops import calls
from tests.support import (
    Function,
    assert_exact,
    assert_same,
    assert_slims,
    certified,
    conv,
    identity_of,
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


def test_without_gain_and_shift_the_mask_sets_the_mean_to_zero() -> None:
    model = nn.Sequential(
        conv(3, 6), nn.BatchNorm2d(6, affine=False), nn.ReLU(),
        conv(6, 6, bias=False), nn.BatchNorm2d(6, affine=False), conv(6, 2),
    )  # fmt: skip
    program = assert_slims(model)
    assert {"0.weight[0]", "0.bias[0]", "1.running_mean[0]", "1.running_var[0]", "3.weight[1]"} in members(program)
    masked, slim = certified(program, plan_of(program, {"0": [2, 5]}))
    assert masked.get_buffer("1.running_mean").count_nonzero() == 2
    assert torch.equal(masked.get_buffer("1.running_var"), program.get_buffer("1.running_var"))
    assert slim.get_submodule("1").num_features == 2


def test_without_gain_and_shift_only_zero_stays_zero() -> None:
    program = traced(nn.Sequential(conv(3, 6), nn.Sigmoid(), nn.BatchNorm2d(6, affine=False), conv(6, 2)))
    assert program.groups == ()


def test_without_gain_and_shift_a_computed_mean_is_not_zero() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(F.batch_norm(m.c(x), m.mean.sigmoid(), m.var, training=False))

    parts = {"mean": torch.randn(6), "var": torch.rand(6) + 0.5}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the statistics of evaluation are used in training, too
        program = traced(Function(forward, c=conv(3, 6), d=conv(6, 2), **parts))
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
        return m.d(F.batch_norm(m.c(x), mean, var, m.gain.exp(), m.shift, m.training))

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


def test_an_instance_norm_of_a_channel_that_is_not_constant_when_dead() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(m.n(m.c(x) + x.mean(1, keepdim=True)))

    def parts(affine: bool) -> Any:
        return {"c": conv(3, 6), "n": nn.InstanceNorm2d(6, affine=affine), "d": conv(6, 2)}

    assert_exact(Function(forward, **parts(True)))
    assert "sums over the channel" in reason_at(traced(Function(forward, **parts(False))), "c.weight", 0)


def test_a_batch_norm_of_its_own_batch_makes_zero_of_a_constant() -> None:
    assert_exact(nn.Sequential(conv(3, 6), nn.BatchNorm2d(6, affine=False, track_running_stats=False), conv(6, 2)))


def test_costs_by_hand() -> None:
    program = traced(nn.Sequential(nn.BatchNorm2d(3), nn.InstanceNorm2d(3), nn.GroupNorm(3, 3)))
    counted = swdc.count(program)
    assert (counted.operations, counted.macs, counted.parameters) == (2 * 3 * 64, 0, 6 + 6)


def test_a_batch_norm_over_processes_counts_as_one_and_deploys_as_one_of_a_single_process() -> None:
    program = traced(nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 2)))
    nn.SyncBatchNorm.convert_sync_batchnorm(program)
    assert isinstance(program.get_submodule("1"), nn.SyncBatchNorm)
    swd = swdc.SWD(program, 0.5, a_min=1, a_max=10, steps=5)
    assert {target.name for target in swd.targeted()} == {"1.weight", "1.bias"}
    _, slim = certified(program, swd.plan())
    assert type(slim.get_submodule("1")) is nn.BatchNorm2d
    assert swdc.count(slim).parameters <= 0.5 * swdc.count(program).parameters


def map_of(norm: nn.Module) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    program = traced(nn.Sequential(norm), image(2, 6, 4, 4))
    ((operator, call),) = calls(program).values()
    return operator, call, program.tensors


@pytest.mark.parametrize("affine", [True, False])
def test_in_evaluation_a_batch_norm_is_an_affine_map(affine: bool) -> None:
    norm, x = nn.BatchNorm2d(6, affine=affine), image(2, 6, 4, 4)
    operator, call, tensors = map_of(norm)
    scale, shift = operator.affine(call, tensors)
    assert_same(norm(x), scale[:, None, None] * x + shift[:, None, None])


def test_a_map_then_a_batch_norm_is_a_batch_norm_of_the_same_statistics() -> None:
    norm, x = nn.BatchNorm2d(6), image(2, 6, 4, 4)
    operator, call, tensors = map_of(norm)
    scale, shift = image(2, 6, seed=3).unbind()
    expected = norm(scale[:, None, None] * x + shift[:, None, None])
    weight, bias = operator.after_affine(call, tensors, (scale, shift))
    with torch.no_grad():
        norm.weight.copy_(weight)
        norm.bias.copy_(bias)
    assert_same(expected, norm(x))


@pytest.mark.parametrize(
    "norm", [nn.BatchNorm2d(6, track_running_stats=False), nn.InstanceNorm2d(6, affine=True), nn.GroupNorm(2, 6)]
)
def test_by_the_statistics_of_what_it_reads_a_norm_is_no_map(norm: nn.Module) -> None:
    operator, call, tensors = map_of(norm)
    one = torch.ones(6, dtype=torch.float64)
    assert operator.affine(call, tensors) is None
    assert operator.after_affine(call, tensors, (one, one)) is None


def test_a_batch_norm_of_scale_one_and_shift_zero_gives_back_what_it_reads() -> None:
    norm = nn.BatchNorm2d(6, eps=0.0)
    program = traced(nn.Sequential(conv(3, 6), norm))
    assert identity_of(program, "aten.batch_norm.default") is None
    for name, tensor in {**dict(norm.named_parameters()), **dict(norm.named_buffers())}.items():
        nn.init.constant_(tensor, float(name in ("weight", "running_var")))
    identity = identity_of(
        swdc.trace(nn.Sequential(conv(3, 6), norm).double().eval(), image()), "aten.batch_norm.default"
    )
    assert identity is not None
    assert identity.copies
