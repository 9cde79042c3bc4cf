"""``a="auto"`` in few passes over weights and gradients: the numbers of plain formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.ir.distributed import Together
from swdc.sparsity.penalties.automatic import course
from swdc.sparsity.penalties.fading import fade_
from swdc.sparsity.penalties.shares import Left, Shares
from swdc.sparsity.selection.cache_blocks import PIECE
from swdc.sparsity.targets import Target


def share_of(model: nn.Module, targets: list[Target]) -> float:
    """Return the share of the targets in the norm of all parameters."""
    aimed = sum(float(t.parameter.detach()[t.chosen].double().square().sum()) for t in targets)
    return math.sqrt(aimed / sum(float(p.detach().double().square().sum()) for p in model.parameters()))


def test_one_pass_over_the_weights_keeps_to_the_course(monkeypatch: pytest.MonkeyPatch) -> None:
    passes: list[int] = []
    left = Shares.left

    def counted(self: Shares, *arguments: Any) -> Left:
        passes.append(len(passes))
        return left(self, *arguments)

    monkeypatch.setattr(Shares, "left", counted)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 200, bias=False), nn.Linear(200, 7, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    method = swdc.SWD(model, 0.8, "weights", a="auto", steps=2000, optimizer=optimizer)
    first, again = 1.0, 0
    for step in range(40):
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        targets = method.targeted()
        method.step()
        passes.clear()
        optimizer.step()
        share = share_of(model, targets)
        first = share if step == 0 else first
        assert share == pytest.approx(first * course(step, 2000), rel=3e-6)
        again += step >= 8 and len(passes) > 1
    assert again < 16


@pytest.mark.parametrize("factor", [1.0, 0.25, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gradients_fade_by_blocks(dtype: torch.dtype, factor: float) -> None:
    """A target in several blocks, of which one holds infinity, and small ones; some exceed the limit, one is steady."""
    sizes = (2 * PIECE + 5, 7, 9, 4)
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(size, dtype=dtype)) for size in sizes]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(dtype)
    masks = [torch.rand(size, generator=generator) < 0.9 for size in sizes[:3]]
    for number, value in ((3, 50.0), (PIECE + 2, math.inf), (2 * PIECE + 1, -60.0)):
        masks[0][number] = True
        parameters[0].grad[number] = value
    targets = [Target(p, str(n), mask) for n, (p, mask) in enumerate(zip(parameters, masks, strict=False))]
    before = [p.grad.double().clone() for p in parameters]
    kept = [g[~m] for g, m in zip(before, masks, strict=False)] + [before[3]]
    most = float(torch.cat(kept).abs().max())
    fade_(parameters, targets, {id(parameters[2])}, factor, Together(parameters))
    for gradient, mask, parameter in zip(before[:2], masks, parameters, strict=False):
        wanted = torch.where(mask, gradient.clamp(-most, most) * factor, gradient).to(dtype)
        torch.testing.assert_close(parameter.grad, wanted, rtol=torch.finfo(dtype).eps, atol=0)
    for gradient, parameter in zip(before[2:], parameters[2:], strict=True):
        assert torch.equal(parameter.grad.double(), gradient)
