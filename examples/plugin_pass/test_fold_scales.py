"""What a test of a pass checks: a graph that matches, one that does not, equal numbers, and an untouched program."""

import pytest
import torch
from swdc_fold_scales import FoldScales, example
from torch import nn

import swdc
from swdc.errors import PassError


def operators(program: swdc.Program) -> list[str]:
    """Return the operators of a program, in order."""
    return [call.operator for _, call in swdc.calls(program).values()]


def test_the_pass_is_found_by_its_name():
    assert "fold-scales" in swdc.pass_names()


def test_a_scale_after_a_layer_is_folded_and_nothing_else_changes():
    model, x = example()
    program = swdc.trace(model.double().eval(), x.double())
    before, weight = operators(program), program.tensors["first.weight"].clone()
    folded = swdc.apply_pass(program, "fold-scales")
    assert before.count("aten.mul.Tensor") == 2
    assert operators(folded).count("aten.mul.Tensor") == 1
    for batch in (1, 2, 5):
        inputs = torch.randn(batch, 8, dtype=torch.float64)
        torch.testing.assert_close(folded(inputs), program(inputs), rtol=1e-12, atol=1e-12)
    assert operators(program) == before
    assert torch.equal(program.tensors["first.weight"], weight)


def test_without_a_scale_the_program_is_the_given_one():
    program = swdc.trace(nn.Sequential(nn.Linear(8, 4), nn.ReLU()).eval(), torch.randn(2, 8))
    result = FoldScales().apply(program)
    assert result.program is program
    assert not result.modified


def test_scales_beyond_the_largest_stay_and_plans_still_work():
    model, x = example()
    program = swdc.trace(model.eval(), x)
    kept = swdc.apply_pass(program, "fold-scales", largest=1.0)
    assert operators(kept).count("aten.mul.Tensor") == 2
    folded = swdc.apply_pass(program, FoldScales())
    plan = swdc.plan(folded, 0.5)
    assert swdc.verify(swdc.mask(folded, plan), swdc.slim(folded, plan)).exact


def test_a_program_without_values_is_refused():
    with torch.device("meta"):
        program = swdc.trace(nn.Linear(3, 2).eval(), torch.randn(2, 3))
    with pytest.raises(PassError, match="on the meta device"):
        swdc.apply_pass(program, "fold-scales")
