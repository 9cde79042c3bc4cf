"""Layers that are solved again after a removal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import ArtifactError, PlanError
from swdc.ir.differences import relative_error
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.sparsity.calibration.statistics import Calibration
from tests.support import Function, conv, image, plan_of, traced


def cut(program: Program, kept: dict[str, Any]) -> tuple[Plan, Program, Program]:
    plan = plan_of(program, kept)
    return plan, swdc.mask(program, plan), swdc.slim(program, plan)


def combine(program: Program, weight: str, bias: str, dim: int = 0) -> None:
    """Make the last channel that a layer without activation writes a combination of the first two, and of one."""
    with torch.no_grad():
        w, b = program.tensors[weight].transpose(0, dim), program.tensors[bias]
        w[-1] = 0.5 * w[0] - 2 * w[1]
        b[-1] = 0.5 * b[0] - 2 * b[1] + 3


def dense() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), image(2, 3)


def image_layers() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(conv(3, 4, 1), nn.Conv2d(4, 3, (3, 2), stride=2, dilation=(1, 2))), image(2, 3, 9, 8)


def signal() -> tuple[nn.Module, torch.Tensor]:
    return nn.Sequential(nn.Conv1d(3, 4, 1), nn.Conv1d(4, 3, 3, stride=2)), image(2, 3, 9)


def matrices() -> tuple[nn.Module, torch.Tensor]:
    parts = {f"w{n}": nn.Parameter(torch.randn(*shape)) for n, shape in enumerate([(3, 4), (4, 2)])}
    parts |= {f"b{n}": nn.Parameter(torch.randn(size)) for n, size in enumerate((4, 2))}
    return Function(lambda m, x: torch.addmm(m.b1, torch.addmm(m.b0, x, m.w0), m.w1), **parts), image(5, 3)


@pytest.mark.parametrize("made", [dense, image_layers, signal, matrices])
def test_channels_that_are_combinations_of_others_are_recovered(made: Callable[[], tuple[nn.Module, Any]]) -> None:
    torch.manual_seed(0)
    model, example = made()
    program = traced(model, example)
    by_matrix = "w0" in program.tensors
    combine(program, *(("w0", "b0", 1) if by_matrix else ("0.weight", "0.bias")))
    (group,) = program.groups
    _, masked, slim = cut(program, {group.name: range(3)})
    batches = [image(8, *example.shape[1:], seed=seed) for seed in (1, 2)]
    statistics = swdc.calibrate(program, batches, moments=True)
    result = swdc.refit(slim, masked, statistics)
    other = image(3, *example.shape[1:], seed=9)
    assert relative_error(program(other), slim(other)) > 0.1
    assert relative_error(program(other), result(other)) < 1e-9
    assert [tuple(t.shape) for t in result.tensors.values()] == [tuple(t.shape) for t in slim.tensors.values()]


def test_a_solution_by_hand() -> None:
    """With two samples less than inputs nothing is exact; the normal equations of what is read have to hold."""
    program = traced(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), image(2, 3))
    _, masked, slim = cut(program, {"0": (0, 2, 3)})
    x = image(50, 3, seed=3)
    result = swdc.refit(slim, masked, swdc.calibrate(program, [x[:20], x[20:]], moments=["2.*"]))
    hidden = torch.relu(program.get_submodule("0")(x)).detach()
    columns = torch.cat([hidden[:, [0, 2, 3]], torch.ones(50, 1).double()], 1)
    wanted = torch.linalg.lstsq(columns, program.get_submodule("2")(hidden).detach()).solution
    found = torch.cat([result.get_parameter("2.weight"), result.get_parameter("2.bias")[:, None]], 1)
    torch.testing.assert_close(found.detach(), wanted.T, rtol=1e-9, atol=1e-9)


def network() -> Program:
    torch.manual_seed(0)
    layers = (conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 8), nn.BatchNorm2d(8), nn.ReLU())
    return traced(nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 64, 4)))


def test_refit_lowers_the_error_on_the_data_and_norms_that_are_estimated_lower_it_without() -> None:
    program = network()
    batches = [image(16, 3, 8, 8, seed=seed) for seed in range(3)]
    with torch.no_grad():  # a trained network: its statistics are those of its data
        for number in (1, 4):
            norm: Any = program.get_submodule(str(number))
            norm.reset_running_stats()
        program.train()
        for batch in batches * 60:
            program(batch)
        program.eval()
    statistics = swdc.calibrate(program, batches, moments=True)
    plan = swdc.plan(program, 0.4, criterion="activation", statistics=statistics)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    result = swdc.refit(slim, masked, statistics)
    both = swdc.refit(slim, masked, statistics, batches=iter(batches))

    def error(one: Program) -> float:
        return sum(float((one(batch) - program(batch)).square().sum().detach()) for batch in batches)

    assert error(result) < 0.5 * error(slim)
    assert error(both) < error(slim)
    assert both.get_submodule("1").momentum == 0.1
    assert not both.training
    mean = torch.stack([both.get_submodule("0")(batch).mean((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(both.get_buffer("1.running_mean"), mean.detach())
    assert "2 layers were solved again, which changes the output by" in result.facts.notes[-1]


def test_the_slim_program_and_its_certificate_stay(tmp_path: Any) -> None:
    program = network()
    batches = [image(8, 3, 8, 8)]
    plan = swdc.plan(program, 0.5)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    before = {name: tensor.detach().clone() for name, tensor in slim.tensors.items()}
    certificate = swdc.verify(masked, slim)
    result = swdc.refit(slim, masked, swdc.calibrate(program, batches, moments=True), batches=batches)
    assert all(torch.equal(tensor, before[name]) for name, tensor in slim.tensors.items())
    assert swdc.verify(masked, slim).exact
    assert not swdc.verify(masked, result).exact
    with pytest.raises(ArtifactError, match="certificate"):
        swdc.save(result, tmp_path / "refit", certificate)
    swdc.save(result, tmp_path / "refit")
    x = image(2, 3, 8, 8, seed=4)
    assert torch.equal(swdc.load(tmp_path / "refit")(x), result(x))


def test_a_layer_without_bias_gets_none_and_a_shared_weight_stays() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.stem(x)
        return m.head(x) + m.twice(torch.relu(x)) + m.twice(x)  # type: ignore[no-any-return]

    parts = {"stem": nn.Linear(3, 4), "head": nn.Linear(4, 2, bias=False), "twice": nn.Linear(4, 2)}
    program = traced(Function(forward, **parts), image(2, 3))
    _, masked, slim = cut(program, {"stem": range(3)})
    result = swdc.refit(slim, masked, swdc.calibrate(program, [image(30, 3)], moments=True))
    assert "head.bias" not in result.tensors
    assert torch.equal(result.get_parameter("twice.weight"), slim.get_parameter("twice.weight"))
    assert not torch.equal(result.get_parameter("head.weight"), slim.get_parameter("head.weight"))


def test_data_that_says_nothing_about_a_direction_leaves_the_weights_there() -> None:
    """All samples are equal: the change is the smallest that mends them, as far as moments in float64 tell."""
    torch.manual_seed(0)
    program = traced(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), image(2, 3))
    _, masked, slim = cut(program, {"0": range(3)})
    x = image(1, 3).expand(5, 3)
    result = swdc.refit(slim, masked, swdc.calibrate(program, [x], moments=True))
    assert relative_error(program(x), result(x)) < 1e-6
    change = result.get_parameter("1.weight") - slim.get_parameter("1.weight")
    read = torch.cat([slim.get_submodule("0")(x)[0], torch.ones(1).double()]).detach()
    lost = (program(x) - slim(x))[0].detach()
    smallest = torch.outer(lost, read) / read.square().sum()
    torch.testing.assert_close(change.detach(), smallest[:, :-1], rtol=1e-3, atol=1e-4)


def test_layers_that_read_the_same_share_their_moments() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.stem(x)
        return m.one(x) * m.two(x)  # type: ignore[no-any-return]

    program = traced(Function(forward, stem=nn.Linear(3, 4), one=nn.Linear(4, 2), two=nn.Linear(4, 2)), image(2, 3))
    x = image(6, 3)
    moments = swdc.calibrate(program, [x], moments=True).moments
    assert moments["one.weight"].data_ptr() != 0
    hidden = torch.cat([program.get_submodule("stem")(x), torch.ones(6, 1).double()], 1).detach()
    for name in ("one.weight", "two.weight"):
        torch.testing.assert_close(moments[name], hidden.T @ hidden / 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slim": "masked"}, "expected the slim and the masked program of one plan"),
        ({"masked": "program"}, "expected the slim and the masked program of one plan"),
        ({"statistics": "plain"}, "expected statistics with second moments, got some without"),
        ({"batches": []}, "expected at least one batch to estimate batch norms"),
        ({"batches": 3}, "expected batches as an iterable of batches, got int"),
    ],
)
def test_what_refit_refuses(change: dict[str, Any], message: str) -> None:
    program = network()
    plan = swdc.plan(program, 0.5)
    made: dict[str, Any] = {"program": program, "masked": swdc.mask(program, plan), "slim": swdc.slim(program, plan)}
    made["plain"] = swdc.calibrate(program, [image()])
    full: Calibration = swdc.calibrate(program, [image()], moments=True)
    given = {"slim": made["slim"], "masked": made["masked"], "statistics": full, **change}
    given = {key: made.get(value, value) if isinstance(value, str) else value for key, value in given.items()}
    with pytest.raises(PlanError, match=message):
        swdc.refit(**given)
    with pytest.raises(PlanError, match=r"'no' matches none; such weights are 3\.weight"):
        swdc.calibrate(program, [image()], moments=["no"])
