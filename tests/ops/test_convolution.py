"""Convolutions: plain, padded, grouped both ways, with computed weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.ir.program import Program
from swdc.ops import calls, shapes_of
from swdc.ops.convolution import spatial_rank
from tests.support import (
    Function,
    assert_exact,
    assert_slims,
    call_of,
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


def test_filters_go_with_their_bias_and_readers() -> None:
    program = assert_slims(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 6), nn.ReLU(), conv(6, 2)))
    assert members(program) == [
        {"0.weight[0]", "0.bias[0]", "2.weight[1]"},
        {"2.weight[0]", "2.bias[0]", "4.weight[1]"},
    ]
    assert "is the model's input" in reason_at(program, "0.weight", 1)
    assert "is the model's output" in reason_at(program, "4.weight", 0)


def test_attributes_follow_the_weights() -> None:
    program = traced(nn.Sequential(conv(3, 8, stride=2, bias=False), nn.ReLU(), conv(8, 2, padding="same")))
    _, slim = certified(program, plan_of(program, {"0": [1, 5, 6]}))
    first, last = slim.get_submodule("0"), slim.get_submodule("2")
    assert (first.in_channels, first.out_channels, first.stride, first.bias) == (3, 3, (2, 2), None)
    assert (last.in_channels, last.out_channels, last.padding) == (3, 2, "same")
    assert torch.equal(first.weight, program.get_parameter("0.weight")[[1, 5, 6]])


@pytest.mark.parametrize(
    ("groups", "widths"),
    [
        ((2, 12, 12), {"1.weight[1]"}),  # the same channels of both groups
        ((12, 12, 12), None),  # depthwise
        ((12, 12, 36), None),  # depthwise with a multiplier
        ((6, 12, 24), None),  # more groups than channels in each: whole groups
        ((3, 12, 24), {"1.weight[1]"}),
    ],
)
def test_grouped_convolutions(groups: tuple[int, int, int], widths: set[str] | None) -> None:
    number, inputs, outputs = groups
    model = nn.Sequential(conv(3, inputs), conv(inputs, outputs, groups=number), nn.ReLU(), conv(outputs, 2))
    program = assert_slims(model)
    group = group_with(program, "0.weight[0]")
    if widths is None:  # one channel of the group for each group of the convolution, on both sides
        assert group.width == number
        assert {"1.weight[0]", "3.weight[1]"} <= members(program)[0]
        _, slim = certified(program, plan_of(program, {group.name: [0, number - 1]}))
        cut = slim.get_submodule("1")
        assert (cut.groups, cut.in_channels, cut.out_channels) == (2, 2 * inputs // number, 2 * outputs // number)
    else:
        assert group.width == inputs // number
        assert {f"{m.tensor}[{m.dim}]" for m in group.members} == {"0.weight[0]", "0.bias[0]", *widths}
        assert group_with(program, "1.weight[0]").width == outputs // number
        _, slim = certified(program, plan_of(program, {group.name: [1]}))
        cut = slim.get_submodule("1")
        assert (cut.groups, cut.in_channels) == (number, number)


@pytest.mark.parametrize(
    ("groups", "inputs", "outputs", "widths"),
    [
        (12, 12, 12, [12]),
        (6, 12, 24, [6]),
        (2, 12, 12, [6, 6]),
        (4, 4, 32, [8]),  # the wider side decides
        (4, 32, 4, [8]),
        (4, 8, 32, [2, 8]),  # the sides would not agree: the same channels of every group on both
    ],
)
def test_which_way_a_grouped_convolution_is_cut(groups: int, inputs: int, outputs: int, widths: list[int]) -> None:
    model = nn.Sequential(conv(3, inputs), conv(inputs, outputs, groups=groups), nn.ReLU(), conv(outputs, 2))
    assert [group.width for group in assert_slims(model).groups] == widths


def test_filters_of_each_group_go_where_the_inputs_cannot() -> None:
    program = assert_slims(nn.Sequential(conv(3, 24, groups=3), nn.ReLU(), conv(24, 2)))
    assert [group.width for group in program.groups] == [8]


def test_a_sigmoid_before_padding_freezes_and_before_no_padding_folds() -> None:
    def model(padding: Any) -> nn.Module:
        return nn.Sequential(conv(3, 6), nn.Sigmoid(), conv(6, 2, padding=padding))

    for padding in (1, "same"):
        padded = traced(model(padding))
        assert padded.groups == ()
        assert "its dead value is not a constant that can be folded" in reason_at(padded, "0.weight", 0)
    for padding in (0, "valid"):
        program = assert_slims(model(padding))
        _, slim = certified(program, plan_of(program, {"0": [0, 1]}))
        share = program.get_parameter("2.weight")[:, 2:].sum((1, 2, 3)) / 2
        assert torch.allclose(slim.get_parameter("2.bias"), program.get_parameter("2.bias") + share, rtol=1e-12)


def test_a_bias_is_made_where_a_constant_needs_one() -> None:
    program = assert_slims(nn.Sequential(conv(3, 6), nn.Sigmoid(), conv(6, 2, 1, bias=False)))
    assert program.get_submodule("2").bias is None
    _, slim = certified(program)
    assert slim.get_submodule("2").bias is not None


def test_a_grouped_convolution_never_folds() -> None:
    program = traced(nn.Sequential(conv(3, 12), nn.Sigmoid(), conv(12, 12, 1, groups=2), conv(12, 2)))
    assert len(frozen_at(program, "0.weight", 0)[0].indices) == 12
    assert_slims(nn.Sequential(conv(3, 6), nn.Sigmoid(), conv(6, 6, 1, groups=6), nn.ReLU(), conv(6, 2)))


@pytest.mark.parametrize("padding", [0, 1])
def test_a_scaled_weight_is_cut_at_its_source(padding: int) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(torch.relu(F.conv2d(m.c(x), m.w * 0.5, m.b, padding=padding)))

    parts = {"w": nn.Parameter(torch.randn(8, 6, 3, 3)), "b": nn.Parameter(torch.randn(8))}
    program = assert_slims(Function(forward, c=conv(3, 6), d=conv(8, 2), **parts))
    assert members(program) == [{"c.weight[0]", "c.bias[0]", "w[1]"}, {"w[0]", "b[0]", "d.weight[1]"}]
    assert "works along this dimension" in reason_at(program, "w", 2)


def test_a_weight_that_is_not_zero_when_dead_freezes() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(torch.relu(F.conv2d(m.c(x), m.w + 1, m.b, padding=1)))

    parts = {"w": nn.Parameter(torch.randn(8, 6, 3, 3)), "b": nn.Parameter(torch.randn(8))}
    program = assert_slims(Function(forward, c=conv(3, 6), d=conv(8, 2), **parts))
    assert [group.name for group in program.groups] == ["c"]  # what it reads is zero, whatever the weight is
    assert "its dead value" in reason_at(program, "w", 0)


def test_weight_standardisation_is_frozen() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        w = m.w - m.w.mean((1, 2, 3), keepdim=True)
        return m.d(torch.relu(F.conv2d(m.c(x), w / w.std((1, 2, 3), keepdim=True), None, padding=1)))

    program = traced(Function(forward, c=conv(3, 6), d=conv(8, 2), w=nn.Parameter(torch.randn(8, 6, 3, 3))))
    assert len(frozen_at(program, "w", 1)[0].indices) == len(frozen_at(program, "c.weight", 0)[0].indices) == 6


def test_features_used_as_positions_are_frozen() -> None:
    model = Function(lambda m, x: m.c(torch.relu(m.a(x))[:, None]).flatten(1), a=nn.Linear(6, 8), c=conv(1, 4))
    program = traced(model, image(2, 5, 6))
    assert "works along this dimension" in reason_at(program, "a.weight", 0)


def test_a_convolution_of_one_filter() -> None:
    program = assert_slims(
        nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 1), nn.ReLU(), conv(1, 6), nn.ReLU(), conv(6, 2))
    )
    assert [group.name for group in program.groups] == ["0", "4"]


def test_complex_numbers_are_frozen() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = F.conv2d(torch.complex(m.c(x), m.e(x)), torch.complex(m.w, m.w))
        return m.d(y.real)

    parts = {"c": conv(3, 4), "e": conv(3, 4), "d": conv(6, 2), "w": nn.Parameter(torch.randn(6, 4, 1, 1))}
    program = traced(Function(forward, **parts))
    assert program.groups == ()


@pytest.mark.parametrize(("layer", "rank"), [(nn.Conv1d, 1), (nn.Conv3d, 3)])
def test_other_ranks(layer: Any, rank: int) -> None:
    example = image(1, 3, *[6] * rank)
    assert_slims(nn.Sequential(layer(3, 8, 3), nn.GELU(), layer(8, 8, 3, groups=8), nn.GELU(), layer(8, 2, 1)), example)


def test_without_a_batch() -> None:
    with pytest.warns(UserWarning, match="the leading size of the inputs is fixed to 3"):
        program = traced(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 2)), image(3, 8, 8))
    certified(program)
    assert [group.width for group in program.groups] == [8]


def test_costs_by_hand() -> None:
    program = traced(nn.Sequential(conv(3, 8, stride=2), nn.ReLU(), conv(8, 8, groups=4)))
    assert swdc.count(program, "paper").operations == 3 * 8 * 9 * 64 + 8 * 2 * 9 * 16
    assert swdc.count(program, "reference").operations == 3 * 8 * 9 * 16 + 8 * 2 * 9 * 16
    assert swdc.count(program, "macs").operations == 3 * 8 * 9 * 16 + 8 * 2 * 9 * 16


@pytest.mark.filterwarnings("ignore:the .* of .* inputs (are|is) fixed:UserWarning")
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_over_how_many_dimensions_a_convolution_works(rank: int) -> None:
    layer = getattr(nn, f"Conv{rank}d")
    for padding in (0, "same"):
        program = traced(nn.Sequential(layer(4, 4, 1, padding=padding, groups=2)), image(2, 4, *[3] * rank))
        ((operator, call),) = calls(program).values()
        assert spatial_rank(call) == rank
        assert not operator.orderless(call)
    ((operator, call),) = calls(traced(nn.Sequential(layer(4, 4, 1, groups=4)), image(4, *[3] * rank))).values()
    assert spatial_rank(call) == rank
    assert operator.orderless(call)


@pytest.mark.parametrize("transposed", [False, True])
def test_groups_that_the_batch_gives_hold_the_channels_with_a_reason(transposed: bool) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        weight = m.weight * m.style(F.relu(m.first(x.mean((2, 3))))).view(b, 1, c, 1, 1)
        if transposed:
            weight = weight.transpose(1, 2).reshape(b * c, 5, 3, 3)
            out = F.conv_transpose2d(x.reshape(1, b * c, h, w), weight, padding=1, groups=b)
        else:
            out = F.conv2d(x.reshape(1, b * c, h, w), weight.reshape(b * 5, c, 3, 3), padding=1, groups=b)
        return out.view(b, 5, h, w)

    parts = {"weight": nn.Parameter(torch.randn(1, 5, 3, 3, 3)), "first": nn.Linear(3, 8), "style": nn.Linear(8, 3)}
    program = assert_exact(Function(forward, **parts))
    assert len(program.groups) == 1
    assert "takes its number of groups from the batch" in program.explain()


def _over_tokens(mix: nn.Module, shape: tuple[int, ...] = (2, 6, 5), out: int = 2) -> Program:
    """Return the program of a layer between two dense ones, with the channels on the last axis."""
    parts = {"a": nn.Linear(shape[-1], 8), "mix": mix, "b": nn.Linear(8, out)}
    return traced(Function(lambda m, x: m.b(torch.relu(m.mix(torch.relu(m.a(x))))), **parts), image(*shape))


@pytest.mark.parametrize(
    ("mix", "shape"),
    [
        (nn.Conv1d(6, 4, 1, bias=False), (2, 6, 5)),
        (nn.Conv1d(6, 6, 1, groups=2, padding="same", bias=False), (2, 6, 5)),
        (nn.Conv2d(3, 4, (3, 1), padding=(1, 0), stride=(2, 1), bias=False), (2, 3, 7, 5)),
        (nn.ConvTranspose1d(6, 4, 1, bias=False), (2, 6, 5)),
    ],
)
def test_channels_pass_along_positions_that_a_single_tap_reads(mix: nn.Module, shape: tuple[int, ...]) -> None:
    program = _over_tokens(mix, shape)
    assert {"a.weight[0]", "a.bias[0]", "b.weight[1]"} in members(program)
    masked, slim = certified(program, plan_of(program, {"a": [1, 6, 7]}))
    assert slim.get_submodule("mix").weight.shape == mix.weight.shape
    counted = swdc.count(slim, "macs")
    assert 8 * counted.macs == 3 * swdc.count(masked).macs  # all that the network does is done for each of 8 channels
    assert counted.formula.subs(counted.sizes) == counted.macs


@pytest.mark.parametrize(
    "mix",
    [
        nn.Conv1d(6, 6, 3, padding=1, bias=False),
        nn.Conv1d(6, 6, 1, stride=2, bias=False),
        nn.Conv1d(6, 6, 1, padding=1, bias=False),
        nn.ConvTranspose1d(6, 6, 1, dilation=2, output_padding=1, bias=False),
    ],
)
def test_positions_that_a_convolution_moves_stay(mix: nn.Module) -> None:
    width = mix(torch.ones(1, 6, 8)).shape[-1]
    model = Function(lambda m, x: m.b(m.mix(torch.relu(m.a(x)))), a=nn.Linear(5, 8), mix=mix, b=nn.Linear(width, 2))
    assert "position by position" in reason_at(traced(model, image(2, 6, 5)), "a.weight", 0)


def test_a_bias_of_positions_is_no_constant_of_a_channel_unless_a_gate_is_zero() -> None:
    program = _over_tokens(nn.Conv1d(6, 6, 1))
    assert "its dead value is not a constant that can be folded" in reason_at(program, "a.weight", 0)

    def gated(m: Any, x: torch.Tensor) -> torch.Tensor:
        u, v = F.gelu(m.a(x)).chunk(2, dim=-1)
        return m.b(u * m.mix(m.norm(v)))

    parts = {"a": nn.Linear(5, 16), "norm": nn.LayerNorm(8), "mix": nn.Conv1d(6, 6, 1), "b": nn.Linear(8, 2)}
    program = assert_slims(Function(gated, **parts), image(2, 6, 5))
    assert group_with(program, "b.weight[1]").width == 8


def test_latency_counts_the_channels_that_lie_along_positions() -> None:
    program = _over_tokens(nn.Conv1d(6, 4, 1, bias=False))
    operator, call = call_of(program, "aten.conv1d.default")
    (use,) = operator.lower(call, shapes_of(program, {program.facts.batch: 2}))
    assert (use.operator, [[d for _, d in size.dims] for size in use.sizes]) == ("Gemm", [[0, 2], [1], [0]])
