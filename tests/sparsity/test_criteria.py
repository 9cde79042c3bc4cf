"""Scores of channels, by hand on small networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.analysis.residual import deciding_norms
from swdc.capture.meta_model import trace_skeleton
from swdc.errors import PlanError
from swdc.ir import weight_sources as values
from swdc.ir.groups import ChannelGroup
from swdc.ir.program import Program
from swdc.sparsity.planning.criteria import Criterion, Scores, find_criterion, gamma, gradient_weight, l1, l2
from tests.support import Function, conv, group_with, image, traced


def chain() -> Program:
    return traced(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 5)))


def residual() -> Program:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(m.bn0(m.stem(x)))
        result: torch.Tensor = m.head(torch.relu(m.bn1(m.body(x)) + x))
        return result

    return traced(
        Function(
            forward,
            stem=conv(3, 6),
            bn0=nn.BatchNorm2d(6),
            body=conv(6, 6),
            bn1=nn.BatchNorm2d(6),
            head=conv(6, 2),
        )
    )


def score(program: Program, criterion: Criterion, slot: str) -> np.ndarray[Any, Any]:
    group = group_with(program, slot)
    values = criterion(program, program.groups)[program.groups.index(group)]
    assert values is not None
    return values


@pytest.mark.parametrize(("criterion", "power", "root"), [(l1, 1, 1.0), (l2, 2, 0.5)], ids=["l1", "l2"])
def test_magnitudes_by_hand(criterion: Criterion, power: int, root: float) -> None:
    program = chain()
    w = {name: t.detach().abs().pow(power) for name, t in program.tensors.items()}
    sums = w["0.weight"].sum((1, 2, 3)) + w["0.bias"] + w["1.weight"] + w["1.bias"]
    sums = (sums + w["4.weight"].reshape(5, 4, 64).sum((0, 2))).pow(root)
    expected = (sums / sums.mean()).numpy()
    np.testing.assert_allclose(score(program, criterion, "0.weight[0]"), expected, rtol=1e-12)


@pytest.mark.parametrize("criterion", [l1, l2])
def test_magnitudes_of_half_precision_do_not_overflow(criterion: Criterion) -> None:
    program = chain().to(torch.float16)
    with torch.no_grad():
        program.get_parameter("0.weight").mul_(1e3)
    wide = program.clone().to(torch.float64)
    found = score(program, criterion, "0.weight[0]")
    np.testing.assert_allclose(found, score(wide, criterion, "0.weight[0]"), rtol=1e-5)


@pytest.mark.parametrize("criterion", [l1, l2])
def test_magnitudes_of_a_network_of_zeros(criterion: Criterion) -> None:
    program = chain()
    with torch.no_grad():
        for parameter in program.parameters():
            parameter.zero_()
    assert score(program, criterion, "0.weight[0]").tolist() == [0.0] * 4
    assert swdc.plan(program, 0.5, criterion=criterion).removed_channels == 2


def test_magnitudes_are_the_same_in_any_group_order() -> None:
    program = residual()
    forward, backward = l2(program, program.groups), l2(program, program.groups[::-1])
    for one, other in zip(forward, backward[::-1], strict=True):
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one, other)


def test_gamma_by_hand() -> None:
    program = chain()
    with torch.no_grad():
        program.get_parameter("1.weight").copy_(torch.tensor([0.5, -2.0, 0.0, 1.0]))
    assert score(program, gamma, "0.weight[0]").tolist() == [0.5, 2.0, 0.0, 1.0]
    assert swdc.plan(program, 0.5, criterion="gamma").kept == {"0": (1, 3)}


def test_gamma_is_the_mean_of_the_norms_of_a_residual_sum() -> None:
    program = residual()
    assert deciding_norms(program) == ["bn0", "bn1"]
    gains = [program.get_parameter(f"{name}.weight").detach().abs().numpy() for name in ("bn0", "bn1")]
    np.testing.assert_allclose(score(program, gamma, "stem.weight[0]"), np.mean(gains, axis=0), rtol=1e-12)


def test_a_norm_after_the_sum_overrules_those_before_it() -> None:
    program = swdc.insert_batchnorm(residual())
    assert deciding_norms(program) == ["bn0", "sum_batchnorm"]  # bn0 also feeds the body
    with torch.no_grad():
        program.get_parameter("bn1.weight").fill_(100.0)
        program.get_parameter("bn0.weight").copy_(torch.arange(6.0))
        program.get_parameter("sum_batchnorm.weight").copy_(-torch.arange(6.0) * 3)
    assert score(program, gamma, "stem.weight[0]").tolist() == [0, 2, 4, 6, 8, 10]


def test_all_norms_before_a_chain_of_sums_are_overruled() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        total = m.bn0(m.a(x)) + m.bn1(m.b(x)) + m.bn2(m.c(x))
        result: torch.Tensor = m.head(torch.relu(m.last(total)))
        return result

    parts: dict[str, nn.Module] = {name: conv(3, 6) for name in "abc"}
    parts |= {name: nn.BatchNorm2d(6) for name in ("bn0", "bn1", "bn2", "last")}
    program = traced(Function(forward, head=conv(6, 2), **parts))
    assert deciding_norms(program) == ["last"]
    expected = program.get_parameter("last.weight").detach().abs().numpy()
    np.testing.assert_array_equal(score(program, gamma, "a.weight[0]"), expected)


def test_norms_without_gains_decide_nothing() -> None:
    program = traced(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4, affine=False), nn.ReLU(), conv(4, 2)))
    assert deciding_norms(program) == []


def test_gamma_without_norms_says_what_to_do() -> None:
    program = traced(nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 2)))
    with pytest.raises(
        PlanError,
        match=r"without batch norms take criterion='l2', or .* swdc\.insert_batchnorm",
    ):
        swdc.plan(program, 0.5, criterion="gamma")


def test_gamma_keeps_groups_without_norms_whole() -> None:
    program = traced(
        nn.Sequential(conv(3, 6), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 4), nn.ReLU(), conv(4, 2)),
    )
    plan = swdc.plan(program, 0.3, criterion="gamma")
    assert {name: len(kept) for name, kept in plan.kept.items()} == {"0": 3, "3": 4}


def three_groups() -> Program:
    return traced(nn.Sequential(conv(3, 6), nn.ReLU(), conv(6, 4), nn.ReLU(), conv(4, 2)))


@pytest.mark.parametrize("kind", [np.asarray, list, torch.tensor, lambda v: np.asarray(v, dtype=np.uint8)])
def test_a_function_as_criterion(kind: Callable[[list[int]], Any]) -> None:
    def late_channels(program: Program, groups: Sequence[ChannelGroup]) -> Scores:
        return [kind(list(range(group.width))) for group in groups]

    plan = swdc.plan(three_groups(), 0.5, criterion=late_channels, scope="group")
    assert plan.kept == {"0": (3, 4, 5), "2": (2, 3)}
    assert plan.settings["criterion"] == "late_channels"


def test_a_function_scores_only_groups_that_are_not_ignored() -> None:
    asked: list[str] = []

    def first(program: Program, groups: Sequence[ChannelGroup]) -> Scores:
        asked.extend(group.name for group in groups)
        return [np.arange(group.width, dtype=float) for group in groups]

    plan = swdc.plan(three_groups(), 0.2, criterion=first, ignore="0")
    assert asked == ["2"]
    assert plan.kept == {"0": (0, 1, 2, 3, 4, 5), "2": (2, 3)}


def test_a_function_with_no_opinion_on_a_group_keeps_it() -> None:
    plan = swdc.plan(three_groups(), 0.3, criterion=lambda program, groups: [None, np.arange(4.0)])
    assert plan.kept == {"0": (0, 1, 2, 3, 4, 5), "2": (3,)}


WRONG: dict[str, tuple[Callable[[int], Any], str]] = {
    "too few": (
        lambda width: np.ones(width - 1),
        r"expected 6 finite scores for group '0', got shape \(5,\)",
    ),
    "a matrix": (
        lambda width: np.ones((width, 1)),
        r"expected 6 finite scores for group '0', got shape \(6, 1\)",
    ),
    "a number": (
        lambda width: 1.0,
        r"expected 6 finite scores for group '0', got shape \(\) .*; return one number for each channel, or None",
    ),
    "nan": (lambda width: np.r_[np.nan, np.ones(width - 1)], r"got shape \(6,\) with 1 that are not finite"),
    "infinite": (lambda width: np.full(width, np.inf), r"got shape \(6,\) with 6 that are not finite"),
}


@pytest.mark.parametrize(("scores", "message"), WRONG.values(), ids=WRONG.keys())
def test_wrong_scores_are_refused(scores: Callable[[int], Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        swdc.plan(three_groups(), 0.5, criterion=lambda program, groups: [scores(g.width) for g in groups])


@pytest.mark.parametrize("number", [0, 1, 3])
def test_scores_of_another_number_of_groups_are_refused(number: int) -> None:
    with pytest.raises(PlanError, match=f"expected scores for each of 2 groups, got {number}"):
        swdc.plan(three_groups(), 0.5, criterion=lambda program, groups: [np.ones(6)] * number)


def test_criteria_by_name() -> None:
    assert [find_criterion(name) for name in ("l1", "l2", "gamma")] == [l1, l2, gamma]
    assert find_criterion(l1) is l1
    with pytest.raises(
        PlanError, match=r"expected a criterion of \['activation', 'fisher', .*, 'uniform', 'wanda'\] or a function"
    ):
        find_criterion("l3")


def blank_and_whole() -> tuple[Program, Program]:
    def make() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))

    program = traced(make(), image(2, 5))
    return trace_skeleton(make, image(2, 5), dict.fromkeys(program.tensors, torch.float64)), program


@pytest.mark.parametrize("criterion", ["l1", "l2", "gamma"])
def test_a_program_without_values_is_scored_by_given_weights(criterion: str) -> None:
    blank, program = blank_and_whole()
    expected = find_criterion(criterion)(program, program.groups)
    actual = find_criterion(criterion)(blank, blank.groups, program.tensors)
    assert [list(s) for s in actual if s is not None] == [list(s) for s in expected if s is not None]
    assert swdc.plan(blank, 0.5, criterion=criterion, weights=program.tensors) == swdc.plan(
        program, 0.5, criterion=criterion
    )
    with pytest.raises(PlanError, match=r"which is on the meta device and has none; give the weights"):
        swdc.plan(blank, 0.5, criterion=criterion)


def test_a_function_gets_the_weights_that_a_plan_is_made_from() -> None:
    blank, program = blank_and_whole()
    weights = dict(program.tensors)

    def score(given: Program, groups: Any, source: Any) -> Any:
        assert given is blank
        assert source is weights
        return [np.arange(group.width) for group in groups]

    assert swdc.plan(blank, 0.5, criterion=score, weights=weights).kept == {"0": (4, 5, 6, 7)}


def test_uniform_takes_the_last_channels_of_every_group_and_no_weights() -> None:
    blank, program = blank_and_whole()
    assert swdc.plan(blank, 0.25, criterion="uniform").kept == {"0": (0, 1, 2, 3, 4, 5)}
    assert swdc.plan(program, 0.25, criterion="uniform") == swdc.plan(blank, 0.25, criterion="uniform")


def test_weights_in_parts_score_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    program = blank_and_whole()[1]
    whole = [find_criterion(name)(program, program.groups) for name in ("l1", "l2")]
    monkeypatch.setattr(values, "PART", 7)
    parts = [find_criterion(name)(program, program.groups) for name in ("l1", "l2")]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one[0], other[0], rtol=1e-14)


def test_gradient_times_weight_by_hand() -> None:
    program = chain()
    program(image(4, 3, 8, 8)).square().sum().backward()
    change = {name: (p * p.grad).abs().detach() for name, p in program.named_parameters() if p.grad is not None}
    expected = change["0.weight"].sum((1, 2, 3)) + change["0.bias"] + change["1.weight"] + change["1.bias"]
    np.testing.assert_allclose(score(program, gradient_weight, "0.weight[0]"), expected.numpy(), rtol=1e-12)
    kept = swdc.plan(program, 0.5, criterion="gradient_weight").kept["0"]
    assert kept == tuple(sorted(expected.argsort(descending=True)[:2].tolist()))


def test_gradient_times_weight_asks_for_gradients() -> None:
    with pytest.raises(PlanError, match=r"expected gradients for criterion='gradient_weight', .* call backward"):
        swdc.plan(chain(), 0.5, criterion="gradient_weight")


@pytest.mark.parametrize("odd", ["text", 1j, object()])
def test_scores_that_are_no_numbers_are_refused(odd: object) -> None:
    program = traced(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)), image(2, 4))
    with pytest.raises(PlanError, match=r"the scores are of type .* and no real numbers"):
        swdc.plan(program, 0.5, criterion=lambda _, groups: [[odd] * group.width for group in groups])


def test_scores_by_name_are_refused_and_the_error_says_what_to_return() -> None:
    with pytest.raises(PlanError, match="and no real numbers; return a list with an array for each group"):
        swdc.plan(chain(), 0.5, criterion=lambda _, groups: {group.name: np.ones(group.width) for group in groups})
