"""The closed formula of what a plan costs, against the programs that are really cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.ir.program import Program
from swdc.sparsity.planning.budgets import BUDGETS, Budget
from tests.support import Function, conv, image, random_plan, traced


class Mixed(nn.Module):
    """Convolutions, batch norms, a residual sum, grouped and depthwise filters, a concat, flatten, dense layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU())
        self.branch = nn.Sequential(conv(8, 6, stride=1), nn.ReLU(), conv(6, 8, 1), nn.BatchNorm2d(8))
        self.grouped = conv(8, 16, groups=2)
        self.depthwise = conv(8, 8, groups=8, stride=2)
        self.aside = conv(8, 5, stride=2)
        self.head = nn.Sequential(nn.Linear((16 + 8 + 5) * 4, 7), nn.ReLU(), nn.Linear(7, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(self.branch(x) + x)
        pooled = nn.functional.max_pool2d(self.grouped(x), 2)
        x = torch.cat([pooled, self.depthwise(x), self.aside(x)], 1).relu()
        result: torch.Tensor = self.head(nn.functional.avg_pool2d(x, 2).flatten(1))
        return result


def gated_positions(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Apply a dense layer at positions that are channels themselves."""
    inner = torch.relu(m.inner(m.stem(x).flatten(2)))
    result: torch.Tensor = m.head((inner * torch.relu(m.gate(x.mean((2, 3))))[:, :, None]).sum(2))
    return result


def models() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    tied = nn.Sequential(*(nn.Linear(8, 8) if i % 2 else nn.ReLU() for i in range(5)))
    tied[3].weight = tied[1].weight
    gated = Function(
        gated_positions,
        stem=conv(3, 8, bias=False), inner=nn.Linear(64, 5, bias=False), gate=nn.Linear(3, 8), head=nn.Linear(8, 4),
    )  # fmt: skip
    beside = Function(lambda m, x: (m.body(x), m.scale), body=nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 3)),
                      scale=nn.Parameter(torch.ones(4)))  # fmt: skip
    return {
        "mixed": (Mixed(), image()),
        "positions": (nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), image(2, 7, 5)),
        "channels as positions": (gated, image()),
        "tied": (nn.Sequential(nn.Linear(5, 8), tied, nn.Linear(8, 3)), image(2, 5)),
        "a parameter handed out": (beside, image(2, 5)),
        "new biases": (
            nn.Sequential(
                nn.Linear(5, 8), nn.Sigmoid(), nn.Linear(8, 6, bias=False), nn.Sigmoid(), nn.Linear(6, 4, bias=False)
            ),
            image(2, 5),
        ),
        "inserted norms": (nn.Sequential(conv(3, 8), conv(8, 4)), image()),
    }


@pytest.mark.parametrize("name", models())
def test_the_formula_is_the_count_of_the_slim_program(name: str) -> None:
    program = traced(*models()[name])
    if name == "inserted norms":
        program = swdc.insert_batchnorm(program)
    budgets = {kind: Budget(program, kind) for kind in BUDGETS}
    assert program.groups
    for seed in range(12 if name == "mixed" else 5):
        plan = random_plan(program, seed, least=0.05, most=1.0)
        widths = np.array([len(plan.kept[group.name]) for group in program.groups])
        counted = swdc.count(swdc.slim(program, plan))
        assert budgets["parameters"].cost(widths) == counted.parameters
        assert budgets["operations"].cost(widths) == counted.operations
        assert budgets["macs"].cost(widths) == counted.macs
        assert budgets["channels"].cost(widths) == widths.sum()


def test_all_channels_cost_what_the_program_costs() -> None:
    program = traced(Mixed())
    counted = swdc.count(program)
    assert Budget(program, "parameters").full == counted.parameters
    assert counted.parameters == sum(p.numel() for p in program.parameters())
    assert Budget(program, "operations").full == counted.operations
    assert Budget(program, "macs").full == counted.macs
    assert Budget(program, "channels").full == sum(group.width for group in program.groups)


def test_by_hand() -> None:
    program = traced(nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 64, 3)))
    for width in (1, 5, 8):
        widths = np.array([width])
        costs = {kind: Budget(program, kind).cost(widths) for kind in BUDGETS}
        assert costs["parameters"] == 27 * width + width + 2 * width + 3 * 64 * width + 3
        assert costs["macs"] == 64 * 27 * width + 3 * 64 * width
        assert costs["operations"] == 64 * 27 * width + 2 * 64 * width + 3 * 64 * width + 3
        assert costs["channels"] == width


def test_unused_parameters_cost_nothing() -> None:
    model = nn.Sequential(conv(3, 8), conv(8, 2))
    cost = Budget(traced(model), "parameters").full
    model.add_module("unused", nn.Identity())
    model[0].register_parameter("never", nn.Parameter(torch.zeros(1000)))
    assert Budget(traced(model), "parameters").full == cost


def test_an_unknown_kind_is_refused() -> None:
    program: Program = traced(nn.Sequential(conv(3, 8), conv(8, 2)))
    with pytest.raises(PlanError, match=r"expected a budget of .*'parameters'.*, got 'seconds'"):
        Budget(program, "seconds")


def weighed(program: Program, dimensions: Any) -> list[tuple[float, list[int]]]:
    """Return half a unit for each parameter."""
    parameters = program.read_parameters().items()
    return [(0.5, [dimensions.slot(swdc.Ref(name), d) for d in range(t.dim())]) for name, t in parameters]


def test_a_function_is_a_budget_for_plans_and_for_swd() -> None:
    program = swdc.trace(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)), torch.randn(2, 6))
    plan, same = swdc.plan(program, 0.4, weighed), swdc.plan(program, 0.4, "parameters")
    assert plan.kept == same.kept
    assert plan.settings["budget"] == "weighed"
    assert Budget(program, weighed).full == sum(p.numel() for p in program.parameters()) / 2
    swd = swdc.SWD(program, 0.4, a_min=1.0, a_max=2.0, steps=3, budget=weighed)
    assert swd.plan().settings["budget"] == "weighed"
    assert "weighed" in swd.state_dict()["budget"]


@pytest.mark.parametrize(
    ("terms", "message"),
    [(lambda program, dimensions: 3, "TypeError"), (lambda program, dimensions: [(1, [99])], "not one that slot"),
     (lambda program, dimensions: [(-1.0, [0])], "negative"), (lambda program: [], "TypeError")],
)  # fmt: skip
def test_a_function_that_returns_no_terms_is_refused(terms: Any, message: str) -> None:
    program = swdc.trace(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)), torch.randn(2, 6))
    with pytest.raises(PlanError, match=f"expected a budget that returns terms .*{message}"):
        swdc.plan(program, 0.4, terms)
