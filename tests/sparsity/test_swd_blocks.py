"""SWD on whole residual branches: which are pulled, that they die, and that a plan removes them then."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.analysis.branches import branches_of
from swdc.errors import PlanError
from swdc.ir.program import Program
from swdc.sparsity.baselines import MagnitudePruning
from tests.sparsity.test_blocks import TOKENS, Block, transformer
from tests.support import assert_same, image, traced


def trained(program: Program, steps: int = 6, **options: Any) -> swdc.SWD:
    """Train a program for some steps with ``a="auto"``, and return the method."""
    optimizer = torch.optim.SGD(program.parameters(), lr=0.01, momentum=0.9)
    swd = swdc.SWD(program, a="auto", steps=steps, optimizer=optimizer, **options)
    program.train()
    for step in range(steps):
        optimizer.zero_grad()
        program(image(4, 5, 8, seed=step)).square().mean().backward()
        swd.step()
        optimizer.step()
    program.eval()
    return swd


def quiet(program: Program, *names: str) -> None:
    with torch.no_grad():
        for name in names:
            for tensor in branches_of(program)[name].tensors:
                program.get_parameter(tensor).mul_(0.1)


def names_of(swd: swdc.SWD) -> set[str]:
    return {target.name for target in swd.targeted()}


def test_the_branches_whose_writers_are_least_are_targeted() -> None:
    program = transformer()
    quiet(program, "0.down", "1.attention.out_proj")
    swd = swdc.SWD(program, 0.5, "blocks", a_min=1.0, a_max=10.0, steps=5, mu=0.1)
    wanted = {"0.down.weight", "0.down.bias", "1.attention.out_proj.weight", "1.attention.out_proj.bias"}
    assert names_of(swd) == wanted
    assert all(target.chosen.all() and target.chosen.shape == target.parameter.shape for target in swd.targeted())
    assert set(swd.plan().branches) == {"0.down", "1.attention.out_proj"}
    assert swd.plan().removed_channels == 0
    program(TOKENS).sum().backward()
    before = {name: p.grad.clone() for name, p in program.named_parameters()}
    swd.step()
    for name, parameter in program.named_parameters():
        pull = 0.1 * parameter if name in wanted else torch.zeros_like(parameter)
        assert_same(before[name] + pull.detach(), parameter.grad)


@pytest.mark.parametrize(("structure", "budget"), [("blocks", None), ("blocks", "parameters"), ("layers", None)])
def test_whole_branches_die_and_go_without_a_change(structure: str, budget: str | None) -> None:
    program = transformer()
    swd = trained(program, target=0.4, structure=structure, budget=budget)
    plan = swd.plan()
    assert plan.branches
    assert plan.settings["budget"] == (budget or structure)
    for name in plan.branches:
        assert not any(program.get_parameter(t).any() for t in branches_of(program)[name].tensors)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    assert_same(program(TOKENS), slim(TOKENS))
    certificate = swdc.verify(masked, slim)
    assert certificate.exact, certificate
    assert certificate.refilled
    assert not any(name.startswith(plan.branches[0] + ".") for name in slim.tensors)
    if budget == "parameters":
        assert swdc.count(slim).parameters <= 0.6 * swdc.count(program).parameters
    both = swdc.plan(program, 0.6, "parameters", after=plan)
    assert swdc.verify(swdc.mask(program, both), swdc.slim(program, both)).exact
    assert set(plan.branches) <= set(both.branches)


def test_a_mask_of_what_was_zero_still_shows_a_wrong_slim_program() -> None:
    program = transformer()
    swd = trained(program, target=0.25, structure="blocks")
    plan = swd.plan()
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    with torch.no_grad():
        next(iter(slim.parameters())).mul_(1.01)
    assert not swdc.verify(masked, slim).exact


def test_remove_hold_resume_and_gap() -> None:
    program = transformer()
    optimizer = torch.optim.SGD(program.parameters(), lr=0.01)
    made = {"target": 0.5, "structure": "blocks", "a_min": 1.0, "a_max": 10.0, "steps": 4, "refresh": 2}
    swd = swdc.SWD(program, optimizer=optimizer, **made)
    program(TOKENS).square().mean().backward()
    swd.step()
    optimizer.step()
    assert swd.gap(lambda: float(program(TOKENS).detach().square().mean())).difference != 0
    other = swdc.SWD(program, optimizer=optimizer, **made)
    other.load_state_dict(swd.state_dict())
    assert names_of(other) == names_of(swd)
    swd.remove_()
    swd.hold()
    program(TOKENS).square().mean().backward()
    optimizer.step()
    for target in swd.targeted():
        assert not target.parameter.any()
    slim = swdc.slim(program, swd.plan())
    assert_same(program(TOKENS), slim(TOKENS))


def test_what_is_ignored_or_frozen_stays() -> None:
    program = transformer()
    quiet(program, "0.down", "0.attention.out_proj")
    options: dict[str, Any] = {"a_min": 1.0, "a_max": 10.0, "steps": 5}
    swd = swdc.SWD(program, 0.5, "blocks", ignore="0.*", **options)
    assert all(name.startswith("1.") for name in swd.plan().branches)
    program.get_parameter("0.norm2.weight").requires_grad_(False)
    swd = swdc.SWD(program, 0.5, "blocks", **options)
    assert "0.down" not in swd.plan().branches
    assert len(swd.plan().branches) == 2, "half of the three that can go, and no less"
    for parameter in program.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(PlanError, match="some parameters are frozen, and stay"):
        swdc.SWD(program, 0.5, "blocks", **options)


def test_criteria_other_than_magnitude_score_the_mean_of_the_writers() -> None:
    program = transformer()
    scores = {name: float(number) for number, name in enumerate(("1.down", "0.down"))}

    def saliency(weight: torch.Tensor) -> torch.Tensor:
        owner = next(name for name, p in program.named_parameters() if p.data_ptr() == weight.data_ptr())
        return torch.full_like(weight, scores.get(owner.rpartition(".")[0], 5.0))

    swd = swdc.SWD(program, 0.5, "blocks", criterion=saliency, a_min=1.0, a_max=10.0, steps=5)
    assert swd.plan().branches == ("1.down", "0.down")


def test_baselines_remove_branches_in_rounds() -> None:
    program = transformer()
    optimizer = torch.optim.SGD(program.parameters(), lr=0.01, momentum=0.9)
    method = MagnitudePruning(program, 0.5, "blocks", steps=6, start=1, rounds=2, every=2, optimizer=optimizer)
    removed = []
    for step in range(6):
        optimizer.zero_grad()
        program(image(4, 5, 8, seed=step)).square().mean().backward()
        method.step()
        optimizer.step()
        removed.append(len({part.name for part in method.removed()}))
    assert removed == [2, 2, 4, 4, 4, 4]
    plan = method.plan()
    assert len(plan.branches) == 2
    assert_same(program.eval()(TOKENS), swdc.slim(program, plan)(TOKENS))


def test_what_is_refused() -> None:
    program = transformer()
    options: dict[str, Any] = {"a_min": 1.0, "a_max": 10.0, "steps": 5}
    for change, message in (
        ({"budget": "channels"}, r"expected a budget of \['blocks', 'parameters', 'bytes', 'operations', 'macs'\]"),
        ({"round_to": 8}, "expected no round_to and no table with structure='blocks'"),
        ({"ignore": "*"}, "expected residual blocks that can be removed, got none"),
        ({"ignore": "no"}, "'no' matches none"),
        ({"budget": "parameters", "target": 0.99}, "expected a budget that can be met"),
    ):
        with pytest.raises(PlanError, match=message):
            swdc.SWD(program, **{"target": 0.5, "structure": "blocks", **options, **change})
    with pytest.raises(PlanError, match="expected a Program for structure='blocks', got Linear"):
        swdc.SWD(nn.Linear(4, 4), 0.5, "blocks", **options)
    swd = swdc.SWD(program, 0.5, "blocks", **options)
    with torch.no_grad():
        program.get_parameter("0.down.weight").fill_(float("nan"))
    with pytest.raises(PlanError, match=r"0\.down\.weight"):
        swd.targeted()


def test_a_program_without_branches_is_refused() -> None:
    program = traced(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 3)), TOKENS)
    with pytest.raises(PlanError, match="expected residual blocks that can be removed, got none"):
        swdc.SWD(program, 0.5, "blocks", a_min=1.0, a_max=10.0, steps=5)
    assert branches_of(traced(nn.Sequential(Block(), nn.Linear(8, 3)), TOKENS))
