import pytest
import torch

import swdc
from swdc.networks import LeNet5, resnet18, resnet20, resnet34, resnet56


@pytest.mark.parametrize(
    ("model", "parameters", "operations"),
    [
        (lambda: resnet20(64), 4_330_442, 649_988_618),
        (lambda: resnet20(16), 273_146, 41_386_634),
        (lambda: resnet56(16), 857_786, 127_353_482),
        (lambda: resnet18(64), 11_177_802, 557_143_050),
        (lambda: resnet34(64, classes=100), 21_335_844, 1_162_397_796),
    ],
)
def test_dense_counts_are_those_of_the_reference(model, parameters, operations):
    with torch.device("cpu"):
        program = swdc.trace(model(), torch.randn(1, 3, 32, 32))
    counted = swdc.count(program, convention="reference")
    assert (counted.parameters, counted.operations) == (parameters, operations)


def test_lenet_gives_log_probabilities():
    probabilities = LeNet5()(torch.randn(2, 1, 32, 32)).exp().sum(1)
    assert torch.allclose(probabilities, torch.ones(2), atol=1e-6)


def test_inserted_norms_can_be_left_out():
    with_norms, without = (resnet20(16, inserted_batchnorm=b) for b in (True, False))
    extra = set(with_norms.state_dict()) - set(without.state_dict())
    assert extra
    assert all(".bn3." in name for name in extra)
