import pytest
import torch
from torch import nn

import swdc
from passes.eliminate_dead_channels import EliminateDeadChannels
from swdc.errors import PassError
from swdc.pipeline import run
from tests.support import Function, assert_equal, assert_same, certified, conv, image, plan_of, text, traced


def network():
    def forward(self, x):
        x = torch.relu(self.bn(self.stem(x)))
        x = self.depthwise(x)
        return self.head(x.view(x.shape[0], 8 * 64))

    return Function(
        forward, stem=conv(3, 8), bn=nn.BatchNorm2d(8), depthwise=conv(8, 8, groups=8), head=nn.Linear(8 * 64, 2),
        unused=nn.Linear(3, 3),
    )  # fmt: skip


PLAN = {"stem": [1, 4, 6]}


def test_golden(golden):
    program = traced(network())
    slim = EliminateDeadChannels(plan_of(program, PLAN)).apply(program).program
    golden("eliminate_dead_channels", text(program) + "\n=>\n\n" + text(slim))


def test_attributes_of_modules_are_those_of_their_tensors():
    program = traced(network())
    slim = swdc.slim(program, plan_of(program, PLAN))
    leaves = slim.leaves
    assert (leaves["stem"].out_channels, leaves["stem"].in_channels) == (3, 3)
    assert leaves["bn"].num_features == 3
    assert (leaves["depthwise"].groups, leaves["depthwise"].in_channels) == (3, 3)
    assert leaves["head"].in_features == 3 * 64
    assert leaves["stem"].weight.shape == (3, 3, 3, 3)


def test_equal_numbers_and_nothing_shared():
    program = traced(network())
    before = {n: t.clone() for n, t in program.tensors.items()}
    masked, slim = certified(program, plan_of(program, PLAN))
    for batch in (1, 4):
        assert_same(masked(image(batch, 3, 8, 8)), slim(image(batch, 3, 8, 8)), 1e-12)
    assert all(torch.equal(before[n], t) for n, t in program.tensors.items())
    assert not {t.data_ptr() for t in program.tensors.values()} & {t.data_ptr() for t in slim.tensors.values()}


def test_tensors_that_nothing_reads_go():
    program = traced(network())
    assert "unused.weight" in program.tensors
    slim = swdc.slim(program, plan_of(program, PLAN))
    assert not any(name.startswith("unused") for name in slim.tensors)


def test_modified_is_honest():
    program = traced(network())
    nothing = EliminateDeadChannels(plan_of(program, {})).apply(program)
    assert not nothing.modified
    assert_equal(program(image()), nothing.program(image()))
    assert EliminateDeadChannels(plan_of(program, PLAN)).apply(program).modified


def test_requires_grad_and_modes_stay():
    program = traced(network())
    program.get_parameter("stem.weight").requires_grad_(False)
    slim = swdc.slim(program.train(), plan_of(program, PLAN))
    assert slim.training
    assert not slim.get_parameter("stem.weight").requires_grad
    assert slim.get_parameter("head.weight").requires_grad


def test_a_slim_program_can_be_slimmed_again():
    program = traced(network())
    once = swdc.slim(program, plan_of(program, PLAN))
    _, twice = certified(once, plan_of(once, {"stem": [0, 2]}))
    assert twice.leaves["stem"].out_channels == 2
    assert swdc.count(twice).before["parameters"] == swdc.count(program).parameters


def test_folding_must_come_before():
    program = traced(network())
    plan = plan_of(program, PLAN)
    from swdc.contract import find_pass

    fold = find_pass("fold-constant-channels")(plan=plan)
    with pytest.raises(PassError, match="expected fold-constant-channels before eliminate-dead-channels"):
        run(program, [EliminateDeadChannels(plan), fold])
