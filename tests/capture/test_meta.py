"""Models on the meta device: traced, planned and counted like any other; not masked or verified."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError, VerificationError
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from tests.support import image, plan_of, traced


class Network(nn.Module):
    """A residual network with a mean over positions and a cast to a device."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.body = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scale = torch.arange(1, 2, device=x.device).to(x.device, x.dtype)
        x = torch.relu(self.norm(self.stem(x)))
        return self.head(self.drop((x + self.body(x)).mean((2, 3)) * scale))


def on_meta(example: torch.Tensor | None = None) -> Program:
    with torch.device("meta"):
        model = Network()
    return swdc.trace(model, image().float() if example is None else example)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_program_on_the_meta_device_is_that_of_the_model(device: str) -> None:
    program, real = on_meta(torch.empty(1, 3, 8, 8, device=device)), traced(Network())
    assert [n.name for n in program.graph.nodes] == [n.name for n in real.graph.nodes]
    assert [g.width for g in program.groups] == [g.width for g in real.groups] == [8]
    assert swdc.count(program) == swdc.count(real)
    assert all(t.is_meta for t in program.tensors.values())


def test_a_plan_gives_the_counts_of_the_slim_network() -> None:
    program, real = on_meta(), traced(Network())
    slims = [swdc.slim(p, plan_of(p, {p.groups[0].name: (0, 3, 5)})) for p in (program, real)]
    assert swdc.count(slims[0]) == swdc.count(slims[1])


def test_masking_and_verifying_need_values() -> None:
    program, real = on_meta(), traced(Network())
    with pytest.raises(PlanError, match="with values to mask, got one on the meta device"):
        swdc.mask(program, plan_of(program, {}))
    plan = plan_of(real, {real.groups[0].name: (0, 3)})
    masked, slim = swdc.mask(real, plan), swdc.slim(real, plan)
    with pytest.raises(VerificationError, match="with values, got one on the meta device"):
        swdc.verify(masked, slim.to("meta"))


def test_sizes_that_depend_on_values_are_not_measured() -> None:
    class Filters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
            return self.a(x)[e[:, e[0] != e[1]]]

    with torch.device("meta"):
        model = Filters()
    program = swdc.trace(model, (torch.rand(5, 6), torch.tensor([[0, 1, 2], [2, 3, 4]])))
    assert program.groups == ()
    assert swdc.count(program).parameters == 28


def test_samples_of_a_program_on_the_meta_device_are_there_too() -> None:
    ((x,), _) = sample_inputs(on_meta(torch.empty(1, 3, 8, 8, device="meta")), 3, 0, torch.float64)
    assert x.is_meta
    assert x.shape == (3, 3, 8, 8)
    assert x.dtype == torch.float64
