"""Residual sums whose two sides keep channels of their own."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from examples.bench.measurements.sums import settle_
from swdc.errors import PlanError, TraceError, TransplantError
from swdc.ir.differences import relative_error
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.networks import ResNet, resnet20
from swdc.networks.resnet import Bottleneck
from tests.support import (
    Function,
    assert_same,
    assert_slims,
    certified,
    conv,
    image,
    operators,
    plan_of,
    random_plan,
    randomise,
)


def free(model: nn.Module, example: torch.Tensor | None = None, seed: int = 0) -> Program:
    given = image(2, 3, 32, 32) if example is None else example
    return swdc.trace(randomise(model, seed).eval(), given, policy="free")


def zeroed(program: Program, seed: int = 0) -> Plan:
    """Return a plan that removes 50 to 95 % of every group, each at places of its own."""
    draw = random.Random(seed)
    kept = {}
    for group in program.groups:
        number = max(1, round(group.width * draw.uniform(0.05, 0.5)))
        kept[group.name] = tuple(sorted(draw.sample(range(group.width), number)))
    return plan_of(program, kept)


def counted(model: ResNet, kept: dict[str, int]) -> int:
    """Count the parameters that are left, by the formulas of the reference.

    Filters read what the norm before them keeps, and write what their own norm keeps; those before a sum write what the
    norm after it keeps.
    """
    stream = kept["conv1"]
    total = 3 * 9 * stream + 2 * stream
    for number, block in enumerate(model.blocks):
        inside = [name for name in ("conv1", "conv2", "conv3") if hasattr(block, name)]
        width, outputs = stream, kept[f"blocks.{number}.{inside[-1]}"]
        for name in inside:
            written = kept[f"blocks.{number}.{name}"]
            total += width * written * getattr(block, name).kernel_size[0] ** 2 + 2 * written
            width = written
        total += 2 * outputs + (stream * outputs + 2 * outputs if isinstance(block.shortcut, nn.Sequential) else 0)
        stream = outputs
    return total + stream * model.fc.out_features + model.fc.out_features


class Chain(nn.Module):
    """Two sums in a row that one batch norm decides over, of a shortcut that others read as well."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.one, self.two = conv(3, 8), nn.BatchNorm2d(8), conv(8, 8), conv(8, 8)
        self.last, self.head = nn.BatchNorm2d(8), conv(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(self.stem(x)))
        logits: torch.Tensor = self.head(torch.relu(self.last(self.one(x) + x + self.two(x))))
        return logits


@pytest.mark.parametrize(
    ("model", "side"),
    [(resnet20(width=16), 16), (ResNet(Bottleneck, [1, 2, 1, 1], 16, 10, 3, True), 16)],
    ids=["basic", "bottlenecks"],
)
def test_every_block_keeps_a_set_of_its_own(model: ResNet, side: int, tmp_path: Path) -> None:
    program = free(model, image(2, 3, side, side))
    norms = [name for name, _ in model.named_modules() if name.rpartition(".")[2].startswith("bn")]
    assert len(program.groups) == len(norms) - len(model.blocks)  # those before the sums decide nothing
    plan = zeroed(program)
    settle_(program, plan, image(2, 3, side, side))
    _, slim = certified(program, plan)
    kept = {name: len(channels) for name, channels in plan.kept.items()}
    assert swdc.count(slim).parameters == counted(model, kept)
    assert {"aten.slice.Tensor", "aten.constant_pad_nd.default"} <= set(operators(slim))
    single, x = slim.clone(torch.float32), image(5, 3, side, side)
    rounding = relative_error(slim(x), single(x.float()))  # a deep network of few channels amplifies it
    report = swdc.export_onnx(single, tmp_path / "slim.onnx", tolerance=1e-3)
    assert report.max_relative_error < 10 * rounding < 1e-2


def test_a_tied_program_has_fewer_groups_and_no_other_operators() -> None:
    program = swdc.trace(randomise(resnet20()).eval(), image(2, 3, 32, 32))
    _, slim = certified(program)
    assert len(program.groups) < len(free(resnet20()).groups)
    assert operators(slim) == operators(program)


def test_one_position_is_spread_over_the_others() -> None:
    model = Function(
        lambda own, x: own.head((lambda y: y[:, 1:] + y[:, :1])(own.stem(x))),
        stem=nn.Linear(3, 8),
        head=nn.Linear(8, 2),
    )
    assert_slims(model, image(2, 6, 3))


def test_one_norm_decides_over_a_chain_of_sums() -> None:
    program = free(Chain(), image(2, 3, 8, 8))
    assert [group.name for group in program.groups] == ["stem", "one"]
    _, slim = certified(program, plan_of(program, {"stem": (0, 1, 2, 5), "one": (2, 4, 5, 7)}))
    routed = [n for n in slim.graph.nodes if str(n.target) == "aten.slice.Tensor"]
    assert len(routed) == 1  # two of the channels are shared, and stand in a row
    assert slim.get_submodule("one").weight.shape[:2] == (4, 4)


def test_a_shortcut_without_shared_channels_vanishes() -> None:
    program = free(Chain(), image(2, 3, 8, 8))
    _, slim = certified(program, plan_of(program, {"stem": (0, 1), "one": (2, 3, 4)}))
    assert operators(slim).count("aten.add.Tensor") == 1


def test_sums_without_a_norm_stay_tied() -> None:
    program = free(resnet20(inserted_batchnorm=False))
    tied = swdc.trace(randomise(resnet20(inserted_batchnorm=False)).eval(), image(2, 3, 32, 32))
    assert [g.width for g in program.groups] == [g.width for g in tied.groups]
    inserted = swdc.insert_batchnorm(program)
    assert inserted.facts.policy == "free"
    assert len(inserted.groups) > len(program.groups)
    certified(inserted)


def test_a_shortcut_that_is_not_zero_when_dead_keeps_its_channels() -> None:
    class Shifted(Chain):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.sigmoid(self.first(self.stem(x)))
            logits: torch.Tensor = self.head(torch.relu(self.last(self.one(x) + x)))
            return logits

    program = free(Shifted(), image(2, 3, 8, 8))
    assert [group.name for group in program.groups] == ["one"]
    assert any("its dead value is not a constant" in str(f.reason) for f in program.frozen)
    certified(program)


def test_a_plan_carries_its_policy() -> None:
    model = randomise(resnet20()).eval()
    program = swdc.trace(model, image(2, 3, 32, 32))
    plan = swdc.plan(program, 0.5, criterion="gamma", policy="free")
    assert plan.policy == "free"
    slim = swdc.slim(program, Plan.from_dict(plan.to_dict()))
    assert slim.facts.policy == "free"
    assert swdc.verify(swdc.mask(program, plan), slim).exact
    assert program.facts.policy == "tied"
    again = swdc.plan(swdc.trace(model, image(2, 3, 32, 32), policy="free"), 0.5, criterion="gamma")
    assert again == plan


def test_selective_weight_decay_acts_on_the_sets_of_each_block() -> None:
    program = free(resnet20())
    swd = swdc.SWD(program, target=0.8, a_min=1.0, a_max=10.0, steps=10)
    plan = swd.plan()
    assert set(plan.kept) == {group.name for group in program.groups}
    _, slim = certified(program, plan)
    assert swdc.count(slim).parameters <= 0.2 * swdc.count(program).parameters


def test_what_is_saved_stays_free(tmp_path: Path) -> None:
    program = free(Chain(), image(2, 3, 8, 8))
    slim = swdc.slim(program, random_plan(program))
    swdc.save(slim, tmp_path / "slim")
    loaded = swdc.load(tmp_path / "slim")
    assert loaded.facts.policy == "free"
    assert torch.equal(loaded(image(2, 3, 8, 8)), slim(image(2, 3, 8, 8)))


def test_bad_policies_are_refused() -> None:
    model = randomise(Chain()).eval()
    with pytest.raises(TraceError, match=r"expected policy as one of \['tied', 'free'\], got 'loose'"):
        swdc.trace(model, image(2, 3, 8, 8), policy="loose")
    program = swdc.trace(model, image(2, 3, 8, 8))
    with pytest.raises(PlanError, match="expected a policy for residual sums"):
        swdc.plan(program, 0.5, policy="loose")
    freed = swdc.trace(model, image(2, 3, 8, 8), policy="free")
    slim = swdc.slim(freed, plan_of(freed, {"stem": (0, 1, 2), "one": (2, 3)}))
    with pytest.raises(TransplantError, match="expected residual sums whose sides keep the same channels"):
        swdc.transplant(slim, model)


def test_a_branch_with_nothing_left_vanishes_and_its_block_becomes_the_norm(tmp_path: Path) -> None:
    model = resnet20(width=8)
    program = free(model, image(2, 3, 16, 16))
    inner = ["blocks.1.conv1", "blocks.5.conv1"]
    streams = {g.name: range(2, g.width) for g in program.groups if g.name.endswith("conv2")}
    plan = plan_of(program, {**dict.fromkeys(inner, ()), **streams})
    masked, slim = certified(program, plan)
    assert all(not slim.get_parameter(f"{name}.weight").any() for name in inner)
    deployed = swdc.deploy(slim)
    x = image(3, 3, 16, 16, seed=2)
    assert_same(masked(x), deployed(x), 1e-12)
    for name in inner:
        assert not [
            n for n, _ in deployed.named_parameters() if n.startswith(name.removesuffix("1")) and "bn3" not in n
        ]
    assert swdc.export_onnx(deployed.clone(torch.float32), tmp_path / "slim.onnx").max_relative_error < 1e-4


def test_a_tied_group_cannot_be_emptied() -> None:
    program = swdc.trace(randomise(Chain()).eval(), image(2, 3, 8, 8))
    with pytest.raises(PlanError, match="expected between 1 and 8 distinct channels"):
        swdc.slim(program, plan_of(program, {program.groups[0].name: ()}))


def shortcut(function: Any) -> nn.Module:
    """Return a block whose shortcut is a function of the stem, and whose batch norm decides over the sum."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.stem(x)
        return m.head(torch.relu(m.norm(function(y) + m.inner(torch.relu(y)))))

    return Function(forward, stem=conv(3, 8), inner=conv(8, 8), norm=nn.BatchNorm2d(8), head=conv(8, 3, 1))


@pytest.mark.parametrize(
    "function", [lambda y: y.sort(1)[0], lambda y: torch.roll(y, 1), lambda y: torch.fft.fft(y, dim=1).real]
)
def test_a_shortcut_without_labels_is_brought_to_the_kept_channels(function: Any) -> None:
    program = free(shortcut(function), image(2, 3, 6, 6))
    masked, slim = certified(program)
    assert "aten.index_select.default" in operators(slim)
    assert_same(masked(image(5, 3, 6, 6)), slim(image(5, 3, 6, 6)))


@pytest.mark.parametrize("function", [lambda y: y, lambda y: y.flip(2), lambda y: torch.sin(y)])
def test_a_slim_program_with_free_sums_is_cut_again(function: Any) -> None:
    _, slim = certified(free(shortcut(function), image(2, 3, 6, 6)), seed=1)
    certified(slim, seed=3)


@pytest.mark.parametrize("alpha", [1, 2])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kept", [(0,), (2,), (0, 1), (0, 2), (1, 3), (4, 5)])
def test_a_sum_of_two_shortcuts_may_have_nothing_left_of_one_or_both(
    alpha: int, turned: bool, kept: tuple[int, ...]
) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        one, other = m.one(x), m.two(x)
        total = torch.add(*((other, one) if turned else (one, other)), alpha=alpha)
        return m.head(m.norm(total)) + m.side(one) + m.beside(other)

    program = free(
        Function(
            forward,
            one=conv(3, 6),
            two=conv(3, 6),
            norm=nn.BatchNorm2d(6),
            head=conv(6, 2),
            side=conv(6, 2),
            beside=conv(6, 2),
        ),
        image(2, 3, 5, 5),
    )
    names = {name: group.name for name in ("one", "two", "norm") for group in program.groups if name in group.name}
    certified(program, plan_of(program, {names["one"]: (0, 1), names["two"]: (2, 3), names["norm"]: kept}))
