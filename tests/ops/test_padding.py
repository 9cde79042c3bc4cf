"""Padding: positions in every mode, channels with zeros and with constants, cutting off."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.errors import InputError
from swdc.ops.padding import pad_call
from tests.support import (
    Function,
    assert_same,
    assert_slims,
    certified,
    conv,
    group_with,
    identity_of,
    image,
    members,
    operators,
    plan_of,
    randomise,
    reason_at,
    traced,
)


def conv1() -> nn.Conv1d:
    return nn.Conv1d(3, 3, 1)


MODES = ["constant", "reflect", "replicate", "circular"]


def padded(*amounts: int, activation: Any = torch.relu, **options: Any) -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(F.pad(activation(m.c(x)), amounts, **options))

    return Function(forward, c=conv(3, 6), d=conv(6, 2, 1))


@pytest.mark.parametrize("mode", MODES)
def test_channels_pass_a_padding_of_positions(mode: str) -> None:
    program = assert_slims(padded(1, 2, 0, 1, mode=mode))
    assert members(program) == [{"c.weight[0]", "c.bias[0]", "d.weight[1]"}]


@pytest.mark.parametrize("mode", MODES)
def test_a_constant_goes_on_where_it_is_repeated(mode: str) -> None:
    program = traced(padded(1, 1, 1, 1, mode=mode, activation=torch.sigmoid))
    if mode == "constant":
        assert "its dead value is not a constant" in reason_at(program, "c.weight", 0)
    else:
        certified(program)


def test_the_same_constant_all_around() -> None:
    assert_slims(padded(1, 1, 1, 1, value=0.5, activation=torch.sigmoid))
    zeros = traced(padded(1, 1, 1, 1, value=0.5))
    assert "its dead value is not a constant" in reason_at(zeros, "c.weight", 0)


@pytest.mark.parametrize("layer", [nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d, nn.ZeroPad2d])
def test_layers_that_pad(layer: Any) -> None:
    assert_slims(nn.Sequential(conv(3, 6), nn.ReLU(), layer((1, 2, 0, 1)), conv(6, 2)))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_convolution_that_pads_first(rank: int) -> None:
    layer: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[rank - 1]
    model = nn.Sequential(
        layer(3, 6, 3, padding=1, padding_mode="circular"), nn.ReLU(),
        layer(6, 4, 3, padding=1, padding_mode="replicate"), nn.ReLU(),
        layer(4, 2, 3, padding=1, padding_mode="reflect"),
    )  # fmt: skip
    assert len(assert_slims(model, image(1, 3, *[4] * rank)).groups) == 2


@pytest.mark.parametrize(("before", "after"), [(2, 2), (0, 4), (3, 1)])
@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_shortcut_with_constant_channels(before: int, after: int, value: float) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.a(x))
        short = F.pad(y[:, :, ::2, ::2], (0, 0, 0, 0, before, after), value=value)
        return m.d(torch.relu(m.b(y) + short))

    model = Function(forward, a=conv(3, 4), b=conv(4, 8, stride=2), d=conv(8, 2, 1))
    program = assert_slims(model, seeds=range(6))
    own = group_with(program, "a.weight[0]")
    beside = next(group for group in program.groups if group is not own)
    assert (own.width, beside.width) == (4, 4)
    assert members(program)[1] == {"b.weight[0]", "b.bias[0]", "d.weight[1]"}
    _, slim = certified(program, plan_of(program, {beside.name: [0], own.name: [1, 2]}))
    node = next(n for n in slim.graph.nodes if str(n.target) == "aten.pad.default")
    assert sum(node.args[1]) == 1
    assert node.args[1][:4] == [0, 0, 0, 0]


def test_constant_channels_that_nothing_else_writes_stay() -> None:
    program = assert_slims(Function(lambda m, x: m.d(F.pad(m.c(x), (0, 0, 0, 0, 1, 2))), c=conv(3, 4), d=conv(7, 2)))
    assert [group.width for group in program.groups] == [4, 3]


def test_channels_that_are_cut_off() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.c(x))
        return m.d(F.pad(y, (0, 0, -1, 0, -2, 1))) + m.e(y)[:, :, 1:]

    program = assert_slims(Function(forward, c=conv(3, 8), d=conv(7, 2), e=conv(8, 2)), seeds=range(6))
    _, slim = certified(program, plan_of(program, {"c": [0], "c#2": [1, 2]}))
    node = next(n for n in slim.graph.nodes if str(n.target) == "aten.pad.default")
    assert node.args[1][4] == -1


def test_channels_padded_with_each_other_are_held() -> None:
    model = Function(lambda m, x: m.d(F.pad(m.c(x), (2, 2), mode="reflect")), c=nn.Linear(5, 6), d=nn.Linear(10, 2))
    program = traced(model, image(2, 4, 5))
    assert "aten.pad.default" in operators(program)
    assert "works along this dimension" in reason_at(program, "c.weight", 0)
    assert "holds no removable channels" in reason_at(program, "d.weight", 1)


def test_the_call_that_puts_zeros_beside_a_dimension() -> None:
    x = image(2, 3, 4, 5)
    target, arguments = pad_call(4, 1, 2, 1)
    assert torch.equal(target(x, *arguments), torch.cat([x.new_zeros(2, 2, 4, 5), x, x.new_zeros(2, 1, 4, 5)], 1))


@pytest.mark.parametrize(("amounts", "given_back"), [((0, 0), True), ((1, -1), False), ((0, 0, 0, 0), True)])
def test_padding_by_nothing_gives_back_what_it_reads(amounts: tuple[int, ...], given_back: bool) -> None:
    program = traced(padded(*amounts))
    assert (identity_of(program, "aten.pad.default") is not None) is given_back


@pytest.mark.parametrize(("mode", "least"), [("reflect", 4), ("circular", 3), ("replicate", 1), ("constant", 1)])
def test_sizes_that_a_mode_cannot_pad_are_refused(mode: str, least: int) -> None:
    model = randomise(Function(lambda m, x: m.d(F.pad(m.c(x), (3, 1), mode=mode)), c=conv1(), d=conv1())).eval()
    program = swdc.trace(model, image(2, 3, 9))
    x = image(2, 3, least)
    assert_same(model(x), program(x))
    if least > 1:
        with pytest.raises(InputError, match=f"points >= {least}"):
            program(image(2, 3, least - 1))


def test_what_is_cut_off_has_to_be_there() -> None:
    model = randomise(Function(lambda m, x: F.pad(m.c(x), (-2, -1)), c=conv1())).eval()
    program = swdc.trace(model, image(2, 3, 9))
    assert_same(model(x := image(2, 3, 4)), program(x))
    with pytest.raises(InputError, match="points >= "):
        program(image(2, 3, 2))
