import pytest
import torch
from torch import nn

import swdc
from passes.fold_constant_channels import FoldConstantChannels
from tests.support import Function, certified, conv, group_with, image, plan_of, reason_at, text, traced


def sigmoid_network(bias=True):
    return nn.Sequential(nn.Linear(5, 4), nn.Sigmoid(), nn.Linear(4, 3, bias=bias))


def program_of(model):
    return traced(model, image(2, 5))


def test_golden(golden):
    program = program_of(sigmoid_network(bias=False))
    folded = FoldConstantChannels(plan_of(program, {"0": [0, 3]})).apply(program).program
    golden("fold_constant_channels", text(program) + "\n=>\n\n" + text(folded))


@pytest.mark.parametrize("bias", [True, False])
def test_the_bias_takes_the_share_of_dead_channels(bias):
    program = program_of(sigmoid_network(bias))
    result = FoldConstantChannels(plan_of(program, {"0": [0, 3]})).apply(program)
    assert result.modified
    tensors = program.tensors
    expected = (tensors["2.bias"] if bias else 0) + tensors["2.weight"][:, [1, 2]].sum(1) / 2
    assert torch.allclose(result.program.tensors["2.bias"], expected, rtol=1e-14, atol=0)
    certified(program, plan_of(program, {"0": [0, 3]}))


def test_nothing_to_fold_gives_the_program_back():
    program = program_of(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)))
    result = FoldConstantChannels(plan_of(program, {"0": [0]})).apply(program)
    assert result.program is program
    assert not result.modified
    whole = program_of(sigmoid_network())
    assert not FoldConstantChannels(plan_of(whole, {})).apply(whole).modified


def test_the_given_program_stays():
    program = program_of(sigmoid_network())
    before = {n: t.clone() for n, t in program.tensors.items()}
    FoldConstantChannels(plan_of(program, {"0": [0]})).apply(program)
    assert all(torch.equal(before[n], t) for n, t in program.tensors.items())


def test_float32_biases_are_rounded_once_and_still_certified():
    program = swdc.trace(sigmoid_network().eval(), torch.randn(2, 5))
    certified(program, plan_of(program, {"0": [0, 3]}))


def test_convolutions_fold_without_padding_and_freeze_with_it():
    open_border = traced(nn.Sequential(conv(3, 4), nn.Sigmoid(), conv(4, 2, padding=0)))
    certified(open_border, plan_of(open_border, {"0": [1, 2]}))
    padded = traced(nn.Sequential(conv(3, 4), nn.Sigmoid(), conv(4, 2)))
    assert "not a constant that can be folded" in reason_at(padded, "0.weight", 0)


def test_a_layer_called_twice_is_not_given_the_share_twice():
    def forward(self, x):
        return self.head(torch.sigmoid(self.one(x))) + self.head(torch.relu(self.two(x)))

    program = program_of(Function(forward, one=nn.Linear(5, 4), two=nn.Linear(5, 4), head=nn.Linear(4, 3)))
    if program.groups:
        certified(program, plan_of(program, {group_with(program, "one.weight[0]").name: [0]}))
    else:
        assert "folded into the bias" in reason_at(program, "one.weight", 0)
