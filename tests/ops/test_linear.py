"""Dense layers: coupling, folding of constants, computed and tied weights, costs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

import swdc
from tests.support import Function, assert_slims, certified, image, members, plan_of, reason_at, traced

X = image(2, 5)


def test_a_multilayer_perceptron() -> None:
    program = assert_slims(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 2)), X)
    assert members(program) == [
        {"0.weight[0]", "0.bias[0]", "2.weight[1]"},
        {"2.weight[0]", "2.bias[0]", "4.weight[1]"},
    ]
    _, slim = certified(program, plan_of(program, {"0": [7], "2": [0, 1]}))
    middle = slim.get_submodule("2")
    assert (middle.in_features, middle.out_features) == (1, 2)


def test_a_sigmoid_folds_one_half_into_the_next_bias() -> None:
    program = assert_slims(nn.Sequential(nn.Linear(5, 8), nn.Sigmoid(), nn.Linear(8, 2)), X)
    _, slim = certified(program, plan_of(program, {"0": [0, 3]}))
    gone = program.get_parameter("2.weight")[:, [1, 2, 4, 5, 6, 7]]
    expected = program.get_parameter("2.bias") + gone.sum(1) / 2
    assert torch.allclose(slim.get_parameter("2.bias"), expected, rtol=1e-12)


def test_constants_go_through_two_layers() -> None:
    assert_slims(
        nn.Sequential(nn.Linear(5, 8), nn.Sigmoid(), nn.Linear(8, 8, bias=False), nn.Softplus(), nn.Linear(8, 2)), X
    )


def test_a_layer_that_is_called_twice_cannot_fold() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        return m.b(torch.sigmoid(y)) + m.b(torch.relu(y))

    program = traced(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), X)
    assert program.groups == ()
    assert "its dead value is not a constant that can be folded" in reason_at(program, "a.weight", 0)


def test_a_layer_that_is_called_twice_on_zeros_is_cut() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        return m.b(torch.tanh(y)) + m.b(torch.relu(y))

    program = assert_slims(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), X)
    assert members(program) == [{"a.weight[0]", "a.bias[0]", "b.weight[1]"}]


def test_two_layers_with_one_bias_cannot_fold() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 2), nn.Linear(8, 2)
            self.c.bias = self.b.bias

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.sigmoid(self.a(x))
            return self.b(y) * self.c(y)

    program = traced(Shared(), X)
    assert program.groups == ()


def test_a_computed_bias_is_taken_into_account() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(F.linear(x, m.w, m.b + 1))

    def model(*shape: int) -> nn.Module:
        parts = {"w": nn.Parameter(torch.randn(*shape)), "b": nn.Parameter(torch.randn(shape[0]))}
        return Function(forward, d=nn.Linear(shape[0], 2), **parts)

    program = assert_slims(model(8, 5), X)  # dead rows give one, which folds
    assert members(program) == [{"b[0]", "w[0]", "d.weight[1]"}]


def test_a_transposed_weight() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return F.linear(torch.relu(F.linear(x, m.w.t(), m.b)), m.v)

    parts = {name: nn.Parameter(torch.randn(*s)) for name, s in {"w": (5, 8), "b": (8,), "v": (2, 8)}.items()}
    program = assert_slims(Function(forward, **parts), X)
    assert members(program) == [{"w[1]", "b[0]", "v[1]"}]


def test_positions_pass_through() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6), nn.Flatten(), nn.Linear(24, 2))
    program = assert_slims(model, image(2, 4, 5))
    assert [group.width for group in program.groups] == [8, 6]
    assert program.groups[1].members[-1].multiplicity == 4  # read once for each position


def test_a_layer_read_as_input_elsewhere_is_frozen_by_the_output() -> None:
    def forward(m: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = torch.relu(m.a(x))
        return m.b(y), y

    program = traced(Function(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2)), X)
    assert "is the model's output" in reason_at(program, "b.weight", 1)


def test_costs_at_every_position() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 2, bias=False)), image(2, 7, 5))
    for convention in ("paper", "reference"):
        assert swdc.count(program, convention).operations == 7 * (5 * 8 + 8) + 7 * (8 * 2 + 2)
    counted = swdc.count(program, "macs")
    assert counted.operations == counted.macs == 7 * (5 * 8 + 8 * 2)
    assert swdc.count(program, "macs", batch=4).macs == 4 * counted.macs


def _mixer(bias: bool) -> nn.Module:
    """Return a block of an MLP-Mixer of 4 tokens and 6 channels: an MLP over the tokens of each channel, then a sum."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        h = m.stem(x)
        h = h + m.two(F.gelu(m.one(m.norm(h).transpose(1, 2)))).transpose(1, 2)
        return m.head(m.last(h).mean(1))

    parts = {"stem": nn.Linear(5, 6), "norm": nn.LayerNorm(6), "last": nn.LayerNorm(6), "head": nn.Linear(6, 2)}
    mix = {"one": nn.Linear(4, 7, bias=bias), "two": nn.Linear(7, 4, bias=bias)}
    return Function(forward, **parts, **mix)


def test_channels_pass_through_a_layer_over_tokens_without_a_bias() -> None:
    program = assert_slims(_mixer(bias=False), image(2, 4, 5))
    assert {"stem.weight[0]", "norm.weight[0]", "head.weight[1]"} <= members(program)[0]
    assert {"one.weight[0]", "two.weight[1]"} in members(program)


def test_a_bias_over_tokens_leaves_another_constant_at_each_token() -> None:
    program = traced(_mixer(bias=True), image(2, 4, 5))
    assert members(program) == [{"one.weight[0]", "one.bias[0]", "two.weight[1]"}]
    assert "not zero when dead" in reason_at(program, "stem.weight", 0)
