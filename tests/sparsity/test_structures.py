"""Structures of SWD: what decides, what is pulled and what is removed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.analysis.heads import head_groups
from swdc.errors import PlanError
from swdc.ir.groups import WRITES
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.networks import resnet20
from swdc.sparsity.planning.criteria import gamma
from tests.support import Function, assert_same, certified, conv, image, randomise, traced


def swd(program: nn.Module, target: float, structure: str, **options: Any) -> swdc.SWD:
    return swdc.SWD(program, target, structure, a_min=1.0, a_max=10.0, steps=5, **options)


def chosen(method: swdc.SWD) -> dict[str, torch.Tensor]:
    """Return what is targeted as masks, by the name of the parameter."""
    return {target.name: target.chosen for target in method.targeted()}


def written_by(program: Program, plan: Plan) -> dict[str, torch.Tensor]:
    """Return masks of all weights that write a channel that a plan removes, straight from the groups."""
    masks: dict[str, torch.Tensor] = {}
    for group in program.groups:
        removed = sorted(set(range(group.width)) - set(plan.kept[group.name]))
        for member in group.with_role(WRITES) if removed else ():
            empty = torch.zeros_like(program.tensors[member.tensor], dtype=torch.bool)
            mask = masks.setdefault(member.tensor, empty)
            mask.index_fill_(member.dim, torch.from_numpy(member.indices[removed].ravel()), True)
    return masks


def assert_masks(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, mask in found.items():
        assert torch.equal(mask, expected[name]), name


def assert_removal_is_the_mask(program: Program, method: swdc.SWD, *inputs: torch.Tensor) -> None:
    """Assert that the program with the targets removed computes what the masked and the slim program compute."""
    program.eval()
    plan = method.plan()
    masked, slim = certified(program, plan)
    method.remove_()
    assert_same(masked(*inputs), program(*inputs), 1e-12)
    assert_same(masked(*inputs), slim(*inputs), 1e-12)
    again = method.plan().kept
    assert all(set(again[name]) >= set(kept) for name, kept in plan.kept.items())
    assert_same(masked(*inputs), swdc.slim(program, method.plan())(*inputs), 1e-12)


def mixed() -> Program:
    """A convolution with a batch norm, and one without."""
    return traced(nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 6), nn.ReLU(), conv(6, 2)))


class Attention(nn.Module):
    """A block of two attentions, one fused and one written out, and a perceptron."""

    def __init__(self, heads: int = 4, width: int = 16) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.last, self.up, self.down = nn.Linear(width, width), nn.Linear(width, 24), nn.Linear(24, width)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (self.split(part) for part in self.qkv(x).chunk(3, -1))
        attended = nn.functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(attended.transpose(1, 2).reshape(x.shape))
        query, key, value = (self.split(layer(x)) for layer in (self.query, self.key, self.value))
        scores = torch.softmax(query @ key.transpose(-1, -2) / 2, -1)
        x = x + self.last((scores @ value).transpose(1, 2).reshape(x.shape))
        result: torch.Tensor = x + self.down(torch.relu(self.up(x)))
        return result


def transformer(attention: str = "heads") -> Program:
    torch.manual_seed(0)
    return swdc.trace(randomise(Attention()).eval(), image(2, 5, 16), attention=attention)


def test_filters_are_decided_by_gamma_and_pulled_whole() -> None:
    program = traced(resnet20(width=4), image(2, 3, 8, 8))
    by_gamma, whole = swd(program, 0.7, "channels"), swd(program, 0.7, "filters")
    assert by_gamma.plan().kept == whole.plan().kept
    assert_masks(chosen(whole), written_by(program, whole.plan()))
    gains = {n: m for n, m in chosen(whole).items() if n in chosen(by_gamma)}
    assert_masks(chosen(by_gamma), gains)
    assert {"conv1.weight", "bn1.weight", "bn1.bias", "blocks.0.bn2.weight"} <= set(chosen(whole))
    assert_removal_is_the_mask(program, whole, image(3, 3, 8, 8))


def test_filters_without_a_batch_norm_are_targeted_with_filters_and_not_with_channels() -> None:
    program = mixed()
    assert len(swd(program, 0.3, "channels").plan().kept["3"]) == 6
    method = swd(program, 0.8, "filters")
    kept = method.plan().kept["3"]
    assert len(kept) < 6
    written = program.get_parameter("3.weight").square().sum((1, 2, 3)) + program.get_parameter("3.bias").square()
    order = written.argsort(descending=True)[: len(kept)]
    assert sorted(order.tolist()) == list(kept)
    assert_masks(chosen(method), written_by(program, method.plan()))
    assert_removal_is_the_mask(program, method, image(3, 3, 8, 8))


def test_without_norms_channels_are_those_whose_filters_have_the_least_norm() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), image(2, 5))
    with torch.no_grad():
        program.get_parameter("2.weight")[:, 0] = 100.0  # what reads a channel decides nothing
        program.get_parameter("0.weight")[0] = 1e-3
        program.get_parameter("0.bias")[0] = 0
    for structure in ("channels", "filters"):
        plan = swd(program, 0.1, structure).plan()
        assert plan.kept["0"] == (1, 2, 3, 4, 5, 6, 7)


@pytest.mark.parametrize("structure", ["channels", "filters"])
@pytest.mark.parametrize("policy", ["tied", "free"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_budgets_are_met_to_one_channel(structure: str, policy: str, share: float) -> None:
    program = traced(resnet20(width=8), image(2, 3, 8, 8)).under(policy)
    plan = swd(program, share, structure).plan()
    full = swdc.count(program).parameters
    assert swdc.count(swdc.slim(program, plan)).parameters <= (1 - share) * full
    removed = []
    for group, scores in zip(program.groups, gamma(program, program.groups), strict=True):
        removed += [(scores[c], group.name, c) for c in set(range(group.width)) - set(plan.kept[group.name])]
    _, name, channel = max(removed)
    more = {**plan.kept, name: tuple(sorted((*plan.kept[name], channel)))}
    one_more = Plan(more, plan.widths, plan.program_hash, {"policy": policy})
    assert swdc.count(swdc.slim(program, one_more)).parameters > (1 - share) * full


def test_a_group_may_lose_all_channels_with_free_sums_and_keeps_its_best_with_tied_ones() -> None:
    def model(policy: str) -> Program:
        torch.manual_seed(0)
        program = swdc.trace(randomise(resnet20(width=8)), image(2, 3, 8, 8), policy=policy)
        with torch.no_grad():
            program.get_parameter("blocks.2.bn1.weight").mul_(1e-6)
        return program

    free, tied = model("free"), model("tied")
    method = swd(free, 0.5, "channels")
    assert method.plan().emptied == ("blocks.2.conv1",)
    assert len(swd(tied, 0.5, "channels").plan().kept["blocks.2.conv1"]) == 1
    assert not any(s.any() for n, s in chosen(method).items() if n.startswith("blocks.2.conv"))
    assert chosen(method)["blocks.2.bn1.weight"].all()
    assert_removal_is_the_mask(free, method, image(3, 3, 8, 8))


def test_heads_of_every_attention_are_pulled_with_the_weights_that_write_them() -> None:
    program = transformer()
    assert {program.coupling.group(name).width for name in head_groups(program)} == {4}
    assert len(head_groups(program)) == 2
    method = swd(program, 0.5, "heads")
    plan = method.plan()
    heads = {name: kept for name, kept in plan.kept.items() if name in head_groups(program)}
    assert sum(map(len, heads.values())) == 4
    assert all(len(kept) == plan.widths[name] for name, kept in plan.kept.items() if name not in heads)
    names = {f"{layer}.{kind}" for layer in ("qkv", "query", "key", "value") for kind in ("weight", "bias")}
    assert set(chosen(method)) <= names
    assert_masks(chosen(method), written_by(program, plan))
    assert_removal_is_the_mask(program, method, image(3, 5, 16))


@pytest.mark.parametrize(("share", "budget"), [(0.25, "heads"), (0.5, "heads"), (0.15, "parameters"), (0.15, "macs")])
def test_plans_of_heads_remove_nothing_else(share: float, budget: str) -> None:
    program = transformer()
    chosen = swdc.plan(program, share, budget, structure="heads")
    heads = head_groups(program)
    assert chosen.settings["structure"] == "heads"
    assert {name for name, kept in chosen.kept.items() if len(kept) < chosen.widths[name]} <= heads
    small = swdc.slim(program, chosen)
    if budget == "heads":
        assert chosen.removed_channels == math.ceil(8 * share)
    else:
        found = [swdc.count(p, "macs" if budget == "macs" else "paper") for p in (program, small)]
        before, after = (c.operations if budget == "macs" else c.parameters for c in found)
        assert after <= (1 - share) * before
    assert swdc.verify(swdc.mask(program, chosen), small).exact


def test_plans_of_heads_by_group_and_by_pattern() -> None:
    program = transformer()
    halves = swdc.plan(program, 0.5, "heads", scope="group", structure="heads")
    heads = head_groups(program)
    assert [len(halves.kept[name]) for name in heads] == [2, 2]
    some = swdc.plan(program, 0.25, "heads", structure="heads", ignore="qkv")
    assert [len(kept) for name, kept in some.kept.items() if len(kept) < some.widths[name]] == [2]
    with pytest.raises(PlanError, match=r"expected one number as the sparsity of budget='heads'"):
        swdc.plan(program, {"*": 0.5}, "heads", structure="heads")
    with pytest.raises(PlanError, match=r"expected a budget of .* got 'heads'"):
        swdc.plan(program, 0.5, "heads")
    for other in (mixed(), transformer("head_dim")):
        with pytest.raises(PlanError, match=r"structure='heads', got"):
            swdc.plan(other, 0.5, "heads", structure="heads")


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.74])
def test_the_budget_of_heads_is_met_to_one_head(share: float) -> None:
    program = transformer()
    plan = swd(program, share, "heads").plan()
    assert plan.removed_channels == math.ceil(8 * share)


def test_the_weakest_heads_go() -> None:
    program = transformer()
    with torch.no_grad():
        for kind in ("weight", "bias"):
            program.get_parameter(f"qkv.{kind}").view(3, 4, 4, -1)[:, 2] *= 1e-3
    plan = swd(program, 1 / 8, "heads").plan()
    assert [kept for kept in plan.kept.values() if kept == (0, 1, 3)] == [(0, 1, 3)]


def test_a_program_without_heads_is_told_what_to_do() -> None:
    with pytest.raises(PlanError, match=r"expected heads of attentions that can be removed .* structure='filters'"):
        swd(mixed(), 0.5, "heads")
    with pytest.raises(PlanError, match="attention='head_dim'; trace the model with attention='heads'"):
        swd(transformer("head_dim"), 0.5, "heads")
    with pytest.raises(PlanError, match=r"at most 75.0% of the heads can be removed while every group keeps a channel"):
        swd(transformer(), 0.9, "heads")
    gates = Function(lambda m, x: torch.einsum("bc,bc->bc", m.a(x), m.a(x)).sum(1), a=nn.Linear(6, 4))
    assert head_groups(traced(gates, image(2, 6))) == set()


def test_a_plain_module_is_refused() -> None:
    for structure in ("channels", "filters", "heads"):
        with pytest.raises(PlanError, match=f"expected a Program for structure='{structure}', got Linear"):
            swd(nn.Linear(2, 2), 0.5, structure)


@pytest.mark.parametrize("structure", ["channels", "filters"])
@pytest.mark.parametrize("norm", [None, "batch_norm"])
def test_hidden_units_of_a_graph_network(structure: str, norm: str | None) -> None:
    geometric = pytest.importorskip("torch_geometric.nn")
    torch.manual_seed(0)
    model = randomise(geometric.GCN(12, 16, num_layers=2, out_channels=3, dropout=0.5, norm=norm))
    edges = torch.randint(0, 9, (2, 30), generator=torch.Generator().manual_seed(0))
    nodes = image(9, 12)
    program = swdc.trace(model, (nodes, edges))
    method = swd(program, 0.7, structure)
    plan = method.plan()
    assert len(program.groups) == 1
    assert plan.widths == {program.groups[0].name: 16}
    full = swdc.count(program).parameters
    per_unit = (full - 3) // 16
    assert plan.removed_channels == math.ceil(0.7 * full / per_unit)
    pulled = set(chosen(method))
    gains = {"norms.0.module.weight", "norms.0.module.bias"}
    assert pulled == (gains if norm and structure == "channels" else set(written_by(program, plan)))
    assert_removal_is_the_mask(program, method, nodes, edges)


def test_weights_that_overflowed_are_named() -> None:
    program = mixed()
    with torch.no_grad():
        program.get_parameter("1.weight")[3] = np.nan
    with pytest.raises(PlanError, match=r"expected finite weights, got NaN or infinity in 1\.weight"):
        swd(program, 0.5, "filters")
