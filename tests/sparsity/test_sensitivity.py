import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.sparsity.planning.sensitivity import GroupSensitivity

X = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))


def program() -> swdc.Program:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 2))
    return swdc.trace(model.eval(), X[:2])


def closeness(dense: swdc.Program):
    wanted = dense(X).detach()
    return lambda model: -float((model(X).detach() - wanted).square().mean())


def test_each_fall_is_that_of_a_mask_of_the_least_channels():
    dense = program()
    metric = closeness(dense)
    found = swdc.sensitivity(dense, metric, shares=(0.25, 0.5))
    assert list(found.groups) == [group.name for group in dense.groups] == ["0", "2"]
    assert found.metric == 0.0
    for name, group in found.groups.items():
        for share, fall, saved in zip(found.shares, group.falls, group.saved, strict=True):
            plan = swdc.plan(dense, {name: share})
            assert fall == pytest.approx(-metric(swdc.mask(dense, plan))) != 0
            slim = swdc.slim(dense, plan)
            assert saved == pytest.approx(1 - swdc.count(slim).parameters / swdc.count(dense).parameters)


def test_weights_are_falls_over_savings_and_zero_leaves_scores_as_they_are():
    groups = {"a": GroupSensitivity((0.2,), (0.1,)), "b": GroupSensitivity((0.1,), (0.2,))}
    found = swdc.Sensitivity(1.0, "parameters", (0.5,), groups)
    assert found.weights(1.0) == pytest.approx({"a": 2.0, "b": 0.5})
    assert found.weights(0.5) == pytest.approx({"a": 2**0.5, "b": 0.5**0.5})
    assert found.weights(0.0) == {"a": 1.0, "b": 1.0}
    timed = swdc.Sensitivity(1.0, "latency", (0.5,), groups)
    assert timed.weights(1.0) == pytest.approx({"a": 2**0.5, "b": 0.5**0.5})


def test_falls_too_small_to_be_told_from_nothing_count_alike():
    groups = {name: GroupSensitivity((fall,), (0.1,)) for name, fall in {"a": 1.0, "b": 0.01, "c": -0.3}.items()}
    weights = swdc.Sensitivity(1.0, "parameters", (0.5,), groups).weights(1.0)
    assert weights["b"] == weights["c"] == pytest.approx(weights["a"] / 20)
    flat = {name: GroupSensitivity((0.0,), (0.1,)) for name in "ab"}
    assert swdc.Sensitivity(1.0, "parameters", (0.5,), flat).weights(1.0) == {"a": 1.0, "b": 1.0}


def test_a_plan_spares_the_group_that_is_sensitive():
    dense = program()
    groups = {"0": GroupSensitivity((0.9,), (0.1,)), "2": GroupSensitivity((0.1,), (0.1,))}
    found = swdc.Sensitivity(1.0, "parameters", (0.5,), groups)
    plain = swdc.plan(dense, 0.4, "parameters", found.criterion(exponent=0))
    assert plain.kept == swdc.plan(dense, 0.4, "parameters", "l2").kept
    spared = swdc.plan(dense, 0.4, "parameters", found.criterion(exponent=1.0))
    assert len(spared.kept["0"]) > len(plain.kept["0"])
    assert len(spared.kept["2"]) < len(plain.kept["2"])
    assert spared.settings["criterion"] == "l2 x sensitivity^1"


def test_a_channel_of_a_narrow_group_stays_and_a_single_channel_is_not_measured():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3), nn.ReLU(), nn.Linear(3, 1), nn.ReLU(), nn.Linear(1, 2))
    dense = swdc.trace(model.eval(), X[:2])
    found = swdc.sensitivity(dense, closeness(dense), shares=(0.5, 0.9), progress=False)
    assert list(found.groups) == ["0"]
    assert found.groups["0"].falls[0] == found.groups["0"].falls[1], "two of three channels go for either share"


def test_criteria_that_read_statistics_get_them():
    dense = program()
    statistics = swdc.calibrate(dense, [X], progress=False)
    found = swdc.sensitivity(dense, closeness(dense), criterion="wanda", statistics=statistics, progress=False)
    weighed = found.criterion("wanda")
    assert swdc.plan(dense, 0.5, criterion=weighed, statistics=statistics).removed_channels == 10
    with pytest.raises(PlanError, match="expected statistics"):
        swdc.plan(dense, 0.5, criterion=weighed)


def test_ignored_groups_are_not_measured_and_the_program_stays_as_it_is():
    dense = program().train()
    before = {name: tensor.clone() for name, tensor in dense.tensors.items()}
    modes: list[bool] = []

    def metric(model: nn.Module) -> float:
        modes.append(model.training)
        return float(torch.rand(()))

    state = torch.get_rng_state()
    found = swdc.sensitivity(dense, metric, ignore="0", progress=False)
    assert list(found.groups) == ["2"]
    assert modes == [False] * 4
    assert found.groups["2"].falls == (0.0, 0.0, 0.0), "the random state is the same at every measurement"
    assert dense.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], tensor) for name, tensor in dense.tensors.items())


def test_a_run_that_was_killed_goes_on(tmp_path: Path):
    dense = program()
    inner, calls = closeness(dense), []

    def metric(model: nn.Module) -> float:
        calls.append(model)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return inner(model)

    with pytest.raises(KeyboardInterrupt):
        swdc.sensitivity(dense, metric, folder=tmp_path)
    found = swdc.sensitivity(dense, metric, folder=tmp_path)
    assert len(calls) == 6 + 3, "one group and the whole program were kept"
    assert found == swdc.sensitivity(dense, metric, folder=tmp_path)
    assert len(calls) == 9
    with pytest.raises(PlanError, match="one whose budget, shares differ"):
        swdc.sensitivity(dense, metric, budget="macs", shares=(0.5,), folder=tmp_path)
    (tmp_path / "sensitivity.json").write_text("{}")
    with pytest.raises(PlanError, match="got another file"):
        swdc.sensitivity(dense, metric, folder=tmp_path)


def test_it_is_plain_data_and_back():
    found = swdc.sensitivity(program(), lambda model: float(model(X).sum()), progress=False)
    assert swdc.Sensitivity.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert "75%" in str(found)
    with pytest.raises(PlanError, match="to_dict"):
        swdc.Sensitivity.from_dict({"metric": 1.0})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"shares": ()}, "shares between 0 and 1"),
        ({"shares": (1.0,)}, "shares between 0 and 1"),
        ({"budget": "watts"}, "expected a budget"),
        ({"criterion": "taylor"}, "expected statistics"),
        ({"metric": lambda model: np.ones(2)}, "metric as a function of a program"),
        ({"metric": 3}, "expected metric as a function"),
        ({"seed": -1}, "seed"),
        ({"folder": "x" * 5000}, "got another file"),
    ],
)
def test_bad_arguments_are_refused(changed, message):
    with pytest.raises(PlanError, match=message):
        swdc.sensitivity(**{"program": program(), "metric": lambda model: 1.0, "progress": False, **changed})
