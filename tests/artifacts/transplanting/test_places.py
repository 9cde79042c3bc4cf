"""Transplanting models that keep tensors and integers where torch does not look, or run what is not used."""

from __future__ import annotations

import copy
import functools
import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from tests.support import assert_same, certified, image, random_plan, randomise

X = image(2, 5, 8)


class Two(nn.Module):
    """Two layers, and what a test puts between them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return y

    def forward(self, x: torch.Tensor) -> Any:
        return self.b(self.middle(self.a(x).relu()))


class PlainTensors(Two):
    """Tensors as attributes, in a list in a dict, in a tuple, and in an object."""

    def __init__(self) -> None:
        super().__init__()
        self.places, self.nested = torch.randn(5, 16), {"gains": [torch.rand(16) + 0.5]}
        self.pair = (torch.randn(16), 3)
        self.table = Table()

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        shifted = y * self.nested["gains"][0].to(y.dtype) + self.places.to(y.dtype) + self.pair[0].to(y.dtype)
        return shifted.relu() * self.table.gains(y)


class Table:
    def __init__(self) -> None:
        self.values, self.width = torch.rand(16) + 0.5, 16

    def gains(self, like: torch.Tensor) -> torch.Tensor:
        return self.values.to(like.dtype).view(1, self.width)


class UnknownLayers(Two):
    """Layers in a plain list, which torch does not know, and parameters in another."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [nn.Linear(16, 16).double(), nn.Linear(16, 16).double()]
        self.gains = [nn.Parameter(torch.rand(16).double() + 0.5)]

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            y = layer(y).relu()
        return y * self.gains[0]


class NumbersInLists(Two):
    """Sizes of parts in lists in a list, and a shape in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.config = [[6, 4], [6]], {"shape": [4, 4], "dims": (2, 3)}

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        parts = torch.split(y, self.parts[0] + self.parts[1], -1)
        return torch.cat([part * (number + 1) for number, part in enumerate(parts)], -1)


class ShapeInDict(Two):
    """A shape in a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.config = {"shape": [4, 4], "dims": (2, 3)}

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return (y.unflatten(-1, self.config["shape"]) * 2).flatten(*self.config["dims"])


class Closures(Two):
    """Numbers and tensors in closures and partial functions."""

    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        gains = (torch.rand(16) + 0.5).double()
        self.split = lambda y: (y * gains).view(y.shape[0], -1, heads, 4)
        self.cut = functools.partial(torch.split, split_size_or_sections=[8, 8], dim=-1)

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        one, other = self.cut(self.split(y).sin().flatten(2))
        return torch.cat([one, other * 2], -1)


class Rearranging(nn.Module):
    """Holds its numbers twice: as it computes, and as it is pickled and copied. Layers of einops do so."""

    def __init__(self, **lengths: int) -> None:
        super().__init__()
        self.lengths = lengths
        self._used = tuple(lengths.items())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (_, heads), *_ = self._used
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    def __getstate__(self) -> dict[str, Any]:
        return {"lengths": self.lengths}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["lengths"])  # type: ignore[misc]


class HeadsTwice(nn.Module):
    def __init__(self, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(8, width) for _ in range(3))
        self.split, self.out = Rearranging(heads=heads), nn.Linear(width, 8)

    def forward(self, x: torch.Tensor) -> Any:
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        return self.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))


class Catching(nn.Module):
    """Calls each layer with an argument that it may not take."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 16), nn.Sequential(nn.ReLU(), nn.Linear(16, 16)), nn.Linear(16, 4)])

    def forward(self, x: torch.Tensor) -> Any:
        for layer in self.layers:
            try:
                x = layer(x, lengths=None)
            except TypeError:
                x = layer(x)
        return x


class AlwaysDropping(Two):
    """Drops at random in evaluation, too."""

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return F.dropout(y, 0.5, training=True)


KINDS = (PlainTensors, UnknownLayers, NumbersInLists, ShapeInDict, Closures, HeadsTwice, Catching)


def made(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return randomise(kind()).eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_kind_is_transplanted(kind: type[nn.Module], seed: int) -> None:
    model = made(kind)
    before = model(X)
    program = swdc.trace(model, X)
    plan = random_plan(program, seed)
    _, slim = certified(program, plan)
    mine = swdc.transplant(slim, model)
    assert type(mine) is kind
    assert not any(type(module).__name__ == "Extracted" for module in mine.modules())
    x = image(3, 5, 8, seed=5)
    assert_same(slim(x), mine(x))
    assert_same(slim(x), copy.deepcopy(mine)(x))
    assert torch.equal(model(X), before), "the caller's model changed"


def test_loose_parameters_stay_parameters_and_a_float32_tensor_is_no_obstacle() -> None:
    model = made(UnknownLayers)
    program = swdc.trace(model, X)
    mine = swdc.transplant(swdc.slim(program, random_plan(program)), model)
    assert isinstance(mine.layers[0].weight, nn.Parameter)  # type: ignore[index, union-attr]
    assert isinstance(mine.gains[0], nn.Parameter)  # type: ignore[index]

    class Mixed(Two):
        def __init__(self) -> None:
            super().__init__()
            self.mix = torch.randn(8, 8)

        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x @ self.mix)

    narrow = Mixed().eval()
    program = swdc.trace(narrow, X.float())
    slim = swdc.slim(program, random_plan(program))
    mine = swdc.transplant(slim, narrow)
    assert_same(slim(X.float()), mine(X.float()), 1e-5)
    assert mine.mix.dtype == torch.float32


def test_what_drops_at_random_in_evaluation_is_compared_without_dropping() -> None:
    model = made(AlwaysDropping)
    program = swdc.trace(model, X)
    masked, slim = certified(program)
    mine = swdc.transplant(slim, model)
    assert not torch.equal(mine(X), mine(X))
    missing = slim.clone()
    for node in missing.graph.nodes:
        if "dropout" in str(node.target):
            node.args = (node.args[0], 0.25, True)
    missing.recompile()
    assert not swdc.verify(masked, missing).exact


def test_the_example_of_the_slim_program_keeps_its_type() -> None:
    model = made(PlainTensors).float()
    program = swdc.trace(model, X.float())
    slim = swdc.slim(program, random_plan(program))
    swdc.transplant(slim, model)
    assert [tensor.dtype for tensor in (*slim.facts.example[0], *program.facts.example[0])] == [torch.float32] * 2


class ArrayOfNumpy(Two):
    """Channels in an array of numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.gains = np.random.default_rng(0).random(16) + 0.5

    def middle(self, y: torch.Tensor) -> torch.Tensor:
        return y * torch.from_numpy(self.gains)


class Generating(Two):
    """Returns a generator."""

    def forward(self, x: torch.Tensor) -> Any:
        y = self.a(x).relu()
        return (self.b(y * factor) for factor in (1, 2))


class Mapped(nn.Module):
    """Maps a network over the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))

    def forward(self, x: torch.Tensor) -> Any:
        return torch.vmap(self.one)(x)


@pytest.mark.parametrize("kind", [ArrayOfNumpy, Generating, Mapped])
def test_more_kinds_are_transplanted(kind: type[nn.Module]) -> None:
    model = made(kind)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        program = swdc.trace(model, X)
    assert [str(one.message) for one in told] == (["generator comes back as a list"] if kind is Generating else [])
    _, slim = certified(program)
    mine = swdc.transplant(slim, model)
    x = image(3, 5, 8, seed=5)
    assert_same(slim(x), mine(x))
    assert isinstance(slim(x), list) is (kind is Generating)


def test_a_result_with_an_iterator_goes_through_a_folder(tmp_path: Any) -> None:
    model = made(Generating)
    with pytest.warns(UserWarning, match="comes back as a list"):
        program = swdc.trace(model, X)
    swdc.save(program, tmp_path / "saved")
    assert_same(swdc.load(tmp_path / "saved")(X), list(model(X)))


def test_a_grid_that_torch_takes_in_float32_alone() -> None:
    class Quantised(Two):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.rand(16) / 20 + 0.1)
            self.register_buffer("zero", torch.zeros(16, dtype=torch.int32))

        def middle(self, y: torch.Tensor) -> torch.Tensor:
            return torch.fake_quantize_per_channel_affine(y, self.scale, self.zero, axis=2, quant_min=0, quant_max=255)  # type: ignore[no-any-return, call-overload]

    model = Quantised().eval()
    program = swdc.trace(model, X.float())
    slim = swdc.slim(program, random_plan(program))
    assert_same(slim(X.float()), swdc.transplant(slim, model)(X.float()), 1e-5)


class Keeping(Two):
    """Keeps what it computes for the sizes of its last input, as heads of detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.shape: Any = None
        self.anchors = torch.empty(0)

    def forward(self, x: torch.Tensor) -> Any:
        y = super().forward(x)
        if self.shape != y.shape:
            self.shape, self.anchors = y.shape, torch.arange(y.shape[-1], dtype=x.dtype) + 0.5
        return y + self.anchors


@pytest.mark.parametrize("before", [None, X])
@pytest.mark.parametrize("between", [X, image(2, 3, 8), image(4, 5, 8)])
@pytest.mark.filterwarnings(
    "ignore:the sizes of all inputs are fixed", "ignore:the leading size of the inputs is fixed"
)
def test_a_model_may_run_before_and_between(before: torch.Tensor | None, between: torch.Tensor) -> None:
    model = made(Keeping)
    if before is not None:
        model(before)
    program = swdc.trace(model, X)
    _, slim = certified(program)
    model(between)
    held = model.shape
    assert_same(slim(X), swdc.transplant(slim, model)(X))
    assert model.shape == held
