"""Whole residual branches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.analysis.branches import branches_of
from swdc.errors import PlanError
from swdc.ir.program import Program
from tests.support import Function, assert_same, conv, image, traced

TOKENS = image(2, 5, 8)


class Block(nn.Module):
    """Attention and a feed-forward layer, each with a norm before it, dropout and a scale after it."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.up, self.down = nn.Linear(width, 12), nn.Linear(12, width)
        self.scale, self.drop = nn.Parameter(torch.rand(width)), nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.drop(self.scale * self.down(torch.relu(self.up(self.norm2(x)))))


def transformer() -> Program:
    torch.manual_seed(0)
    return traced(nn.Sequential(Block(), Block(), nn.Linear(8, 3)), TOKENS)


def residual(m: Any, x: torch.Tensor) -> torch.Tensor:
    x = torch.relu(m.stem(x))
    x = torch.relu(m.bn1(m.conv1(x)) + x)
    return m.head(torch.relu(m.bn2(m.conv2(x)) + m.short(x)))  # type: ignore[no-any-return]


def images() -> Program:
    torch.manual_seed(0)
    parts = {"stem": conv(3, 4), "conv1": conv(4, 4), "bn1": nn.BatchNorm2d(4), "conv2": conv(4, 6)}
    parts |= {"bn2": nn.BatchNorm2d(6), "short": conv(4, 6, 1), "head": conv(6, 2)}
    return traced(Function(residual, **parts), image(2, 3, 8, 8))


def given(order: dict[str, float]) -> Any:
    return lambda program, names, statistics: [order[name] for name in names]


def scored(program: Program) -> dict[str, float]:
    return {name: float(number) for number, name in enumerate(branches_of(program))}


def test_branches_are_found_by_what_they_read() -> None:
    found = branches_of(transformer())
    assert list(found) == ["0.attention.out_proj", "0.down", "1.attention.out_proj", "1.down"]
    assert found["0.down"].tensors == ("0.down.weight", "0.down.bias")
    assert list(branches_of(images())) == ["bn1"], "a sum with a shortcut that is projected is no stream"


def test_what_is_no_branch() -> None:
    cases = {
        "a sum of two layers": lambda m, x: m.one(x) + m.two(x),
        "a constant after the layer": lambda m, x: x + torch.sigmoid(m.one(x)),
        "a layer with another reader": lambda m, x: (lambda y: x + y + y.sum())(m.one(x)),
        "a layer that is called twice": lambda m, x: x + m.one(m.one(x)),
        "a product with what is not zero then": lambda m, x: x + torch.cos(m.one(x)) * x,
    }
    for what, forward in cases.items():
        program = traced(Function(forward, one=nn.Linear(8, 8), two=nn.Linear(8, 8)), TOKENS)
        assert not branches_of(program), what


def normed(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.two(torch.relu(m.one(x)))
    return m.head(x + m.gain * y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-5))  # type: ignore[no-any-return]


def parallel(m: Any, x: torch.Tensor) -> torch.Tensor:
    return m.head(x + (m.one(x) + torch.relu(m.two(x))))  # type: ignore[no-any-return]


def small(forward: Any) -> Program:
    torch.manual_seed(0)
    parts = {"one": nn.Linear(8, 8), "two": nn.Linear(8, 8), "head": nn.Linear(8, 3)}
    return traced(Function(forward, **parts, gain=nn.Parameter(torch.rand(8))), TOKENS)


def test_branches_end_in_norms_that_are_written_out_or_have_two_writers() -> None:
    assert branches_of(small(normed))["two"].tensors == ("two.weight", "two.bias")
    assert branches_of(small(parallel))["one"].tensors == ("one.weight", "one.bias", "two.weight", "two.bias")


def gated(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Adds experts, a parameter of which is picked by the input, and a layer with a gate."""
    rows = m.norm(x).flatten(0, 1)
    experts = m.experts[rows.sum(-1).gt(0).long()]
    y = torch.bmm(rows[:, None], experts)[:, 0] + torch.sigmoid(m.one(rows)) * m.two(rows)
    return m.head(x + y.view(x.shape))  # type: ignore[no-any-return]


def mixture() -> Program:
    torch.manual_seed(0)
    parts = {"norm": nn.LayerNorm(8), "one": nn.Linear(8, 1), "two": nn.Linear(8, 8), "head": nn.Linear(8, 3)}
    return traced(Function(gated, **parts, experts=nn.Parameter(torch.randn(2, 8, 8))), TOKENS)


class Flattening(nn.Module):
    """Its second branch adds to a flattened stream."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.one(x)
        rows = x.flatten(0, 1)
        return (rows + self.two(rows)).view(x.shape)


def test_the_influence_of_a_layer_that_flattens_its_stream() -> None:
    program = traced(nn.Sequential(Flattening(), Flattening(), nn.Linear(8, 4), nn.Linear(4, 3)), TOKENS)
    after = program.get_submodule("0.one")(TOKENS) + TOKENS
    after = after + program.get_submodule("0.two")(after)
    wanted = 1 - torch.cosine_similarity(TOKENS, after, dim=-1).mean()
    assert swdc.calibrate(program, [TOKENS]).influence["0"] == pytest.approx(wanted.item(), rel=1e-9)


@pytest.mark.parametrize("make", [transformer, images, lambda: small(normed), lambda: small(parallel), mixture])
def test_a_removed_branch_is_zero_in_the_masked_program_and_gone_from_the_slim_one(make: Any, tmp_path: Path) -> None:
    program = make()
    plan = swdc.plan(program, 0.4, "blocks", given(scored(program)), structure="blocks")
    assert plan.branches
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    certificate = swdc.verify(masked, slim, batches=(1, 3))
    assert certificate.exact, certificate
    assert swdc.count(slim).parameters < swdc.count(program).parameters
    gone = program.tensors.keys() - slim.tensors.keys()
    assert {tensor for name in plan.branches for tensor in branches_of(program)[name].tensors} <= gone
    assert not any(name.startswith(("head", "2.")) for name in gone)
    swdc.save(slim, tmp_path / "slim", certificate)
    again = swdc.load(tmp_path / "slim")
    x = program.facts.example[0][0]
    assert torch.equal(again(x), slim(x))
    assert again.facts.origin.plan.branches == plan.branches


def test_the_first_branch_of_a_transformer_by_hand() -> None:
    program = transformer()
    plan = swdc.plan(program, 0.25, "blocks", given({**scored(program), "0.down": -1.0}), structure="blocks")
    assert plan.branches == ("0.down",)
    slim = swdc.slim(program, plan)
    model = nn.Sequential(Block(), Block(), nn.Linear(8, 3)).double().eval()
    model.load_state_dict(program.state_dict())
    with torch.no_grad():
        model[0].scale.zero_()
    assert_same(model(TOKENS), slim(TOKENS))
    assert {name for name in program.tensors if name not in slim.tensors} == {
        f"0.{name}"
        for name in ("norm2.weight", "norm2.bias", "up.weight", "up.bias", "down.weight", "down.bias", "scale")
    }


def test_width_can_be_cut_after_depth() -> None:
    program = transformer()
    depth = swdc.plan(program, 0.25, "parameters", given(scored(program)), structure="blocks")
    less = swdc.slim(program, depth)
    width = swdc.plan(less, 0.4)
    masked, slim = swdc.mask(less, width), swdc.slim(less, width)
    assert swdc.verify(masked, slim).exact
    assert swdc.count(less).parameters <= 0.75 * swdc.count(program).parameters


def test_influence_by_hand_and_the_least_goes_first() -> None:
    program = transformer()
    with torch.no_grad():
        program.get_parameter("1.scale").mul_(1e-3)
    batches = [image(2, 5, 8, seed=seed) for seed in (1, 2)]
    statistics = swdc.calibrate(program, batches)
    model = nn.Sequential(Block(), Block(), nn.Linear(8, 3)).double().eval()
    model.load_state_dict(program.state_dict())
    cosines = []
    for x in batches:
        y = model[0].norm1(x)
        after = x + model[0].attention(y, y, y, need_weights=False)[0]
        cosines.append((1 - torch.cosine_similarity(x, after, dim=2)).mean())
    assert statistics.influence["0.attention.out_proj"] == pytest.approx(float(np.mean([c.item() for c in cosines])))
    plan = swdc.plan(program, 0.25, "blocks", "influence", structure="blocks", statistics=statistics)
    assert plan.branches == ("1.down",)


@pytest.mark.parametrize("budget", ["parameters", "operations", "macs"])
def test_budgets_are_met_with_as_few_branches_as_possible(budget: str) -> None:
    program = transformer()

    def cost(one: Program) -> int:
        found = swdc.count(one, "macs" if budget == "macs" else "paper")
        return found.parameters if budget == "parameters" else found.operations

    plan = swdc.plan(program, 0.3, budget, given(scored(program)), structure="blocks")
    assert cost(swdc.slim(program, plan)) <= 0.7 * cost(program)
    fewer = swdc.Plan(plan.kept, plan.widths, plan.program_hash, {**plan.settings, "branches": plan.branches[:-1]})
    assert cost(swdc.slim(program, fewer)) > 0.7 * cost(program)


def test_what_plans_of_blocks_refuse() -> None:
    program = transformer()
    asked = {"structure": "blocks", "criterion": given(scored(program)), "budget": "blocks"}
    for change, message in (
        ({"structure": "rows"}, r"expected a structure of \['channels', 'heads', 'blocks', 'layers'\]"),
        ({"budget": "channels"}, r"expected a budget of \['blocks', 'parameters', 'bytes', 'operations', 'macs'\]"),
        ({"criterion": "influence"}, "expected statistics for criterion='influence'"),
        ({"criterion": "l2"}, r"expected a criterion of \['influence'\] for blocks and layers"),
        ({"criterion": lambda *_: [1.0]}, "expected 4 finite scores of branches"),
        ({"ignore": "no"}, "'no' matches none"),
        ({"ignore": "*"}, "expected residual blocks that can be removed, got none"),
        ({"budget": "parameters", "sparsity": 0.99}, "expected a budget that can be met"),
        ({"sparsity": {"*": 0.5}}, "expected one number as the sparsity"),
    ):
        with pytest.raises(PlanError, match=message):
            swdc.plan(program, **{"sparsity": 0.25, **asked, **change})
    plan = swdc.plan(program, 0.25, **asked, ignore="0.*")
    assert all(name.startswith("1.") for name in plan.branches)
    wrong = swdc.Plan(plan.kept, plan.widths, plan.program_hash, {"branches": ["none"]})
    with pytest.raises(PlanError, match="expected residual branches of this program, got 'none'"):
        swdc.mask(program, wrong)


def test_whole_layers_go_with_all_that_they_hold() -> None:
    program = transformer()
    batches = [image(2, 5, 8, seed=seed) for seed in (1, 2)]
    statistics = swdc.calibrate(program, batches)
    model = nn.Sequential(Block(), Block(), nn.Linear(8, 3)).double().eval()
    model.load_state_dict(program.state_dict())
    streams = [(x, model[0](x), model[1](model[0](x))) for x in batches]
    for number in (0, 1):
        cosines = [torch.cosine_similarity(s[number], s[number + 1], dim=2).mean().item() for s in streams]
        assert statistics.influence[str(number)] == pytest.approx(1 - float(np.mean(cosines)))
    plan = swdc.plan(program, 0.5, "layers", "influence", structure="layers", statistics=statistics)
    least = min(("0", "1"), key=lambda name: statistics.influence[name])
    assert plan.branches == (f"{least}.attention.out_proj", f"{least}.down")
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    assert swdc.verify(masked, slim).exact
    assert not any(name.startswith(f"{least}.") for name in slim.tensors)
    assert_same(nn.Sequential(*(m for n, m in enumerate(model) if str(n) != least))(TOKENS), slim(TOKENS))
    with pytest.raises(PlanError, match="expected residual layers that can be removed, got none"):
        swdc.plan(images(), 0.5, "layers", given({}), structure="layers")


def test_an_optimizer_goes_on_without_the_branch() -> None:
    program = transformer()
    optimizer = torch.optim.Adam(program.named_parameters(), lr=0.1)
    program(TOKENS).square().sum().backward()
    optimizer.step()
    plan = swdc.plan(program, 0.25, "blocks", given(scored(program)), structure="blocks")
    slim = swdc.slim(program, plan)
    carried = swdc.slim_optimizer(optimizer, program, slim)
    held = {id(p) for group in carried.param_groups for p in group["params"]}
    assert held == {id(p) for p in slim.parameters()}
    assert len(carried.param_groups[0]["param_names"]) == len(held) == len(carried.state)


@pytest.mark.parametrize("structure", ["blocks", "layers"])
def test_those_without_which_a_metric_falls_least_go_first(structure: str) -> None:
    program = transformer()
    dense = program(TOKENS)
    seen: list[Program] = []

    def metric(candidate: Program) -> torch.Tensor:
        assert not candidate.training
        seen.append(candidate)
        return -(candidate(TOKENS) - dense).square().mean()

    criterion = swdc.fall_of_metric(metric, progress=False)
    plan = swdc.plan(program, 0.5, structure, criterion, structure=structure)
    assert plan.settings["criterion"] == "fall_of_metric"
    assert len(seen) == 1 + {"blocks": 4, "layers": 2}[structure]
    units = {"0": ("0.attention.out_proj", "0.down"), "1": ("1.attention.out_proj", "1.down")}
    if structure == "blocks":
        units = {name: (name,) for names in units.values() for name in names}
    falls = {}
    for name, branches in units.items():  # by hand: what writes the branch is zero
        copy = program.clone()
        with torch.no_grad():
            for tensor in (t for branch in branches for n, t in copy.tensors.items() if n.startswith(f"{branch}.")):
                tensor.zero_()
        falls[name] = (copy(TOKENS) - dense).square().mean().item()
    least = sorted(falls, key=lambda name: falls[name])[: len(units) // 2]
    assert {*plan.branches} == {branch for name in least for branch in units[name]}
    assert_same(dense, program(TOKENS))


@pytest.mark.parametrize("metric", [lambda program: "good", lambda program: float("nan"), lambda program: 1 / 0])
def test_a_metric_that_is_no_number_is_told(metric: Any) -> None:
    criterion = swdc.fall_of_metric(metric, progress=False)
    with pytest.raises(PlanError, match="metric"):
        swdc.plan(transformer(), 0.5, "blocks", criterion, structure="blocks")
