"""Statistics over the kept channels are those over all, with zeros in the place of what was removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.ops import statistics
from tests.support import Function, assert_equal, certified, conv, image, operators, random_plan, traced

KEPT = [0, 3, 4]


def masked(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Return ``x`` with zeros in the place of all but the kept indices."""
    zeros = torch.zeros_like(x)
    index = torch.tensor(KEPT)
    return zeros.index_copy(dim, index, x.index_select(dim, index))


def kept(x: torch.Tensor, dim: int) -> torch.Tensor:
    return x.index_select(dim, torch.tensor(KEPT))


@pytest.mark.parametrize("shift", [0.0, 1e8])
def test_layer_norm(shift: float) -> None:
    x, weight, bias = image(2, 4, 7) + shift, image(7, seed=2), image(7, seed=3)
    expected = F.layer_norm(masked(x, 2), (7,), weight, bias)
    got = statistics.LayerNorm((7,))(kept(x, 2), kept(weight, 0), kept(bias, 0))
    assert torch.allclose(kept(expected, 2), got, rtol=1e-12, atol=1e-12)


def test_nothing_is_lost_where_the_mean_is_large() -> None:
    x = image(1, 7) * 1e-3 + 1e5
    got = statistics.LayerNorm((7,), eps=0.0)(x)
    assert torch.allclose(F.layer_norm(x, (7,), eps=0.0), got, rtol=1e-9)


def test_halves_are_computed_in_float32() -> None:
    x = (image(2, 64) * 100).half()
    assert statistics.LayerNorm((64,))(x).dtype == torch.float16
    assert torch.allclose(statistics.LayerNorm((64,))(x), F.layer_norm(x, (64,)), atol=2e-3)
    spread, mean = statistics.VarianceAndMean((1,), False, (None, 64), root=True)(x * 100)  # its square is infinite
    assert torch.allclose(torch.stack([spread, mean]), torch.stack(torch.std_mean(x * 100, 1)), rtol=2e-3)


@pytest.mark.parametrize("dims", [None, [1], [-1, 1]])
@pytest.mark.parametrize("keepdim", [True, False])
def test_mean(dims: Any, keepdim: bool) -> None:
    x = image(3, 7, 2)
    got = statistics.Mean(dims, keepdim, [None, 7, None])(kept(x, 1))
    assert torch.allclose(masked(x, 1).mean(dims, keepdim), got, rtol=1e-12)


@pytest.mark.parametrize("eps", [None, 1e-2])
def test_rms_norm(eps: float | None) -> None:
    x, weight = image(2, 4, 7), image(7, seed=2)
    expected = F.rms_norm(masked(x, 2), (7,), weight, eps)
    got = statistics.RMSNorm((7,), eps)(kept(x, 2), kept(weight, 0))
    assert torch.allclose(kept(expected, 2), got, rtol=1e-12)
    half = (image(2, 64) * 1e-3).half()
    assert torch.allclose(statistics.RMSNorm((64,), eps)(half), F.rms_norm(half, (64,), eps=eps), rtol=1e-2)


@pytest.mark.parametrize("shape", [(2, 14), (2, 14, 3), (2, 14, 3, 2)])
def test_group_norm(shape: tuple[int, ...]) -> None:
    x, weight, bias = image(*shape), image(14, seed=2), image(14, seed=3)
    halves = [half.index_select(1, torch.tensor(KEPT)) for half in x.split(7, 1)]
    zeros = torch.cat([masked(half, 1) for half in x.split(7, 1)], 1)
    own = [torch.cat([kept(half, 0) for half in tensor.split(7)]) for tensor in (weight, bias)]
    got = statistics.GroupNorm(2, 7)(torch.cat(halves, 1), *own)
    expected = [kept(half, 1) for half in F.group_norm(zeros, 2, weight, bias).split(7, 1)]
    assert torch.allclose(torch.cat(expected, 1), got, rtol=1e-12, atol=1e-12)


class Tokens(nn.Module):
    """Tokens with a residual stream: norms, a gate from the mean over channels, a mean over tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(5, 8), nn.LayerNorm(8)
        self.up, self.down, self.head = nn.Linear(8, 12), nn.Linear(12, 8), nn.Linear(8, 3)
        self.mean = nn.LayerNorm(8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.embed(x)
        y = y + self.down(F.gelu(self.up(self.norm(y))))
        y = self.mean(y) * y.mean(-1, keepdim=True)
        result: torch.Tensor = self.head(y.mean(1))
        return result


class Maps(nn.Module):
    """Feature maps, with every statistic over channels that tokens have not."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.conv = conv(3, 12), nn.GroupNorm(2, 12), conv(12, 8)
        self.root, self.head = nn.RMSNorm(8), nn.Linear(8, 3)
        self.gain = nn.Parameter(torch.randn(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = F.batch_norm(self.conv.weight.reshape(1, 8, -1), None, None, self.gain, training=True)
        y = F.conv2d(F.silu(self.norm(self.stem(x))), weight.reshape_as(self.conv.weight), self.conv.bias)
        y = self.root(y.permute(0, 2, 3, 1))
        spread, mean = torch.std_mean(y, -1, keepdim=True)
        y = y * (y.var((1, 2, 3), keepdim=True, correction=0) + spread * mean)
        y = y * (y.amax(-1, keepdim=True) - y.min(-1, keepdim=True)[0])
        result: torch.Tensor = self.head(y.mean((1, 2)))
        return result


SHAPES = {Tokens: (4, 5), Maps: (3, 8, 8)}
MODELS = pytest.mark.parametrize("model", SHAPES)


def slimmed(model: type[nn.Module] = Tokens) -> swdc.Program:
    return certified(traced(model(), image(2, *SHAPES[model])))[1]


def statistics_of(program: swdc.Program) -> list[nn.Module]:
    return [m for m in program.leaves.values() if isinstance(m, statistics.Statistic | statistics.Norm)]


def test_what_is_built_and_where() -> None:
    slim = slimmed()
    modules = {path: type(module).__name__ for path, module in slim.leaves.items()}
    assert modules["norm"] == modules["mean"] == "LayerNorm"
    assert isinstance(slim.get_submodule("norm"), statistics.LayerNorm)
    assert [type(m) for m in slim.leaves.values() if isinstance(m, statistics.Mean)] == [statistics.Mean]
    assert set(slim.state_dict()) == set(Tokens().state_dict())
    kinds = "BatchNorm GroupNorm RMSNorm VarianceAndMean Variance Extremum ExtremumAndPlace".split()
    assert [type(m).__name__ for m in statistics_of(slimmed(Maps))] == kinds


@MODELS
def test_a_slim_program_is_slimmed_again_with_the_divisor_of_the_first(model: type[nn.Module]) -> None:
    first = slimmed(model)
    again = certified(first, random_plan(first, 4))[1]
    assert [str(m) for m in statistics_of(again)] == [str(m) for m in statistics_of(first)]
    assert set(again.state_dict()) == set(first.state_dict())
    assert again.get_parameter("head.weight").shape[1] < first.get_parameter("head.weight").shape[1] < 8
    certificate = swdc.verify(*certified(first, random_plan(first, 5)), batches=(1, 2, 5))
    assert certificate.max_relative_error <= 1e-12


@MODELS
def test_saved_and_loaded(model: type[nn.Module], tmp_path: Path) -> None:
    slim, x = slimmed(model), image(3, *SHAPES[model])
    loaded = swdc.load(swdc.save(slim, tmp_path / "slim"))
    assert loaded.hash() == slim.hash()
    assert [g.width for g in loaded.groups] == [g.width for g in slim.groups]
    assert_equal(slim(x), loaded(x))


@MODELS
def test_exported(model: type[nn.Module], tmp_path: Path) -> None:
    report = swdc.export_onnx(slimmed(model), tmp_path / "slim.onnx")
    assert report.max_relative_error < 1e-4


@MODELS
def test_traced_again(model: type[nn.Module]) -> None:
    slim, shape = slimmed(model), SHAPES[model]
    again = swdc.trace(slim, image(2, *shape))
    assert_equal(slim(image(3, *shape)), again(image(3, *shape)))
    if again.groups:  # what lies beside statistics, which are taken apart here
        certified(again)


@MODELS
def test_counted_and_cloned_and_trained(model: type[nn.Module]) -> None:
    slim = slimmed(model)
    assert swdc.count(slim).parameters == sum(p.numel() for p in slim.parameters())
    copy = slim.clone().train()
    assert all(module.training for module in copy.modules())
    copy(image(3, *SHAPES[model])).sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in copy.parameters())


@MODELS
def test_on_the_meta_device(model: type[nn.Module]) -> None:
    slim = slimmed(model).to("meta")
    assert slim(torch.empty(3, *SHAPES[model], device="meta", dtype=torch.float64)).shape == (3, 3)


def test_names_that_are_taken_are_left_alone() -> None:
    class Gate(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = super().forward(x)
            return y * y.mean(1, keepdim=True)

    model = nn.Sequential(Gate(3, 6, 3, padding=1), nn.ReLU(), conv(6, 2))
    model.mean_dim = nn.Parameter(torch.zeros(3))
    _, slim = certified(traced(Function(lambda m, x: m.net(x) + m.mean_dim.sum(), net=model, mean_dim=conv(1, 1).bias)))
    assert operators(slim).count("Mean") == 1
    assert [p for p, m in slim.leaves.items() if isinstance(m, statistics.Mean)] == ["net.mean_dim_2"]
