"""Models that write over views of a value: the program has no side effects, and channels go through the writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.ops.in_place import overwrites
from tests.support import Function, assert_equal, assert_same, certified, image, randomise, reason_at, traced


def slices_of_new_memory(m: Any, y: torch.Tensor) -> torch.Tensor:
    out = torch.zeros(y.shape[0], y.shape[1], y.shape[2] + 2, dtype=y.dtype)
    out[:, :, :-2] = y
    return out


def every_other(m: Any, y: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(y)
    out[..., 0::2] = y[..., 1::2]
    out[..., 1::2] = -y[..., 0::2]
    return out


def frequencies(m: Any, y: torch.Tensor) -> torch.Tensor:
    found = torch.fft.rfft(y)
    out = torch.zeros(found.shape, dtype=found.dtype)
    out[:, :, :3] = found[:, :, :3] * 2
    return torch.fft.irfft(out, n=y.shape[-1])


def one_frequency(m: Any, y: torch.Tensor) -> torch.Tensor:
    found = torch.fft.rfft(y)
    found[..., 0] = found[..., 1] * 2
    found[..., -1].mul_(3)
    return torch.fft.irfft(found, n=y.shape[-1])


def one_position(m: Any, y: torch.Tensor) -> torch.Tensor:
    out = y.clone()
    out[:, :, 0] *= 2
    return out


def running(m: Any, y: torch.Tensor) -> torch.Tensor:
    h = y.transpose(1, 2) * 1
    for t in range(1, 8):
        h[:, t].add_(h[:, t - 1] * 0.5)
    return h.transpose(1, 2)


def halves(m: Any, y: torch.Tensor) -> torch.Tensor:
    one, other = y.chunk(2, 1)
    one.mul_(2)
    other.sub_(one)
    return torch.cat([other, one, y], 1)[:, :16] + y


def indices(m: Any, y: torch.Tensor) -> torch.Tensor:
    for number, one in enumerate(y.unbind(2)):
        one.mul_(number + 1)
    return y


def views_of_views(m: Any, y: torch.Tensor) -> torch.Tensor:
    maps = y.view(y.shape[0], 16, 2, 4).permute(2, 3, 0, 1)
    maps[0].mul_(3)
    maps[1].transpose(0, 1).unsqueeze(0)[0, :, 2] += maps[0, 1]
    return y


def ranges_of_channels(m: Any, y: torch.Tensor) -> torch.Tensor:
    y[:, 3:7] = 0.5 * y[:, 8:12]
    return y


def emptied(m: Any, y: torch.Tensor) -> torch.Tensor:
    y[:, :, 2:5].zero_()
    return y


UNTRAINABLE = pytest.mark.filterwarnings("ignore:the model computes something else with gradients switched on")
"""Torch has no gradients of writes over one of several views."""

FORWARDS = (
    slices_of_new_memory, every_other, frequencies, one_frequency, one_position, running, halves, indices,
    views_of_views, ranges_of_channels, emptied,
)  # fmt: skip


def model(inside: Callable[..., torch.Tensor]) -> nn.Module:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = m.b(inside(m, m.a(x).relu() * 1))
        return found

    torch.manual_seed(0)
    return randomise(Function(forward, a=nn.Conv1d(3, 16, 1), b=nn.Conv1d(16, 4, 1))).eval()


@UNTRAINABLE
@pytest.mark.parametrize("inside", FORWARDS)
def test_the_program_has_no_side_effects_and_channels_go(inside: Any) -> None:
    user = model(inside)
    program = swdc.trace(user, image(2, 3, 8))
    assert not any(map(overwrites, program.graph.nodes))
    with torch.no_grad():
        assert_equal(program(image(3, 3, 8)), user(image(3, 3, 8)))
    assert program.explanation.share > 0.75, program.explain()
    for seed in range(3):
        certified(program, seed=seed)


@pytest.mark.parametrize("inside", [f for f in FORWARDS if f not in (halves, indices)])
def test_gradients_are_those_of_the_model(inside: Any) -> None:
    user = model(inside)
    gradients = []
    for one in (user, swdc.trace(user, image(2, 3, 8))):
        one.zero_grad()
        one(image(2, 3, 8)).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in one.named_parameters() if p.grad is not None})
    assert_same(*gradients)


@UNTRAINABLE
@pytest.mark.parametrize("inside", [slices_of_new_memory, running, halves, views_of_views])
def test_export_gives_the_same(inside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swdc.capture.trace, "WAYS", [w for w in swdc.capture.trace.WAYS if w.name == "export"])
    user = model(inside)
    program = swdc.trace(user, image(2, 3, 8))
    assert program.facts.captured_by == "export"
    assert program.explanation.share > 0.75, program.explain()
    with torch.no_grad():
        assert_equal(program(image(3, 3, 8)), user(image(3, 3, 8)))
    certified(program)


def test_a_slim_program_goes_through_a_folder_and_onnx(tmp_path: Any) -> None:
    program = swdc.trace(model(running).float(), image(2, 3, 8).float())
    slim = swdc.slim(program, swdc.plan(program, sparsity=0.5, scope="group"))
    swdc.save(slim, tmp_path / "slim")
    assert_equal(swdc.load(tmp_path / "slim")(image(3, 3, 8).float()), slim(image(3, 3, 8).float()))
    swdc.export_onnx(slim, tmp_path / "slim.onnx")


def test_an_input_that_is_written_in_part() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        x[:, 0] *= 2
        return m.b(m.a(x).relu())

    with pytest.warns(UserWarning, match="changes its inputs"):
        program = traced(Function(forward, a=nn.Conv1d(3, 16, 1), b=nn.Conv1d(16, 4, 1)), image(2, 3, 8))
    certified(program)


def test_a_constant_in_some_positions_is_not_zero() -> None:
    def forward(m: Any, y: torch.Tensor) -> torch.Tensor:
        y[:, :, 5:6].fill_(2.0)
        return y

    assert "its dead value is not a constant" in reason_at(swdc.trace(model(forward), image(2, 3, 8)), "a.weight", 0)


def test_memory_that_may_be_shared_or_not_stays_as_it_is() -> None:
    def forward(m: Any, y: torch.Tensor) -> torch.Tensor:
        shared, copied = y.reshape(-1, 4, 4, 8), y.transpose(1, 2).reshape(y.shape[0], 8, 16)
        shared[:, 0].mul_(2)
        return y + copied.transpose(1, 2)

    user = model(forward)
    program = swdc.trace(user, image(2, 3, 8))
    with torch.no_grad():
        assert_equal(program(image(3, 3, 8)), user(image(3, 3, 8)))
