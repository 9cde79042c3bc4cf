"""Sizes that a model takes are taken by its program, its slim program, the saved folder and the ONNX file."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import swdc
from swdc.artifacts.onnx.runtime import run_onnx
from swdc.capture.guards import Guards
from swdc.capture.real_numbers import Real
from swdc.capture.rounded_numbers import rounded
from swdc.capture.size_algebra import floor_div
from swdc.capture.size_sums import number, symbol, value_of
from swdc.capture.trace import trace_everything
from swdc.errors import InputError, TraceError
from swdc.ir.program import Program
from tests.support import assert_same

Inputs = tuple[torch.Tensor, ...]


def holds_at(program: Program, model: nn.Module, others: Sequence[Inputs], folder: Path, onnx: bool = True) -> None:
    """Check a program, and what is made of it, at other sizes."""
    plan = swdc.plan(program, 0.5, scope="group")
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    swdc.save(slim, folder / "slim")
    loaded = swdc.load(folder / "slim")
    if onnx:
        swdc.export_onnx(slim, folder / "slim.onnx")
    for given in others:
        assert_same(program(*given), model(*given), 1e-5)
        assert_same(slim(*given), masked(*given), 1e-5)
        assert_same(loaded(*given), slim(*given), 1e-5)
        if onnx:
            found = run_onnx(folder / "slim.onnx", (given, {}))
            wanted = slim(*given)
            for one, other in zip(found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
                assert_same(torch.from_numpy(one), other, 1e-4)


class Remembering(nn.Module):
    """A recurrent model whose states come beside the sequence, with the layers before the batch."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.r = nn.LSTM(6, 8, 2, batch_first=batch_first)
        self.d = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 3))

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> Any:
        result, (h, c) = self.r(x, (h, c))
        return self.d(result), h, c


def _sequence(batch: int, length: int, batch_first: bool) -> Inputs:
    shape = (batch, length, 6) if batch_first else (length, batch, 6)
    return torch.randn(*shape), torch.randn(2, batch, 8), torch.randn(2, batch, 8)


@pytest.mark.parametrize(("batch", "length", "batch_first"), [(3, 5, True), (2, 5, True), (3, 5, False), (3, 2, False)])
def test_the_batch_is_the_size_that_all_inputs_have(batch: int, length: int, batch_first: bool, tmp_path: Path) -> None:
    """Also where it, or the length, is as large as the number of layers in the example."""
    model = Remembering(batch_first).eval()
    program = swdc.trace(model, _sequence(batch, length, batch_first))
    assert program.facts.symbols == {"batch": batch, "length": length}
    others = [_sequence(4, 7, batch_first), _sequence(2, 3, batch_first), _sequence(1, 2, batch_first)]
    holds_at(program, model, others, tmp_path, onnx=batch_first)


def test_a_batch_as_large_as_the_number_of_layers_can_be_asked_for() -> None:
    program = swdc.trace(Remembering(True).eval(), _sequence(2, 5, True), dynamic=["batch"])
    assert program.facts.symbols == {"batch": 2}


class Rows(nn.Module):
    """Convolutions over rows, and then some code."""

    def __init__(self, code: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.code = nn.Conv1d(2, 8, 3, padding=1), nn.Conv1d(8, 3, 1), code

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.code(self.b(self.a(x).relu()))


def _padded(x: torch.Tensor) -> torch.Tensor:
    return F.pad(x, (0, 1)) if x.shape[-1] % 2 == 1 else x


def _padded_by_thirds(x: torch.Tensor) -> torch.Tensor:
    x = F.pad(x, (0, 1)) if x.shape[-1] % 3 == 2 else x
    return x.view(*x.shape[:2], -1, 3).mean(-1)


def _in_two(x: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, -1)
    return a.mean(-1) + b.sum(-1)


def _in_three(x: torch.Tensor) -> torch.Tensor:
    a, b, c = x.chunk(3, -1)
    return a + b + F.pad(c, (0, a.shape[-1] - c.shape[-1]))


def _halves(x: torch.Tensor) -> torch.Tensor:
    a, b = x.split(x.shape[-1] // 2, -1)
    return a * b


def _unbound(x: torch.Tensor) -> torch.Tensor:
    a, b = x.view(x.shape[0], 3, 2, -1).unbind(2)
    return a * b


CODES: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], int, list[int], list[int]]] = {
    "a padding of one": (_padded, 9, [11, 5], [8]),
    "a padding to thirds": (_padded_by_thirds, 8, [11, 5], [9, 10]),
    "chunks": (_in_two, 8, [10, 9, 2], [1]),
    "three chunks": (_in_three, 9, [10, 12, 3], [4]),
    "a split in halves": (_halves, 8, [10, 4], [9]),
    "halves of a view": (_unbound, 8, [10, 4], [9]),
    "a share": (lambda x: F.interpolate(x, size=int(x.shape[-1] * 0.7)), 10, [20, 13], [90]),
    "a rounded share": (lambda x: x[..., : round(x.shape[-1] * 0.3)], 10, [15, 25, 5], []),
    "a share rounded up": (lambda x: x[..., : math.ceil(x.shape[-1] * 0.3)], 10, [15, 20, 7], []),
}

NOT_IN_FILES = {"chunks", "three chunks", "a split in halves"}
"""torch.onnx takes no symbol for the size of a part."""


@pytest.mark.parametrize("name", CODES)
def test_lengths_that_code_takes_are_taken(name: str, tmp_path: Path) -> None:
    code, length, others, refused = CODES[name]
    model = Rows(code).eval()
    program = swdc.trace(model, torch.randn(2, 2, length))
    assert program.facts.symbols == {"batch": 2, "length": length}
    holds_at(program, model, [(torch.randn(3, 2, other),) for other in others], tmp_path, name not in NOT_IN_FILES)
    for other in refused:
        with pytest.raises(InputError, match="length"):
            program(torch.randn(2, 2, other))


def test_the_remainder_of_an_odd_example_is_a_condition() -> None:
    program = swdc.trace(Rows(_padded).eval(), torch.randn(2, 2, 9))
    assert [condition.text for condition in program.facts.conditions] == ["length % 2 == 1"]


def test_factors_of_quotients_of_sizes_are_left_out() -> None:
    n, m = symbol("n"), symbol("m")
    assert floor_div(number(3) * n * m, number(6) * m) == floor_div(n, number(2))


class Experts(nn.Module):
    """Sends each row to two of four experts, which asks how many rows an expert gets."""

    def __init__(self) -> None:
        super().__init__()
        self.i, self.g, self.o = nn.Linear(6, 8), nn.Linear(8, 4, bias=False), nn.Linear(8, 3)
        self.e = nn.ModuleList(nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.i(x).view(-1, 8)
        weights, chosen = self.g(y).softmax(-1).topk(2, -1)
        result = torch.zeros_like(y)
        for number_of, expert in enumerate(self.e):
            row, place = torch.where(chosen == number_of)
            result.index_add_(0, row, expert(y[row]) * weights[row, place, None])
        return self.o(result.view(*x.shape[:-1], 8))


def test_what_is_exported_has_the_names_of_axes(tmp_path: Path) -> None:
    model = Experts().eval()
    program = swdc.trace(model, torch.randn(2, 7, 6), dynamic=["batch"])
    assert program.facts.captured_by == "export"
    assert program.facts.batch == "batch"
    assert program.facts.free == ("batch",)
    assert "sizes that may change: batch\n" in f"{program.explain()}\n"
    holds_at(program, model, [(torch.randn(3, 7, 6),), (torch.randn(5, 7, 6),)], tmp_path)
    with pytest.raises(InputError, match=r"shape \(batch, 7, 6\)"):
        program(torch.randn(2, 9, 6))
    with pytest.raises(TraceError, match=r"those that may are \['batch'\]"):
        swdc.trace(model, torch.randn(2, 7, 6), dynamic=["batch", "length"])


def test_what_is_exported_of_a_graph_has_the_names_of_its_axes() -> None:
    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.l = nn.Linear(5, 4)

        def forward(self, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
            y = self.l(x)
            return y.index_add(0, edges[0], y[edges[1]])

    given = torch.randn(6, 5), torch.randint(6, (2, 9))
    program = trace_everything(Graph().eval(), given, "heads", "export")
    assert {**program.facts.symbols, "nodes": 6, "edges": 9} == program.facts.symbols
    assert program.facts.batch is None


def _merged(x: torch.Tensor) -> torch.Tensor:
    height, width = x.shape[-2:]
    if height % 2 or width % 2:
        x = F.pad(x, (0, width % 2, 0, height % 2))
    return x[..., ::2, ::2] + x[..., 1::2, 1::2]


def _merged_apart(x: torch.Tensor) -> torch.Tensor:
    height, width = x.shape[-2:]
    x = F.pad(x, (0, 0, 0, height % 2)) if height % 2 else F.pad(x, (0, width % 2)) if width % 2 else x
    return x.mean((2, 3))


class Image(nn.Module):
    """A convolution with a stride, some code, and another convolution."""

    def __init__(self, code: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.code = nn.Conv2d(3, 8, 2, 2), nn.Conv2d(8, 4, 1), code

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.code(self.b(self.a(x).relu()))


def test_a_padding_that_one_of_two_odd_sizes_asks_for(tmp_path: Path) -> None:
    """As Swin merges patches: even sizes skip the padding, which changes nothing there."""
    model = Image(_merged).eval()
    program = swdc.trace(model, torch.randn(2, 3, 16, 16))
    assert not [condition for condition in program.facts.conditions if "%" in condition.text]
    holds_at(program, model, [(torch.randn(1, 3, *size),) for size in ((18, 22), (20, 18), (17, 30), (6, 8))], tmp_path)


class Stages(nn.Module):
    """Stages that halve a map and resize it, if need be, so that patches cover it."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Conv2d(3 if at == 0 else 8, 8, 3, 2, 1) for at in range(3))
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            x = self.patched(stage(x).relu())
        return self.head(x)

    @staticmethod
    def patched(x: torch.Tensor) -> torch.Tensor:
        height, width = x.shape[-2:]
        high, wide = math.ceil(height / 2) * 2, math.ceil(width / 2) * 2
        resize = high != height or wide != width
        if resize:
            x = F.interpolate(x, size=(high, wide), mode="bilinear", align_corners=False)
        x = x.reshape(*x.shape[:2], high // 2, 2, wide // 2, 2).transpose(2, 3).reshape(*x.shape[:2], high, wide)
        return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False) if resize else x


def test_a_resize_that_each_stage_asks_for(tmp_path: Path) -> None:
    """As MobileViT: what a stage asks rests on what the stage before it has found, and it asks twice."""
    model = Stages().eval()
    program = swdc.trace(model, torch.randn(2, 3, 32, 32))
    assert not [condition for condition in program.facts.conditions if "%" in condition.text]
    holds_at(program, model, [(torch.randn(1, 3, *size),) for size in ((34, 40), (36, 24), (17, 30))], tmp_path)


def test_a_second_branch_on_the_same_line_is_not_taken_for_the_first() -> None:
    model = Image(_merged_apart).eval()
    program = swdc.trace(model, torch.randn(2, 3, 16, 16))
    for size in ((16, 18), (18, 16), (18, 18), (20, 24)):
        x = torch.randn(2, 3, *size)
        try:
            found = program(x)
        except InputError:
            continue
        assert_same(found, model(x), 1e-5)


def test_a_rounded_quotient_is_even_halfway() -> None:
    """As ``round`` of Python."""
    for share in (0.5, 0.25, 0.75, 1.5):
        guards = Guards({"n": 8})
        size = rounded(Real("product", (symbol("n"), share), 8 * share), guards, "round")
        assert size is not None
        assert [value_of(size, {"n": n}) for n in range(1, 99)] == [round(n * share) for n in range(1, 99)]


def test_a_factor_that_python_rounds_otherwise_is_a_bound() -> None:
    guards = Guards({"n": 8})
    assert rounded(Real("product", (symbol("n"), 0.29), 8 * 0.29), guards, "floor") is not None
    (claim,) = guards.claims
    assert int(100 * 0.29) == 28
    assert claim.holds({"n": 99})
    assert not claim.holds({"n": 100})


BITS: dict[str, tuple[Callable[[int], int], bool]] = {
    "the last digit": (lambda n: n & 1, True),
    "the last digits": (lambda n: n & 7, True),
    "half": (lambda n: n >> 1, True),
    "four times": (lambda n: n << 2, True),
    "whether it is a power of two": (lambda n: int(n & (n - 1) == 0), False),
    "the lowest digit": (lambda n: n & -n, False),
    "either digit": (lambda n: n | 2, False),
    "one digit": (lambda n: n ^ 1, False),
}


@pytest.mark.parametrize("name", BITS)
def test_digits_of_a_size_are_not_taken_for_its_truth(name: str) -> None:
    """Where an answer cannot be said for all lengths, the length is that of the example."""
    digits, is_free = BITS[name]
    model = Rows(lambda x: x * digits(x.shape[2])).eval()
    program = swdc.trace(model, torch.randn(2, 2, 5))
    for length in (3, 4, 5, 8, 9) if is_free else (5,):
        x = torch.randn(2, 2, length)
        assert_same(program(x), model(x), 1e-6)
    if not is_free:
        with pytest.raises(InputError, match=r"test_taken_sizes\.py"):
            program(torch.randn(2, 2, 8))


class Patches(nn.Module):
    """Takes the root of the number of patches for the side of the image."""

    def __init__(self, root: Callable[[Any], int]) -> None:
        super().__init__()
        self.a, self.b, self.root = nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 4, 3, padding=1), root

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.a(x).flatten(2).relu()
        side = self.root(x.shape[2])
        return self.b(x.reshape(*x.shape[:2], side, side))


ROOTS: dict[str, Callable[[Any], int]] = {
    "a power": lambda n: int(n**0.5), "a root": lambda n: int(math.sqrt(n)), "rounded": lambda n: round(n**0.5),
    "a whole root": lambda n: math.isqrt(n), "of a multiple": lambda n: int((4 * n) ** 0.5) // 2,
}  # fmt: skip


@pytest.mark.parametrize("name", ROOTS)
def test_square_images_of_any_size_are_taken(name: str, tmp_path: Path) -> None:
    model = Patches(ROOTS[name]).eval()
    program = swdc.trace(model, torch.randn(2, 3, 32, 32))
    holds_at(program, model, [(torch.randn(1, 3, *size),) for size in ((16, 16), (40, 40))], tmp_path)
    with pytest.raises(InputError, match="expected x of shape"):
        program(torch.randn(1, 3, 64, 16))


def test_the_root_of_no_square_is_a_plain_number() -> None:
    model = Rows(lambda x: x * int(x.shape[2] ** 0.5)).eval()
    program = swdc.trace(model, torch.randn(2, 2, 10))
    for length in (8, 9, 10, 12, 16, 25):
        x = torch.randn(2, 2, length)
        try:
            found = program(x)
        except InputError:
            continue
        assert_same(found, model(x), 1e-6)
