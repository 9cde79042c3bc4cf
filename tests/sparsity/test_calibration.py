"""Statistics of channels on data, and the criteria that read them, by the formulas of their sources."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.errors import InputError, PlanError
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.sparsity.calibration.statistics import Calibration
from swdc.sparsity.planning.criteria import CRITERIA
from tests.support import Function, conv, group_with, image, traced

BATCHES = [image(3, 3, 8, 8, seed=seed) for seed in (1, 2)]


def layers() -> Program:
    """Return a convolution, a norm, another convolution, and a dense layer after a flattened map."""
    norm = nn.BatchNorm2d(4)
    return traced(nn.Sequential(conv(3, 4), norm, nn.ReLU(), conv(4, 2), nn.Flatten(), nn.Linear(2 * 64, 5)))


def decisions(output: torch.Tensor, batch: Any) -> torch.Tensor:
    return (output.square() * torch.arange(1.0, 6.0)).sum()


def scores(program: Program, criterion: str, statistics: Calibration, slot: str) -> np.ndarray[Any, Any]:
    group = group_with(program, slot)
    (found,) = CRITERIA[criterion](program, [group], statistics=statistics)
    assert found is not None
    return found


def by_mean(values: torch.Tensor) -> np.ndarray[Any, Any]:
    return (values / values.mean()).detach().numpy()


def inner(program: Program, x: torch.Tensor) -> torch.Tensor:
    """Return what the second convolution reads, with a gradient that is kept."""
    hidden: torch.Tensor = torch.relu(program.get_submodule("1")(program.get_submodule("0")(x)))
    return hidden


def outer(program: Program, hidden: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = program.get_submodule("5")(program.get_submodule("3")(hidden).flatten(1))
    return result


def test_activation_is_the_root_mean_square_of_what_is_read() -> None:
    program = layers()
    statistics = swdc.calibrate(program, iter(BATCHES), progress=False)
    hidden = inner(program, torch.cat(BATCHES))
    expected = by_mean(hidden.square().mean((0, 2, 3)).sqrt())
    np.testing.assert_allclose(scores(program, "activation", statistics, "3.weight[1]"), expected, rtol=1e-12)
    assert (statistics.samples, statistics.batches) == (6, 2)


def test_wanda_by_hand_for_a_dense_layer_after_a_flattened_map() -> None:
    program = layers()
    statistics = swdc.calibrate(program, BATCHES)
    read = program.get_submodule("3")(inner(program, torch.cat(BATCHES))).flatten(1)
    single = program.get_parameter("5.weight").abs() * read.norm(dim=0)  # S = |W| ||X||, eq. 1 of Sun et al. 2023
    expected = by_mean(single.sum(0).reshape(2, 64).sum(1))
    np.testing.assert_allclose(scores(program, "wanda", statistics, "5.weight[1]"), expected, rtol=1e-12)


def test_wanda_by_hand_for_a_convolution() -> None:
    program = layers()
    statistics = swdc.calibrate(program, BATCHES)
    norms = inner(program, torch.cat(BATCHES)).square().sum((0, 2, 3)).sqrt()
    expected = by_mean(program.get_parameter("3.weight").abs().sum((0, 2, 3)) * norms)
    np.testing.assert_allclose(scores(program, "wanda", statistics, "3.weight[1]"), expected, rtol=1e-12)


def test_taylor_and_fisher_by_hand() -> None:
    program = layers()
    statistics = swdc.calibrate(program, BATCHES, loss=decisions)
    sums = []
    for batch in BATCHES:
        hidden = inner(program, batch).detach().requires_grad_()
        decisions(outer(program, hidden), batch).backward()
        sums.append((hidden.grad * hidden).sum((2, 3)))
    for_each_sample = torch.cat(sums)  # eq. 8 of Molchanov et al. 2017 without 1 / M; eq. 8 of Theis et al. 2018
    taylor, fisher = for_each_sample.abs().mean(0), for_each_sample.square().mean(0) / 2
    np.testing.assert_allclose(scores(program, "taylor", statistics, "3.weight[1]"), by_mean(taylor), rtol=1e-10)
    np.testing.assert_allclose(scores(program, "fisher", statistics, "3.weight[1]"), by_mean(fisher), rtol=1e-10)
    raw = statistics.signed[group_with(program, "3.weight[1]").name][0]
    np.testing.assert_allclose(raw, taylor.detach().numpy(), rtol=1e-10)


def test_taylor_is_the_change_of_the_loss_in_a_linear_network() -> None:
    """The loss of two layers is linear in what the second reads, so that the first order is all of it."""
    program = traced(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), image(2, 3))
    x = image(1, 3, seed=5)
    found = swdc.calibrate(program, [x], loss=lambda output, batch: output.sum()).signed["0"][0]
    hidden = program.get_submodule("0")(x)
    head = program.get_submodule("1")
    for channel in range(4):
        without = hidden.clone()
        without[:, channel] = 0
        change = (head(hidden).sum() - head(without).sum()).abs().item()
        assert found[channel] == pytest.approx(change, rel=1e-12)


def test_taylor_of_weights_by_hand_also_where_weights_are_not_trained() -> None:
    program = layers()
    program.get_parameter("0.weight").requires_grad_(False)
    statistics = swdc.calibrate(program, BATCHES, loss=decisions)
    assert not program.get_parameter("0.weight").requires_grad
    assert all(p.grad is None for p in program.parameters())
    total = torch.zeros(4)
    for batch in BATCHES:
        copy = program.clone()
        for parameter in copy.parameters():
            parameter.requires_grad_(True)
        decisions(copy(batch), batch).backward()
        change = {name: (p * p.grad).abs().detach() for name, p in copy.named_parameters()}
        total = total + change["0.weight"].sum((1, 2, 3)) + change["0.bias"] + change["1.weight"] + change["1.bias"]
        total = total + change["3.weight"].sum((0, 2, 3))
    expected = by_mean(total)
    np.testing.assert_allclose(scores(program, "taylor_weight", statistics, "3.weight[1]"), expected, rtol=1e-10)


def test_a_use_beside_the_layer_that_reads_a_channel_is_not_counted_there() -> None:
    """Both convolutions after a residual sum read the stream; the gradient of each is that of its own use."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.stem(x)
        x = x + m.one(torch.relu(x))
        result: torch.Tensor = m.head(torch.relu(x))
        return result

    parts = {"stem": conv(3, 4), "one": conv(4, 4), "head": conv(4, 5, 1)}
    program = traced(Function(forward, **parts))

    def loss(output: torch.Tensor, batch: Any) -> torch.Tensor:
        return output.square().sum()

    found = swdc.calibrate(program, BATCHES, loss=loss).signed[group_with(program, "head.weight[1]").name][0]
    sums = []
    for batch in BATCHES:
        stream = program.get_submodule("stem")(batch)
        first = torch.relu(stream).detach().requires_grad_()
        stream = stream + program.get_submodule("one")(first)
        second = torch.relu(stream) * 1
        second.retain_grad()
        loss(program.get_submodule("head")(second), batch).backward()
        assert first.grad is not None
        assert second.grad is not None
        sums.append((first.grad * first + second.grad * second).sum((2, 3)))
    np.testing.assert_allclose(found, torch.cat(sums).abs().mean(0).detach().numpy(), rtol=1e-10)


def test_heads_are_scored_where_their_output_is_read() -> None:
    layer = nn.MultiheadAttention(8, 4, batch_first=True)
    program = traced(Function(lambda m, x: m.layer(x, x, x, need_weights=False)[0], layer=layer), image(2, 5, 8))
    (group,) = program.groups
    batches = [image(2, 5, 8, seed=seed) for seed in (1, 2, 3)]
    statistics = swdc.calibrate(program, batches, loss=lambda output, batch: output.square().sum())
    read: list[torch.Tensor] = []
    layer.double()
    weight = layer.in_proj_weight
    for x in batches:
        q, k, v = (
            (x @ w.T + b).reshape(2, 5, 4, 2).transpose(1, 2)
            for w, b in zip(weight.chunk(3), layer.in_proj_bias.chunk(3), strict=True)
        )
        heads = torch.softmax(q @ k.transpose(-1, -2) / 2**0.5, -1) @ v
        read.append(heads.square().mean((0, 2, 3)))
    expected = by_mean(torch.stack(read).mean(0).sqrt())
    (found,) = CRITERIA["activation"](program, [group], statistics=statistics)
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    for name in ("wanda", "taylor", "taylor_weight", "fisher"):
        (found,) = CRITERIA[name](program, [group], statistics=statistics)
        assert found.shape == (4,)
        assert found.mean() == pytest.approx(1)
        assert (found > 0).all()


def test_channels_that_no_layer_reads_are_seen_where_they_are_written() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = m.one(x) @ m.two(x).transpose(1, 2)
        return result

    program = traced(Function(forward, one=nn.Linear(3, 4), two=nn.Linear(3, 4)), image(2, 5, 3))
    x = image(2, 5, 3, seed=3)
    statistics = swdc.calibrate(program, [x])
    squares = [program.get_submodule(name)(x).square().mean((0, 1)) for name in ("one", "two")]
    (found,) = CRITERIA["activation"](program, program.groups, statistics=statistics)
    np.testing.assert_allclose(found, by_mean(torch.stack(squares).mean(0).sqrt()), rtol=1e-12)
    assert CRITERIA["wanda"](program, program.groups, statistics=statistics) == [None]


@pytest.mark.parametrize("criterion", ["activation", "wanda", "taylor", "taylor_weight", "fisher"])
def test_plans_from_data_meet_their_budget_and_are_exact(criterion: str) -> None:
    program = layers()
    statistics = swdc.calibrate(program, BATCHES, loss=decisions)
    plan = swdc.plan(program, 0.3, "parameters", criterion, statistics=statistics)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    assert swdc.verify(masked, slim, batches=(1, 3)).exact
    assert swdc.count(slim).parameters <= 0.7 * swdc.count(program).parameters


def test_calibration_changes_nothing_and_runs_in_evaluation() -> None:
    program = layers().train()
    before = {name: tensor.detach().clone() for name, tensor in program.tensors.items()}
    evaluated = swdc.calibrate(program.clone().eval(), BATCHES).observed
    observed = swdc.calibrate(program, BATCHES).observed
    assert program.training
    assert program.get_submodule("1").training
    assert all(torch.equal(tensor, before[name]) for name, tensor in program.tensors.items())
    for one, other in zip(observed, evaluated, strict=True):
        np.testing.assert_array_equal(one.mean_squares, other.mean_squares)


def test_a_function_says_which_part_of_a_batch_is_the_input() -> None:
    program = layers()
    pairs = [(batch, torch.tensor([0, 1, 2])) for batch in BATCHES]

    def loss(output: torch.Tensor, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(output, batch[1])

    statistics = swdc.calibrate(program, pairs, inputs=lambda batch: batch[0], loss=loss)
    assert statistics.signed.keys() == {group.name for group in program.groups}
    with pytest.raises(InputError, match="expected"):
        swdc.calibrate(program, pairs)


def test_keywords_may_stand_in_any_order() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.head = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.body(x - 2 * y)))

    x, y = image(2, 3, seed=1), image(2, 3, seed=2)
    program = traced(Two(), {"x": x, "y": y})
    one, other = (swdc.calibrate(program, [batch]).observed[0] for batch in ({"x": x, "y": y}, {"y": y, "x": x}))
    np.testing.assert_array_equal(one.mean_squares, other.mean_squares)
    expected = torch.relu(program.get_submodule("body")(x - 2 * y)).square().mean(0)
    np.testing.assert_allclose(other.mean_squares, expected.detach().numpy(), rtol=1e-12)
    with pytest.raises(InputError, match="expected 2 inputs"):
        swdc.calibrate(program, [{"x": x}])


def test_random_scores_follow_the_seed() -> None:
    program = layers()
    plans = [swdc.plan(program, 0.5, criterion="random", seed=seed).kept for seed in (0, 0, 1, 2)]
    assert plans[0] == plans[1]
    assert plans[0] != plans[2] or plans[0] != plans[3]


def blocks(widths: tuple[int, ...]) -> Program:
    """Return residual blocks of dense layers; the inner layers of equal width play the same part."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        for number in range(len(widths)):
            x = x + getattr(m, f"down{number}")(torch.relu(getattr(m, f"up{number}")(x)))
        return x

    parts = {}
    for number, width in enumerate(widths):
        parts |= {f"up{number}": nn.Linear(6, width), f"down{number}": nn.Linear(width, 6)}
    return traced(Function(forward, **parts), image(2, 6))


def test_isomorphic_ranking_takes_the_same_share_of_each_set_and_the_lowest_of_it() -> None:
    program = blocks((8, 8, 4, 4))
    assert [group.width for group in program.groups] == [8, 8, 4, 4]
    given = {"up0": range(8), "up1": range(100, 108), "up2": range(1000, 1004), "up3": range(1004, 1008)}

    def own(program: Program, groups: Any) -> Any:
        return [np.array(given[group.name], dtype=float) for group in groups]

    plan: Plan = swdc.plan(program, 0.25, criterion=own, scope="isomorphic")
    assert [len(plan.kept[name]) for name in given] == [4, 8, 2, 4]
    assert plan.kept["up0"] == (4, 5, 6, 7)
    assert plan.settings["scope"] == "isomorphic"
    everywhere = swdc.plan(program, 0.25, criterion=own)
    assert [len(everywhere.kept[name]) for name in given] == [2, 8, 4, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batches": []}, "expected at least one batch"),
        ({"batches": image()}, "expected batches as an iterable of batches, got Tensor"),
        ({"batches": 3}, "expected batches as an iterable of batches, got int"),
        (
            {"batches": (1 / 0 for _ in "a")},
            "expected batches as an iterable .* ZeroDivisionError",
        ),
        ({"batches": BATCHES, "loss": lambda output, batch: output}, r"expected a loss that is a single number"),
        ({"batches": BATCHES, "loss": lambda output, batch: 1 / 0}, "ZeroDivisionError"),
        ({"batches": BATCHES, "loss": lambda output, batch: 1.0}, r"a single number with a gradient, got float"),
        ({"batches": BATCHES, "inputs": lambda batch: batch["x"]}, "expected inputs as a function of a batch"),
        ({"batches": BATCHES, "loss": 3}, "expected loss as"),
    ],
)
def test_what_calibration_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        swdc.calibrate(layers(), **arguments)


def test_statistics_are_those_of_one_program_and_of_what_was_asked() -> None:
    program = layers()
    statistics = swdc.calibrate(program, BATCHES)
    with pytest.raises(PlanError, match=r"expected statistics for criterion='wanda', got None; give those of"):
        swdc.plan(program, 0.5, criterion="wanda")
    for name in ("taylor", "taylor_weight", "fisher"):
        with pytest.raises(PlanError, match=rf"expected statistics with gradients for criterion='{name}'"):
            swdc.plan(program, 0.5, criterion=name, statistics=statistics)
    other = traced(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), image(2, 3))
    with pytest.raises(PlanError, match=r"expected statistics of this program .*got those of another"):
        swdc.plan(other, 0.5, criterion="wanda", statistics=statistics)
    with torch.device("meta"):
        empty = swdc.trace(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)).eval(), torch.randn(2, 3))
    with pytest.raises(PlanError, match="expected tensors with values for calibration"):
        swdc.calibrate(empty, BATCHES)
    with pytest.raises(PlanError, match="expected at least one batch to calibrate with, got none"):
        swdc.calibrate(program, [image(0, *BATCHES[0].shape[1:])])
