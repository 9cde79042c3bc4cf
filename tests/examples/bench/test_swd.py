"""The bench of SWD, on small networks: the naive step finds the same sets and adds the same gradients."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import swdc
from examples.bench.measurements import naive_swd
from examples.bench.measurements import swd_step as bench
from examples.bench.measurements.swd_step import NAIVE, _same, _spread
from examples.bench.networks import trained as networks
from examples.bench.networks.trained import NETWORKS, StemmedResNet, Trainee
from swdc.networks import resnet20
from swdc.networks.resnet import Bottleneck
from tests.examples.bench.support_bench import run_bench

SMALL = {
    "basic": Trainee(partial(resnet20, width=8), partial(networks._images, 16), partial(networks._classes, 10)),
    "bottleneck": Trainee(
        partial(StemmedResNet, Bottleneck, (1, 2), 8), partial(networks._images, 32), partial(networks._classes, 10)
    ),
    "gcn": NETWORKS["gcn"],
}


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "NETWORKS", SMALL)
    monkeypatch.setattr(networks, "NODES", 60)
    monkeypatch.setattr(networks, "EDGES", 200)
    monkeypatch.setattr(networks, "FEATURES", 40)


@pytest.mark.parametrize("name", SMALL)
def test_a_row_for_each_structure(name: str, tmp_path: Path) -> None:
    file = tmp_path / "swd.json"
    options = ("--network", name, "--batch", 4, "--repeats", 1, "--json", file)
    result = run_bench("swd", *options)
    assert result.exit_code == 0, result.output
    rows = json.loads(file.read_text())
    assert [(row["network"], row["structure"], row["batch"]) for row in rows] == [
        (name, "weights", 4), (name, "channels", 4),
    ]  # fmt: skip
    for row in rows:
        assert row["same_set"]
        assert row["plain"] > 0
        assert row["ours_over_naive"] == row["ours"] / row["naive"] > 0
        assert row["ours_over_plain"] == row["ours"] / row["plain"] > 0
        assert row["auto_over_plain"] == row["auto"] / row["plain"] > 0


@pytest.mark.parametrize("structure", ["weights", "channels"])
@pytest.mark.parametrize("name", SMALL)
def test_both_add_the_same_gradient(name: str, structure: str) -> None:
    torch.manual_seed(0)
    model = _spread(SMALL[name].model()).double()
    inputs = tuple(t.double() if t.is_floating_point() else t for t in SMALL[name].inputs(2))
    program = swdc.trace(model, inputs, policy="free")
    swdc.SWD(program, 0.8, structure, a_min=7, a_max=7, steps=1, mu=0.01).step()
    ours = _gradients(model)
    model.zero_grad()
    naive_swd.step(model, NAIVE[structure](model, 0.8), 0.07)
    naive = _gradients(model)
    for parameter, gradient in ours.items():
        torch.testing.assert_close(gradient, naive.get(parameter, torch.zeros_like(gradient)), rtol=1e-12, atol=1e-15)
    assert any(gradient.any() for gradient in ours.values())


def _gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_another_set_is_told() -> None:
    model = _spread(SMALL["basic"].model())
    program = swdc.trace(model, SMALL["basic"].inputs(2), policy="free")
    for structure, naive in NAIVE.items():
        targets = swdc.SWD(program, 0.8, structure, a_min=1, a_max=1, steps=1).targeted()
        assert _same(naive(model, 0.8), targets)
        assert not _same(naive(model, 0.7), targets)
        assert not _same(naive(model, 0.8), targets[1:])


def test_what_is_left_is_what_is_counted() -> None:
    torch.manual_seed(0)
    for name in ("basic", "bottleneck"):
        model = _spread(SMALL[name].model())
        program = swdc.trace(model, SMALL[name].inputs(2), policy="free")
        masks = naive_swd.channels(model, 0.6)
        plan = swdc.SWD(program, 0.6, a_min=1, a_max=1, steps=1).plan()
        gains = {n: model.get_parameter(n).detach().abs() for n in masks if n.endswith("weight")}
        threshold = max(float(gain[masks[n]].max()) for n, gain in gains.items() if masks[n].any())
        left = naive_swd._left_of_resnet(model, lambda norm, t=threshold: int((norm.weight.abs() > t).sum()))
        assert left == swdc.count(swdc.slim(program, plan)).parameters
