import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import swdc
from swdc.errors import PlanError
from swdc.networks import LeNet5, resnet20
from swdc.ops import statistics


def small_resnet(dtype=torch.float64):
    torch.manual_seed(0)
    model = resnet20(width=4, channels=1).to(dtype)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.1, 2.0)
                module.bias.normal_()
    return swdc.trace(model, torch.randn(2, 1, 8, 8, dtype=dtype))


def loss_of(program, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 1, 8, 8, generator=generator, dtype=dtype)
    return functional.cross_entropy(program(images), torch.tensor([0, 1, 2, 3]))


def gradients(program):
    return {name: p.grad.clone() for name, p in program.named_parameters()}


@pytest.mark.parametrize("structure", ["channels", "weights"])
def test_gradient_equals_autograd_of_the_penalty(structure):
    program = small_resnet()
    swd = swdc.SWD(program, 0.7, structure, a_min=3.0, a_max=3e4, steps=10, mu=1e-3)
    swd.s = 4
    masks = {target.name: target.chosen.double() for target in swd.targeted()}
    parameters = dict(program.named_parameters())
    penalty = sum((parameters[name] ** 2 * mask).sum() for name, mask in masks.items())
    a = 3.0 * (3e4 / 3.0) ** 0.4
    (loss_of(program) + 1e-3 * 0.5 * a * penalty).backward()
    expected = gradients(program)
    program.zero_grad()
    loss_of(program).backward()
    swd.step()
    for name, gradient in gradients(program).items():
        scale = expected[name].abs().max()
        assert (gradient - expected[name]).abs().max() <= 1e-12 * scale, name


def test_coefficient_grows_as_equation_3_and_stays():
    swd = swdc.SWD(small_resnet(), 0.5, a_min=1e-1, a_max=1e5, steps=4)
    seen = []
    for _ in range(7):
        seen.append(swd.a)
        swd.step()
    expected = [1e-1 * (1e5 / 1e-1) ** (min(s, 4) / 4) for s in range(7)]
    assert seen == pytest.approx(expected, rel=1e-12)


def test_weights_are_those_of_equation_4():
    program = small_resnet()
    swd = swdc.SWD(program, 0.9, "weights", a_min=1, a_max=10, steps=5)
    norms = {n for n, m in program.named_modules() if isinstance(m, nn.BatchNorm2d)}
    weights = {n: p for n, p in program.named_parameters() if n.rpartition(".")[0] not in norms}
    flat = torch.cat([p.detach().abs().flatten() for p in weights.values()])
    count = int(0.9 * flat.numel())
    threshold = flat.sort().values[count - 1]
    found = {t.name: t.chosen for t in swd.targeted()}
    assert set(found) == set(weights)
    assert sum(int(m.sum()) for m in found.values()) == count
    for name, mask in found.items():
        assert torch.equal(mask, weights[name].detach().abs() <= threshold)


def test_norms_of_a_slim_program_are_not_weights_either():
    model = nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 3)).double()
    program = swdc.trace(model, torch.randn(2, 5, dtype=torch.float64))
    slim = swdc.slim(program, swdc.plan(program, 0.5))
    assert type(slim.get_submodule("1")) is statistics.LayerNorm
    swd = swdc.SWD(slim, 0.5, "weights", a_min=1, a_max=10, steps=5)
    assert {target.name for target in swd.targeted()} == {"0.weight", "0.bias", "2.weight", "2.bias"}


def test_channels_meet_the_parameter_budget_to_one_channel():
    program = small_resnet()
    swd = swdc.SWD(program, 0.8, a_min=1, a_max=10, steps=5)
    plan = swd.plan()
    before, after = swdc.count(program).parameters, swdc.count(swdc.slim(program, plan)).parameters
    assert after <= 0.2 * before
    gains = swdc.sparsity.planning.criteria.gamma(program, program.groups)
    lowest_removed = []
    for group, scores in zip(program.groups, gains, strict=True):
        removed = np.setdiff1d(np.arange(group.width), plan.kept[group.name])
        lowest_removed += [(scores[c], group.name, int(c)) for c in removed]
        assert scores[list(plan.kept[group.name])].min() >= max((scores[c] for c in removed), default=0)
    _, name, channel = max(lowest_removed)
    kept = dict(plan.kept)
    kept[name] = tuple(sorted((*kept[name], channel)))
    one_more = swdc.Plan(kept, plan.widths, plan.program_hash)
    assert swdc.count(swdc.slim(program, one_more)).parameters > 0.2 * before


def test_only_the_norm_after_a_sum_is_pulled():
    program = small_resnet()
    swd = swdc.SWD(program, 0.8, a_min=1, a_max=10, steps=5)
    pulled = {t.name.rpartition(".")[0] for t in swd.targeted()}
    assert pulled
    assert all(path == "bn1" or path.endswith((".bn1", ".bn3")) for path in pulled), pulled


def test_removal_changes_nothing_more_than_the_mask():
    program = small_resnet().eval()
    swd = swdc.SWD(program, 0.6, a_min=1, a_max=10, steps=5)
    plan = swd.plan()
    masked = swdc.mask(program, plan)
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    swd.remove_()
    with torch.no_grad():
        assert (program(images) - masked(images)).abs().max() <= 1e-12


def test_training_pulls_targets_close_to_zero():
    program = small_resnet(torch.float32)
    optimizer = torch.optim.SGD(program.parameters(), lr=0.05)
    swd = swdc.SWD(program, 0.7, a_min=1e3, a_max=2e4, steps=60)
    for _ in range(60):
        optimizer.zero_grad()
        loss_of(program, torch.float32).backward()
        swd.step()
        optimizer.step()
    for target in swd.targeted():
        assert target.parameter[target.chosen].abs().max() < 1e-2


def test_without_norms_the_filters_are_pulled():
    torch.manual_seed(0)
    program = swdc.trace(LeNet5(), torch.randn(2, 1, 32, 32))
    swd = swdc.SWD(program, 0.5, a_min=1, a_max=10, steps=5)
    names = {t.name for t in swd.targeted()}
    assert {"left.weight", "right.weight", "left.bias"} <= names
    assert swdc.count(swdc.slim(program, swd.plan())).parameters <= 0.5 * swdc.count(program).parameters


def test_weights_on_a_plain_module_and_the_channels_left_without_a_weight():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        model[0].weight[2:5] *= 1e-6
        model[0].bias[2:5] *= 1e-6
    share = 21 / sum(p.numel() for p in model.parameters())
    swd = swdc.SWD(model, share + 1e-9, "weights", a_min=1, a_max=10, steps=5)
    with pytest.raises(PlanError, match="expected a Program to plan for"):
        swd.plan()
    program = swdc.trace(model, torch.randn(2, 6, dtype=torch.float64))
    plan = swdc.SWD(program, share + 1e-9, "weights", a_min=1, a_max=10, steps=5).plan()
    assert plan.kept["0"] == (0, 1, 5, 6, 7)


def test_a_loaded_state_continues_where_it_stopped():
    first, second = small_resnet(), small_resnet()
    one = swdc.SWD(first, 0.5, a_min=1, a_max=100, steps=9)
    for _ in range(5):
        one.step()
    other = swdc.SWD(second, 0.5, a_min=1, a_max=100, steps=9)
    other.load_state_dict(one.state_dict())
    assert other.a == one.a
    with pytest.raises(PlanError, match="expected a state with the settings of this run"):
        swdc.SWD(second, 0.6, a_min=1, a_max=100, steps=9).load_state_dict(one.state_dict())
    for part in ({"s": -1}, {"s": 1.5}, {"chosen": {"no such": torch.ones(2)}}, {"chosen": {"conv1.weight": 3}}):
        with pytest.raises(PlanError, match="expected"):
            swdc.SWD(second, 0.5, a_min=1, a_max=100, steps=9).load_state_dict({**one.state_dict(), **part})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target": 0}, "expected a target .* got 0"),
        ({"target": 1}, "expected a target .* got 1"),
        ({"structure": "rows"}, "expected a structure of"),
        ({"a_min": 0}, "expected a_min as a positive number"),
        ({"a_max": math.inf}, "expected a_max as a positive number"),
        ({"mu": -1}, "expected mu as a positive number"),
        ({"steps": 0}, "expected steps as the whole number"),
        ({"ignore": "nothing*"}, "'nothing\\*' matches none"),
        ({"target": 0.9999}, "expected a budget that can be met"),
    ],
)
def test_bad_arguments(changed, message):
    arguments = {"target": 0.5, "a_min": 1, "a_max": 10, "steps": 5, **changed}
    with pytest.raises(PlanError, match=message):
        swdc.SWD(small_resnet(), **arguments)


def test_channels_need_a_program():
    with pytest.raises(PlanError, match="expected a Program for structure='channels', got Sequential"):
        swdc.SWD(nn.Sequential(nn.Linear(2, 2)), 0.5, a_min=1, a_max=10, steps=5)


@pytest.mark.parametrize("structure", ["channels", "weights"])
def test_a_program_may_be_wrapped(structure):
    program = small_resnet()
    wrapped = torch.compile(program, backend="eager")
    plain, inside = (swdc.SWD(m, 0.5, structure, a_min=1, a_max=10, steps=5) for m in (program, wrapped))
    assert inside.state_dict()["structure"] == structure
    assert inside.plan() == plain.plan()
    for one, other in zip(inside.targeted(), plain.targeted(), strict=True):
        assert one.name == other.name
        assert one.parameter is other.parameter
        assert torch.equal(one.chosen, other.chosen)
    with pytest.raises(PlanError, match="expected a Program for structure='channels', got Sequential"):
        swdc.SWD(nn.Sequential(program, nn.ReLU()), 0.5, a_min=1, a_max=10, steps=5)


@pytest.mark.parametrize("structure", ["channels", "filters"])
def test_an_unchanged_set_is_pulled_again_and_follows_the_type_of_the_weights(structure):
    program = small_resnet()
    swd = swdc.SWD(program, 0.7, structure, a_min=2.0, a_max=2.0, steps=10, mu=0.5)
    for kind in (torch.float64, torch.float64, torch.float64, torch.float32, torch.bfloat16, torch.float64):
        program.to(kind)  # the same Parameter objects
        program.zero_grad()
        masks = {target.name: target.chosen for target in swd.targeted()}
        swd.step()
        for name, parameter in program.named_parameters():
            expected = parameter.detach() * masks[name] if name in masks else torch.zeros_like(parameter)
            found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert found.dtype == kind
            assert torch.equal(found, expected), name


def test_the_returned_list_of_targets_may_be_changed():
    swd = swdc.SWD(small_resnet(), 0.7, a_min=1.0, a_max=1.0, steps=2)
    swd.targeted().clear()
    assert swd.targeted()
