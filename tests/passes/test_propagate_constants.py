"""Constants of the weights themselves go into biases, carriers and sums, and the channels that had them go."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd
from torchvision import models

import swdc
from examples.bench.networks.randomise import calibrate_
from passes.eliminate_unused import EliminateUnused
from passes.propagate_constants import PropagateConstants
from swdc.ir.program import Program
from swdc.networks import resnet20
from swdc.rewriting.pipeline import run, run_to_fixpoint
from tests.support import Function, assert_same, conv, image, operators, randomise, text, traced


def propagated(program: Program) -> Program:
    """Return what the pass leaves, run with the one that deletes what is not read, until there is nothing more."""
    return run_to_fixpoint(program, [PropagateConstants(), EliminateUnused()]).program


def small(padding: int = 0) -> nn.Module:
    """Return two convolutions with a batch norm between; of its four gains two are zero, their shifts are not."""
    model = randomise(
        nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 2, padding=padding), nn.BatchNorm2d(2))
    )
    with torch.no_grad():
        model[1].weight[1:3], model[1].bias[1:3] = 0, torch.tensor([0.7, 1.3])
    return model


def without_gains(model: nn.Module, x: torch.Tensor, share: float) -> nn.Module:
    """Set a share of the gains of every batch norm to zero; the shifts stay as they are.

    The statistics are those of ``x``, for a deep network with others answers next to nothing.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight[torch.rand(len(module.weight), generator=generator) < share] = 0
    return model


def without_weights(model: nn.Module, share: float) -> nn.Module:
    """Set the share of all filters' weights with the least magnitude to zero."""
    filters = [m.weight for m in model.modules() if isinstance(m, _ConvNd)]
    everything = torch.cat([w.detach().abs().flatten() for w in filters])
    least = everything.kthvalue(int(share * len(everything))).values
    with torch.no_grad():
        for weight in filters:
            weight[weight.abs() <= least] = 0
    return model


def assert_same_function(program: Program, result: Program, side: int) -> None:
    for batch in (1, 3):
        x = image(batch, 3, side, side, seed=batch)
        assert_same(program(x), result(x), 1e-12)
    one, other = (program(image(2, 3, side, side, seed=seed)) for seed in (1, 2))
    assert (one - other).abs().max() > 1e-6 * one.abs().max()  # the network does answer its input


def test_golden(golden: Callable[[str, str], None]) -> None:
    program = traced(small())
    golden("propagate_constants.before", text(program))
    golden("propagate_constants.after", text(propagated(program)))


def test_a_constant_goes_into_the_next_bias() -> None:
    program = swdc.trace(small().eval(), image(2, 3, 8, 8))
    result = propagated(program)
    assert result.get_parameter("3.weight").shape == (2, 2, 3, 3)
    assert_same_function(program, result, 8)
    assert program.get_parameter("3.weight").shape == (2, 4, 3, 3)


def test_one_constant_carries_the_others_into_a_padded_convolution() -> None:
    program = swdc.trace(small(padding=1).eval(), image(2, 3, 8, 8))
    result = propagated(program)
    assert result.get_parameter("3.weight").shape == (2, 3, 3, 3)
    assert torch.equal(result.get_parameter("1.weight")[1], torch.zeros((), dtype=torch.float64))
    assert_same_function(program, result, 8)
    for size in ((5, 11), (2, 1), (1, 1)):  # borders are right at any size, even where there is nothing but borders
        x, model = image(2, 3, *size), small(padding=1).eval()
        assert_same(model(x), propagated(swdc.trace(model, x))(x), 1e-12)


@pytest.mark.parametrize("outputs", [4, 5])
def test_no_constant_is_carried_into_a_transposed_convolution(outputs: int) -> None:
    model = randomise(
        nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.ConvTranspose2d(4, outputs, 3, stride=2))
    )
    with torch.no_grad():
        model[1].weight[1:3], model[1].bias[1:3] = 0, torch.tensor([0.7, 1.3])
    program = swdc.trace(model.eval(), image(2, 3, 8, 8))
    result = propagated(program)
    assert result.get_parameter("3.weight").shape == (4, outputs, 3, 3)
    assert_same_function(program, result, 8)


@pytest.mark.parametrize(
    "layer",
    [nn.Conv1d(3, 6, 1), nn.ConvTranspose1d(3, 6, 1), nn.Sequential(nn.Conv1d(3, 6, 1), nn.GroupNorm(2, 6))],
    ids=["convolution", "transposed", "group-norm"],
)
def test_constants_stand_along_the_channels_only(layer: nn.Module) -> None:
    def forward(own: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return own.head(own.layer(x[..., :4]) + own.other(x).transpose(1, 2))

    model = randomise(Function(forward, layer=layer, other=nn.Conv1d(3, 4, 1), head=nn.Conv1d(6, 2, 1)))
    last = layer[-1] if isinstance(layer, nn.Sequential) else layer
    with torch.no_grad():
        model.other.weight[0] = 0
        last.weight[(slice(None), 0) if isinstance(last, nn.ConvTranspose1d) else 0] = 0
    program = swdc.trace(model.eval(), image(2, 3, 6))
    assert_same(program(image(3, 3, 6)), propagated(program)(image(3, 3, 6)), 1e-12)


def test_what_nothing_reads_goes() -> None:
    model = randomise(nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)))
    with torch.no_grad():
        model[2].weight[:, :4] = 0
    program = swdc.trace(model.eval(), image(2, 5))
    result = propagated(program)
    assert result.get_parameter("0.weight").shape == (2, 5)
    assert_same(program(image(4, 5)), result(image(4, 5)), 1e-13)


def test_a_branch_of_zeros_vanishes_and_another_constant_is_added() -> None:
    def forward(own: nn.Module, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(own.stem(x))
        x = torch.relu(x + own.norm(own.branch(x)))
        x = x + own.second(x)
        return own.head(x)

    model = randomise(
        Function(
            forward, stem=conv(3, 4), branch=conv(4, 4), norm=nn.BatchNorm2d(4), second=conv(4, 4, bias=False),
            head=conv(4, 2),
        )
    )  # fmt: skip
    with torch.no_grad():
        model.branch.weight.zero_()
        model.second.weight.zero_()
    program = swdc.trace(model.eval(), image(2, 3, 8, 8))
    result = propagated(program)
    assert operators(result) == ["Conv2d", "aten.relu.default", "aten.add.Tensor", "aten.relu.default", "Conv2d"]
    assert not any("branch" in name or "second" in name for name in result.state_dict())
    assert_same_function(program, result, 8)


@pytest.mark.parametrize(
    ("build", "side", "share"),
    [
        (partial(models.vgg16_bn, init_weights=False), 32, 0.4),
        (models.mobilenet_v2, 64, 0.3),
    ],
    ids=["vgg16-bn", "mobilenet-v2"],
)
def test_gains_of_zero_with_their_shifts_left(build: Callable[..., nn.Module], side: int, share: float) -> None:
    torch.manual_seed(0)
    model = build(num_classes=10)
    x = image(8, 3, side, side)
    program = swdc.trace(without_gains(randomise(model), x, share).eval(), x[:2])
    result = propagated(program)
    assert swdc.count(result).parameters < 0.95 * swdc.count(program).parameters
    assert_same_function(program, result, side)


@pytest.mark.parametrize("share", [0.97, 0.995])
def test_an_unstructured_network_loses_its_dead_filters(share: float) -> None:
    model = without_weights(randomise(resnet20(width=16)), share).eval()
    program = swdc.trace(calibrate_(model, image(8, 3, 32, 32)), image(2, 3, 32, 32))
    result = propagated(program)
    assert swdc.count(result).parameters < 10 * (1 - share) * swdc.count(program).parameters
    assert_same_function(program, result, 32)


def test_constants_follow_depthwise_filters() -> None:
    layers = [conv(3, 8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.BatchNorm2d(8), nn.Hardsigmoid(), conv(8, 2, 1)]
    model = randomise(nn.Sequential(*layers))
    with torch.no_grad():
        model[0].weight[:2] = 0
    program = swdc.trace(model.eval(), image(2, 3, 8, 8))
    result = propagated(program)
    assert result.get_parameter("5.weight").shape == (2, 6, 1, 1)
    assert_same_function(program, result, 8)


def test_a_grouped_convolution_stays_rectangular() -> None:
    layers = [conv(3, 8), nn.ReLU(), nn.Conv2d(8, 8, 1, groups=2), nn.Hardsigmoid(), conv(8, 2, 1)]
    model = randomise(nn.Sequential(*layers))
    with torch.no_grad():
        model[0].weight[:2] = 0  # of the first group only
        model[2].weight[[1, 5]] = 0  # the same of both
    program = swdc.trace(model.eval(), image(2, 3, 8, 8))
    result = propagated(program)
    assert result.get_parameter("2.weight").shape == (6, 4, 1, 1)
    assert_same_function(program, result, 8)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_are_left_alone(kind: type[nn.Module]) -> None:
    model = randomise(
        Function(lambda own, x: own.head(own.rnn(x)[0]), rnn=kind(4, 6, batch_first=True), head=nn.Linear(6, 2))
    )
    program = swdc.trace(model.eval(), image(2, 5, 4))
    assert not run(program, [PropagateConstants()]).modified


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_a_unit_that_only_its_own_layer_reads_stays(kind: type[nn.Module]) -> None:
    model = Function(
        lambda m, x: m.head(m.layer(x)[0][..., :2]), layer=kind(3, 5, batch_first=True), head=nn.Linear(2, 2)
    )
    program = traced(model, image(2, 4, 3))
    assert_same(propagated(program)(image(2, 4, 3)), program(image(2, 4, 3)))


def test_a_network_without_constants_comes_back_as_it_is() -> None:
    program = traced(resnet20(width=4), image(2, 3, 16, 16))
    result = run(program, [PropagateConstants()])
    assert not result.modified
    assert result.program is program


def test_what_is_written_over_one_index_of_zeros_is_no_constant() -> None:
    def code(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        written = torch.select_scatter(torch.zeros_like(y), y[:, 0].sin(), 1, 0)
        logits: torch.Tensor = m.c(m.b(written))
        return logits

    model = Function(code, a=nn.Linear(3, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 2))
    program = traced(model, image(3, 3))
    x = image(5, 3, seed=7)
    assert_same(program(x), swdc.deploy(program)(x))
