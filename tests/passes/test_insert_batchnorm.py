import pytest
import torch
from torch import nn

import swdc
from passes.insert_batchnorm import InsertBatchnorm
from swdc.errors import PassError
from swdc.networks import resnet20
from tests.support import Function, assert_same, certified, conv, image, operators, text, traced


def block():
    def forward(self, x):
        return self.head(torch.relu(self.bn(self.conv(x)) + self.short(x)).mean((2, 3)))

    return Function(forward, conv=conv(3, 4), bn=nn.BatchNorm2d(4), short=conv(3, 4, 1), head=nn.Linear(4, 2))


def test_golden(golden):
    program = traced(block())
    golden("insert_batchnorm", text(program) + "\n=>\n\n" + text(InsertBatchnorm().apply(program).program))


def test_it_is_the_identity_in_evaluation():
    program = traced(block())
    inserted = swdc.insert_batchnorm(program)
    for batch in (1, 3):
        images = image(batch, 3, 8, 8)
        assert_same(program(images), inserted(images), 1e-12)
    assert len(operators(inserted)) == len(operators(program)) + 1


def test_it_stands_between_the_sum_and_the_activation():
    result = operators(swdc.insert_batchnorm(traced(block())))
    place = result.index("aten.add.Tensor")
    assert result[place : place + 3] == ["aten.add.Tensor", "BatchNorm2d", "aten.relu.default"]


def test_modified_is_honest_and_a_second_time_does_nothing():
    program = traced(block())
    first = InsertBatchnorm().apply(program)
    assert first.modified
    assert first.program is not program
    second = InsertBatchnorm().apply(first.program)
    assert not second.modified
    assert second.program is first.program


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 2)),
        Function(lambda self, x: self.conv(x) + self.shift, conv=conv(3, 4), shift=nn.Parameter(torch.randn(4, 1, 1))),
        Function(lambda self, x: self.norm(self.conv(x) + x), conv=conv(3, 3), norm=nn.BatchNorm2d(3)),
    ],
    ids=["no sum", "a sum with a parameter", "a sum before a norm"],
)
def test_programs_without_an_open_sum_come_back(model):
    program = traced(model)
    result = InsertBatchnorm().apply(program)
    assert result.program is program
    assert not result.modified


def test_the_last_of_a_chain_of_sums_counts():
    model = Function(lambda self, x: torch.relu(self.a(x) + self.b(x) + x), a=conv(3, 3), b=conv(3, 3))
    result = operators(swdc.insert_batchnorm(traced(model)))
    assert result.count("BatchNorm2d") == 1
    assert result.index("BatchNorm2d") > len(result) - 1 - result[::-1].index("aten.add.Tensor")


def test_it_holds_the_programs_own_parameters_and_trains():
    program = traced(block())
    inserted = swdc.insert_batchnorm(program).train()
    new = set(inserted.state_dict()) - set(program.state_dict())
    assert {n.rpartition(".")[2] for n in new} >= {"weight", "bias", "running_mean", "running_var"}
    for name, parameter in program.named_parameters():
        assert inserted.get_parameter(name) is parameter
    (path,) = {n.rpartition(".")[0] for n in new}
    inserted(image(4, 3, 8, 8)).sum().backward()
    assert inserted.get_parameter(f"{path}.weight").grad is not None
    assert inserted.get_buffer(f"{path}.running_mean").abs().max() > 0


def test_the_result_slims_exactly():
    program = swdc.insert_batchnorm(traced(resnet20(width=4, inserted_batchnorm=False)))
    assert sum(isinstance(m, nn.BatchNorm2d) for m in program.leaves.values()) == 9 + 19 + 2
    certified(program)


def test_ensures_names_a_sum_without_a_norm():
    with pytest.raises(PassError, match="expected a batch norm after every sum"):
        InsertBatchnorm().ensures(traced(block()))
