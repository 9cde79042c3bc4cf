"""Complex numbers and Fourier transforms leave the dimensions that they do not work along."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import swdc
from tests.support import Function, assert_same, assert_slims, certified, image, plan_of, reason_at, traced


def net(function: Any, width: int = 8) -> Function:
    return Function(lambda m, x: m.b(function(torch.relu(m.a(x)))), a=nn.Linear(5, 8), b=nn.Linear(width, 2))


@pytest.mark.parametrize(
    "function",
    [
        lambda y: torch.fft.rfft(y, dim=1).abs(),
        lambda y: torch.fft.fft(y, dim=1, norm="ortho").real,
        lambda y: torch.fft.irfft(torch.fft.rfft(y, dim=-2), n=4, dim=-2),
        lambda y: torch.fft.irfft2(torch.fft.rfft2(y.unflatten(1, (2, 2)), dim=(1, 2)), s=(2, 2), dim=(1, 2)).flatten(
            1, 2
        ),
        lambda y: torch.fft.fftn(y.mT, s=(4,)).imag.mT,
        lambda y: torch.fft.fftshift(y, dim=1),
        lambda y: torch.view_as_real(torch.complex(y, y * 2))[..., 1],
        lambda y: torch.view_as_complex(torch.stack([y, y * 3], -1)).abs(),
        lambda y: torch.polar(y, y.exp()).real,
        lambda y: (torch.polar(y, y) * torch.polar(y.cos(), y)).conj().imag,
    ],
)
def test_channels_beside_pass(function: Any) -> None:
    program = assert_slims(net(function), image(2, 4, 5))
    assert sum(group.width for group in program.groups) == 8


@pytest.mark.parametrize(
    "function",
    [
        lambda y: torch.fft.rfft(y).abs(),
        lambda y: torch.fft.fft2(y).real,
        lambda y: torch.fft.fftn(y).real,
        lambda y: torch.fft.ifftshift(y),
    ],
)
def test_channels_that_are_transformed_stay(function: Any) -> None:
    program = traced(net(function, 5 if "rfft" in str(function.__code__.co_names) else 8), image(2, 4, 5))
    assert "works along this dimension" in reason_at(program, "a.weight", 0)


def test_pairs_of_reals_stay() -> None:
    def function(y: torch.Tensor) -> torch.Tensor:
        return torch.view_as_real(torch.view_as_complex(y.unflatten(-1, (4, 2))) * 2).flatten(-2)

    program = assert_slims(net(function), image(2, 4, 5))
    assert program.groups[0].members[0].indices.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]


def test_the_angle_of_a_dead_zero_is_not_known() -> None:
    program = traced(net(lambda y: torch.polar(y, y).angle() + y), image(2, 4, 5))
    assert "its dead value" in reason_at(program, "a.weight", 0)


def test_channels_that_a_complex_variance_runs_over_stay() -> None:
    program = traced(net(lambda y: y * torch.complex(y, y * 2).var(-1, keepdim=True)), image(2, 4, 5))
    assert "a statistic over the channels" in reason_at(program, "a.weight", 0)


def complex_layer(inputs: int, outputs: int, bias: bool = True) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=bias, dtype=torch.complex128)


def test_a_complex_bias_takes_over_constants_whole() -> None:
    """The cosine of zero is one, so that each dead channel leaves a column of complex weights."""
    model = Function(lambda m, x: m.b(torch.cos(m.a(x))), a=complex_layer(3, 8), b=complex_layer(8, 2))
    assert_slims(model, torch.complex(image(4, 3), image(4, 3, seed=2)))


@pytest.mark.parametrize("bias", [False, True])
def test_constants_that_complex_weights_read_are_not_computed_in_reals(bias: bool) -> None:
    model = Function(
        lambda m, x: m.b(torch.cos(m.a(x)).to(torch.complex128)), a=nn.Linear(3, 8), b=complex_layer(8, 2, bias)
    )
    with torch.no_grad():
        model.a.weight[:3] = 0  # type: ignore[union-attr, index, operator]
    program = traced(model, image(4, 3))
    assert_same(program(image(4, 3)), swdc.deploy(program)(image(4, 3)))


@pytest.mark.parametrize("kept", [3, 4])
def test_pairs_beside_an_odd_number_of_channels_are_copied(kept: int) -> None:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        pairs, rest = m.a(x).split([4, 6], -1)
        turned = torch.view_as_complex(pairs.unflatten(-1, (2, 2))) * 1j
        return m.b(torch.view_as_real(turned).flatten(-2)) + m.c(rest.relu())

    program = traced(Function(run, a=nn.Linear(5, 10), b=nn.Linear(4, 2), c=nn.Linear(6, 2)), image(3, 5))
    (group,) = (g for g in program.groups if any(m.tensor == "c.weight" for m in g.members))
    _, slim = certified(program, plan_of(program, {group.name: range(kept)}))
    copies = slim.graph.find_nodes(op="call_function", target=torch.ops.aten.clone.default)
    assert len(copies) == kept % 2
