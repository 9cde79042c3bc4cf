"""Sizes that have to be divisible, or are counted in code: the program stands for all of them, and refuses others."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import swdc
from swdc.artifacts.onnx.runtime import run_onnx
from swdc.capture.claims import Claim
from swdc.capture.size_algebra import floor_div
from swdc.capture.size_sums import ONE, Sum, number, symbol
from swdc.errors import InputError
from swdc.ops.resampling import AffineGrid
from tests.support import Function, assert_equal, assert_same, conv, image, randomise


def _up(m: Any, x: torch.Tensor) -> torch.Tensor:
    """A stride rounds up, and what is doubled again has to fit."""
    return torch.cat([F.interpolate(m.c(x).relu(), scale_factor=2), x], 1)


def _twice(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.c(x).relu()
    return y + F.interpolate(m.d(y), scale_factor=2)


def _unshuffled(m: Any, x: torch.Tensor) -> torch.Tensor:
    return m.e(F.pixel_unshuffle(x, 2)).relu()


def _windows(m: Any, x: torch.Tensor) -> torch.Tensor:
    b, c, h, w = x.shape
    y = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
    y = y - y.mean(1, keepdim=True)
    return y.view(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


def _coordinates(m: Any, x: torch.Tensor) -> torch.Tensor:
    h, w = x.shape[-2:]
    rows, columns = torch.meshgrid(
        torch.linspace(-1, 1, h, dtype=x.dtype), torch.linspace(0, w - 1, steps=w, dtype=x.dtype), indexing="ij"
    )
    grid = torch.stack([columns / w, rows], -1).expand(x.shape[0], -1, -1, -1)
    return F.grid_sample(m.f(x).relu(), grid, align_corners=True)


def _transformed(m: Any, x: torch.Tensor) -> torch.Tensor:
    """torch computes an affine grid by coordinates of its own."""
    angles = m.g(m.f(x).relu().mean((2, 3))).view(-1, 2, 3)
    return F.grid_sample(x, F.affine_grid(angles, list(x.shape), align_corners=False), align_corners=False)


CODES: dict[str, tuple[Callable[..., torch.Tensor], int]] = {
    "doubled": (_up, 2), "doubled twice": (_twice, 4), "unshuffled": (_unshuffled, 2), "windows": (_windows, 4),
    "coordinates": (_coordinates, 1), "transformed": (_transformed, 1),
}  # fmt: skip


def _model(code: Callable[..., torch.Tensor]) -> nn.Module:
    parts = {"c": conv(3, 6, 3, stride=2, padding=1), "d": conv(6, 6, 3, stride=2, padding=1)}
    own = {"e": conv(12, 6), "f": conv(3, 6), "g": nn.Linear(6, 6), "last": conv(6, 2)}
    return randomise(Function(code, **parts, **own)).eval()


@pytest.mark.parametrize("name", CODES)
def test_a_program_equals_its_model_at_divisible_sizes_and_refuses_others(name: str) -> None:
    code, by = CODES[name]
    model = _model(code)
    program = swdc.trace(model, image(2, 3, 8, 16))
    assert program.facts.captured_by == "follow"
    assert {"height", "width"} <= program.facts.symbols.keys()
    for height, width in ((4, 4), (12, 8), (20, 28)):
        x = image(3, 3, height, width)
        assert_equal(program(x), model(x))
    for height, width in ((8, 9), (10 if by == 4 else 7, 8)) if by > 1 else ():
        with pytest.raises(InputError, match=f"% {by} == 0"):
            program(image(2, 3, height, width))


@pytest.mark.parametrize(
    "code", [_coordinates, lambda m, x: m.f(_transformed(m, x)).relu()], ids=["linspace", "affine"]
)
def test_coordinates_of_any_size_in_files(code: Callable[..., torch.Tensor], tmp_path: Path) -> None:
    model = _model(lambda m, x: m.last(code(m, x)))
    program = swdc.trace(model.float(), image(2, 3, 6, 8).float())
    slim = swdc.slim(program, swdc.plan(program, 0.5, scope="group"))
    swdc.export_onnx(slim, tmp_path / "x.onnx")
    swdc.export(slim, tmp_path / "x.pt2")
    exported = torch.export.load(tmp_path / "x.pt2").module()
    for size in ((5, 9), (12, 4), (1, 1), (2, 1)):
        x = image(3, 3, *size).float()
        (in_onnx,) = run_onnx(tmp_path / "x.onnx", ((x,), {}))
        assert_same(slim(x), torch.from_numpy(in_onnx), 1e-5)
        assert_same(slim(x), exported(x), 1e-5)


@pytest.mark.parametrize("size", [(2, 3, 5, 7), (2, 3, 1, 4), (1, 1, 3, 4, 5)])
@pytest.mark.parametrize("corners", [True, False])
@pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid")
def test_the_grid_of_everyday_operators_is_that_of_torch(size: tuple[int, ...], corners: bool) -> None:
    function = AffineGrid().plainly(None)
    assert function is not None
    theta = torch.randn(size[0], len(size) - 2, len(size) - 1, dtype=torch.float64)
    assert_same(F.affine_grid(theta, list(size), align_corners=corners), function(theta, size, corners), 1e-14)


def test_quotients_rounded_up_and_down_are_one_size_where_they_are() -> None:
    """Beside strides that round up (padding "same") stand halves that are joined again."""
    n = symbol("n")

    def down(size: Sum, by: int) -> Sum:
        return floor_div(size, number(by))

    def up(size: Sum, by: int) -> Sum:
        return floor_div(size + number(by - 1), number(by))

    for equal in (
        down(n, 2) + up(n, 2) - n,
        down(up(n, 2) + up(n, 4), 2) - up(n, 2) + down(n + ONE, 4) - down(n + ONE, 8),
        down(n, 4) + down(n + number(2), 4) - down(n, 2),
    ):
        assert equal.constant is None
        assert Claim("==", equal).proven() is True
    for other in (down(n, 2) + up(n, 2) - n - ONE, up(n, 4) - down(n + ONE, 4)):
        assert Claim("==", other).proven() is not True


@pytest.mark.parametrize("size", [(24, 18), (33, 47), (25, 40)])
def test_strides_of_odd_sizes_meet_again(size: tuple[int, int]) -> None:
    """As in NASNet: one way pads to the next multiple, the other takes every second pixel of two shifted images."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        left = m.a(F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)))
        shifted = F.pad(x, (-1, 1, -1, 1))[:, :, ::2, ::2]
        return m.b(left + m.c(x[:, :, ::2, ::2]) + m.c(shifted))

    model = randomise(
        Function(forward, a=nn.Conv2d(3, 6, 2, stride=2), b=nn.Conv2d(6, 2, 1), c=nn.Conv2d(3, 6, 1))
    ).eval()
    program = swdc.trace(model, image(2, 3, 16, 20))
    x = image(1, 3, *size)
    assert_same(model(x), program(x))


@pytest.mark.parametrize("size", [(9, 14), (15, 16), (16, 13)])
def test_either_of_two_sizes_that_do_not_fit_is_resized(size: tuple[int, int]) -> None:
    """As in a block of MobileViT: the second question is asked only if the answer to the first is no."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.a(x)
        b, c, h, w = x.shape
        high, wide = math.ceil(h / 4) * 4, math.ceil(w / 4) * 4
        if high != h or wide != w:
            x = F.interpolate(x, size=(high, wide), mode="bilinear")
        x = m.b(x.reshape(b, c, high // 4, 4, wide // 4, 4).mean((3, 5)))
        return F.interpolate(x, size=(h, w))

    model = randomise(Function(forward, a=nn.Conv2d(3, 6, 1), b=nn.Conv2d(6, 2, 1))).eval()
    program = swdc.trace(model, image(2, 3, 12, 16))
    x = image(1, 3, *size)
    assert_same(model(x), program(x))
