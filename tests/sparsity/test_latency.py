"""Plans that save time, by tables that are closed formulas."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, prod
from typing import Any

import numpy as np
import pytest
from torch import nn

import swdc
from swdc.costs.latency import LatencyTable
from swdc.costs.latency.operator_kinds import Layer, Sizes
from swdc.errors import PlanError
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.networks import resnet20
from swdc.sparsity.planning.budgets import Budget
from swdc.sparsity.planning.criteria import Scores, l2
from swdc.sparsity.planning.latency import Latency
from tests.support import conv, image, traced


class Formula(LatencyTable):
    """Times by a function of the operator and its sizes."""

    def __init__(self, ms: Callable[[str, Sizes], float]) -> None:
        self.formula = ms
        self.prepared: list[Layer] = []

    def prepare(self, layers: Any) -> None:
        self.prepared += layers

    def ms(self, layer: Layer, sizes: Sizes) -> float:
        assert layer in self.prepared
        assert all(low <= size <= high for low, size, high in zip(layer.smallest, sizes, layer.largest, strict=True))
        return self.formula(layer.operator, sizes)


def blocks(block: int) -> Formula:
    """Return a table of kernels that compute whole blocks of channels."""
    return Formula(lambda _, sizes: prod(ceil(size / block) * block for size in sizes[-2:]) / 1e4)


PLAIN = blocks(1)


@pytest.fixture(scope="module")
def program() -> Program:
    """Three groups of 64, 32 and 48 channels."""
    return traced(nn.Sequential(conv(3, 64), nn.ReLU(), conv(64, 32), nn.ReLU(), conv(32, 48), nn.ReLU(), conv(48, 2)))


@pytest.fixture(scope="module")
def resnet() -> Program:
    return traced(resnet20(width=16), image(1, 3, 16, 16))


def widths_of(plan: Plan) -> Any:
    return np.array([len(kept) for kept in plan.kept.values()])


def latency(program: Program, table: LatencyTable) -> Latency:
    return Latency(program, table, np.ones(len(program.groups), dtype=np.int64))


@pytest.mark.parametrize("scope", ["global", "group"])
@pytest.mark.parametrize(("round_to", "sparsity"), [(1, 0.5), (4, 0.3), (8, 0.5), (8, 0.7)])
@pytest.mark.parametrize("block", [1, 8, 16])
def test_the_time_is_met_from_below_and_every_cut_saves_time(
    program: Program, resnet: Program, scope: str, round_to: int, sparsity: float, block: int
) -> None:
    for network in (program, resnet):
        table = blocks(block)
        costs = latency(network, table)
        plan = swdc.plan(network, sparsity, budget="latency", scope=scope, round_to=round_to, table=table)
        widths, full = widths_of(plan), np.array([group.width for group in network.groups])
        assert plan.settings["predicted_ms_before"] == costs.full
        assert plan.settings["predicted_ms"] == costs.cost(widths) <= (1 - sparsity) * costs.full * (1 + 1e-9)
        assert ((widths % round_to == 0) | (widths == full)).all()
        for group in np.flatnonzero(widths < full) if scope == "global" else ():
            for more in range(round_to, 32 + 1, round_to):
                wider = widths.copy()
                wider[group] = min(widths[group] + more, full[group])
                assert costs.cost(wider) > max((1 - sparsity) * costs.full, costs.cost(widths))


@pytest.mark.parametrize("round_to", [1, 4, 8])
def test_cuts_end_where_blocks_end(program: Program, round_to: int) -> None:
    plan = swdc.plan(program, 0.6, budget="latency", round_to=round_to, table=blocks(16))
    assert (widths_of(plan) % 16 == 0).all()
    assert plan.removed_channels > 0


def test_layers_that_take_no_time_are_not_cut(program: Program) -> None:
    table = Formula(lambda _, sizes: float(sizes[2]) if sizes[1] == 3 else 1.0)  # only the first takes time
    plan = swdc.plan(program, 0.5, budget="latency", round_to=8, table=table)
    assert widths_of(plan).tolist() == [24, 32, 48]
    assert plan.settings["predicted_ms"] == 24 + 3


def test_channels_with_the_least_score_for_their_time_are_removed_first(program: Program) -> None:
    def scores(program: Program, groups: Any) -> Scores:
        return [np.full(g.width, 10.0 if g.width == 64 else 1.0) for g in groups]

    linear = Formula(lambda _, sizes: float(sum(sizes)))
    plan = swdc.plan(program, 0.1, budget="latency", criterion=scores, round_to=8, table=linear)
    assert widths_of(plan)[0] == 64
    assert plan.removed_channels > 0


def test_a_slow_group_is_not_cut_to_almost_nothing(program: Program) -> None:
    slow = Formula(lambda _, sizes: prod(sizes) * (9.0 if 32 in sizes or sizes[2] == 2 else 1.0))
    plan = swdc.plan(program, 0.5, budget="latency", criterion="uniform", round_to=4, table=slow)
    assert (widths_of(plan) >= [8, 8, 8]).all()


def test_more_score_stays_than_in_a_macs_plan_of_the_same_time(resnet: Program) -> None:
    uneven = Formula(lambda _, sizes: prod(sizes) / (1.0 + 0.1 * sizes[-1]))  # wide layers are more efficient
    costs, scores = latency(resnet, uneven), l2(resnet, resnet.groups)

    def score(plan: Plan) -> float:
        kept = zip(scores, plan.kept.values(), strict=True)
        return float(sum(s[list(channels)].sum() for s, channels in kept if s is not None))

    by_macs = swdc.plan(resnet, 0.6, budget="macs", round_to=4)
    share = costs.cost(widths_of(by_macs)) / costs.full
    by_time = swdc.plan(resnet, 1 - share, budget="latency", round_to=4, table=uneven)
    assert by_time.settings["predicted_ms"] <= costs.cost(widths_of(by_macs)) * (1 + 1e-9)
    assert score(by_time) > 1.02 * score(by_macs)


def test_time_that_does_not_depend_on_widths_cannot_be_saved(program: Program) -> None:
    with pytest.raises(PlanError, match=r"at most 0\.0% of the latency can be removed .* lower round_to"):
        swdc.plan(program, 0.5, budget="latency", round_to=8, table=Formula(lambda *_: 1.0))


def test_a_sparsity_of_zero_removes_nothing(program: Program) -> None:
    assert swdc.plan(program, 0.0, budget="latency", table=PLAIN).removed_channels == 0


def test_ignored_layers_stay_whole(program: Program) -> None:
    plan = swdc.plan(program, 0.4, budget="latency", round_to=8, ignore="0", table=PLAIN)
    assert widths_of(plan)[0] == 64


def test_scores_may_be_negative_or_all_zero(program: Program) -> None:
    for value in (-1.0, 0.0):
        found = swdc.plan(
            program, 0.5, budget="latency", criterion=lambda _, gs, v=value: [np.full(g.width, v) for g in gs],
            round_to=8, table=blocks(8),
        )  # fmt: skip
        assert found.settings["predicted_ms"] <= 0.5 * found.settings["predicted_ms_before"]


def test_times_are_for_the_batch_of_the_example() -> None:
    model = nn.Sequential(conv(3, 16), nn.ReLU(), conv(16, 2))
    per_image = Formula(lambda _, sizes: float(prod(sizes)))
    for batch in (1, 4):
        swdc.plan(traced(model, image(batch, 3, 8, 8)), 0.5, budget="latency", table=per_image)
        assert per_image.prepared[-1]["batch"] == batch


def test_a_plan_with_latency_is_plain_data(program: Program) -> None:
    plan = swdc.plan(program, 0.5, budget="latency", round_to={"*": 8}, table=PLAIN)
    assert Plan.from_dict(plan.to_dict()).to_dict() == plan.to_dict()
    assert swdc.slim(program, plan).get_submodule("0").out_channels == len(plan.kept["0"])
    assert Budget(program, "macs").cost(widths_of(plan)) < Budget(program, "macs").full
