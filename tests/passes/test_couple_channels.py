import torch
from torch import nn

from passes.couple_channels import CoupleChannels
from swdc.contract import find_pass
from tests.support import Function, conv, frozen_at, group_with, members, randomise, reason_at, traced


def residual():
    def forward(self, x):
        x = torch.relu(self.bn(self.stem(x)))
        return self.head((x + self.branch(x)).mean((2, 3)))

    return Function(forward, stem=conv(3, 4), bn=nn.BatchNorm2d(4), branch=conv(4, 4), head=nn.Linear(4, 2))


def test_groups_and_frozen_channels(golden):
    golden("couple_channels", traced(residual()).explain() + "\n")


def test_a_sum_couples_both_sides():
    program = traced(residual())
    assert members(program) == [
        {
            "stem.weight[0]",
            "stem.bias[0]",
            "bn.weight[0]",
            "bn.bias[0]",
            "bn.running_mean[0]",
            "bn.running_var[0]",
            "branch.weight[0]",
            "branch.bias[0]",
            "branch.weight[1]",
            "head.weight[1]",
        }
    ]
    group = group_with(program, "stem.weight[0]")
    assert group.width == 4
    assert {m.tensor for m in group.with_role("statistic")} == {"bn.running_mean", "bn.running_var"}
    assert {m.tensor for m in group.with_role("reads")} == {"branch.weight", "head.weight"}


def test_inputs_and_outputs_are_frozen_with_their_reasons():
    program = traced(residual())
    assert reason_at(program, "stem.weight", 1).startswith("is the model's input")
    assert reason_at(program, "head.weight", 0) == "is the model's output"
    assert len(frozen_at(program, "head.bias", 0)[0].indices) == 2


def test_the_analysis_changes_nothing():
    program = traced(residual())
    before = program.hash()
    result = CoupleChannels().apply(program)
    assert result.program is program
    assert not result.modified
    assert program.hash() == before
    assert find_pass("couple-channels") is CoupleChannels


def test_a_model_without_removable_channels():
    program = traced(nn.Sequential(nn.Linear(3, 2)), torch.randn(1, 3, dtype=torch.float64))
    assert program.groups == ()
    assert "nothing" not in program.explain()
    assert "0 groups" in program.explain()


def test_a_concat_keeps_its_parts_apart():
    def forward(self, x):
        return self.head(torch.cat([self.one(x), self.two(x)], 1))

    program = traced(Function(forward, one=conv(3, 4), two=conv(3, 6), head=conv(10, 2)))
    one, two = group_with(program, "one.weight[0]"), group_with(program, "two.weight[0]")
    assert (one.width, two.width) == (4, 6)
    (reading,) = two.with_role("reads")
    assert reading.indices.ravel().tolist() == [4, 5, 6, 7, 8, 9]


def test_flattened_feature_maps_have_several_positions_for_a_channel():
    model = nn.Sequential(conv(3, 4), nn.Flatten(), nn.Linear(4 * 64, 2))
    (group,) = traced(randomise(model)).groups
    (reading,) = group.with_role("reads")
    assert reading.multiplicity == 64
    assert reading.indices[1].tolist() == list(range(64, 128))
