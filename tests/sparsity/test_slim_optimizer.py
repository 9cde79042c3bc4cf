"""Optimizers that go on after a cut."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.ir.groups import WRITES
from swdc.ir.program import Program
from swdc.rewriting.cutting import cut_tensor, kept_by
from tests.support import conv, image, plan_of, traced

Make = Callable[[Any], torch.optim.Optimizer]
KEPT = {"0": (0, 2, 3), "3": (1, 4)}
OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1, foreach=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.5, centered=True),
}


def network() -> Program:
    first = conv(
        3, 4, bias=False
    )  # before a batch norm, the gradient of a bias is rounding, which Adam divides by itself
    layers = (first, nn.BatchNorm2d(4), nn.ReLU(), conv(4, 6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 64, 3))
    torch.manual_seed(0)
    return traced(nn.Sequential(*layers)).train()


def train(program: Program, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        optimizer.zero_grad()
        output = program(image(5, 3, 8, 8, seed=seed))
        nn.functional.cross_entropy(output, torch.arange(5) % 3).backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_as_that_of_the_masked_program(name: str) -> None:
    program = network()
    optimizer = OPTIMIZERS[name](program.parameters())
    train(program, optimizer, range(4))
    plan = plan_of(program, KEPT)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    carried = swdc.slim_optimizer(optimizer, program, slim)
    other = OPTIMIZERS[name](masked.parameters())
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for group in program.groups:
        gone = [c for c in range(group.width) if c not in KEPT[group.name]]
        for member in group.with_role(WRITES):  # what is removed has no momentum
            for value in other.state[masked.tensors[member.tensor]].values():
                if isinstance(value, torch.Tensor) and value.dim():
                    value.index_fill_(member.dim, torch.from_numpy(member.indices[gone].ravel()), 0.0)
    kept = kept_by(program, KEPT)
    train(masked, other, range(10, 14))
    train(slim, carried, range(10, 14))
    for key, tensor in slim.tensors.items():
        expected = cut_tensor(masked.tensors[key], key, kept)
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, expected, rtol=1e-9, atol=1e-11, check_dtype=True)
    plain = OPTIMIZERS[name](swdc.slim(program, plan).parameters())
    assert not plain.state_dict()["state"]
    assert carried.state_dict()["state"].keys() == optimizer.state_dict()["state"].keys()


def test_groups_names_settings_and_steps_stay() -> None:
    program = network()
    first = [(name, p) for name, p in program.named_parameters() if name.startswith("3.")]
    rest = [(name, p) for name, p in program.named_parameters() if not name.startswith("3.")]
    optimizer = torch.optim.AdamW([{"params": rest}, {"params": first, "lr": 0.5, "mine": "kept"}], lr=0.01)
    train(program, optimizer, range(2))
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    before = copy.deepcopy(optimizer.state_dict())
    slim = swdc.slim(program, plan_of(program, KEPT))
    carried = swdc.slim_optimizer(optimizer, program, slim)
    assert type(carried) is torch.optim.AdamW
    assert [group["lr"] for group in carried.param_groups] == [0.01, 0.5]
    assert carried.param_groups[1]["mine"] == "kept"
    assert carried.param_groups[1]["param_names"] == ["3.weight", "3.bias"]
    names = ("3.weight", "3.bias")
    assert all(p is slim.get_parameter(n) for p, n in zip(carried.param_groups[1]["params"], names, strict=True))
    assert float(carried.state[slim.get_parameter("3.weight")]["step"]) == 2
    carried.param_groups[0]["lr"] = 7.0
    train(slim, carried, range(1))
    after = optimizer.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for number, state in after["state"].items():
        assert all(
            torch.equal(torch.as_tensor(v), torch.as_tensor(before["state"][number][k])) for k, v in state.items()
        )
    assert scheduler.optimizer is optimizer


def test_a_bias_that_a_cut_made_goes_with_its_weight() -> None:
    program = traced(nn.Sequential(nn.Linear(3, 5), nn.Sigmoid(), nn.Linear(5, 2, bias=False)), image(2, 3))
    optimizer = torch.optim.SGD(
        [
            {"params": [program.get_parameter("0.weight"), program.get_parameter("0.bias")]},
            {"params": [program.get_parameter("2.weight")], "lr": 0.5},
        ],
        lr=0.1,
    )
    slim = swdc.slim(program, plan_of(program, {"0": (0, 2)}))
    carried = swdc.slim_optimizer(optimizer, program, slim)
    assert any(p is slim.get_parameter("2.bias") for p in carried.param_groups[1]["params"])
    assert len(carried.param_groups[0]["params"]) == 2


def test_what_cannot_be_carried_over() -> None:
    program = network()
    slim = swdc.slim(program, plan_of(program, KEPT))
    other = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    with pytest.raises(
        PlanError, match="expected an optimizer of the parameters of the program, got one with 1 others"
    ):
        swdc.slim_optimizer(other, program, slim)
    optimizer = torch.optim.SGD(program.parameters(), lr=0.1)
    with pytest.raises(PlanError, match=r"expected a slim program as made by swdc.slim"):
        swdc.slim_optimizer(optimizer, program, program)
    with pytest.raises(PlanError, match="expected a plan of this program"):
        swdc.slim_optimizer(optimizer, traced(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), image(2, 3)), slim)
    factored = torch.optim.Adafactor(program.parameters(), lr=0.1)
    train(program, factored, range(1))
    with pytest.raises(PlanError, match=r"expected a state of single numbers or of the shape of the parameter"):
        swdc.slim_optimizer(factored, program, slim)
    with pytest.raises(PlanError, match=r"got LBFGS with some in '_params'"):
        swdc.slim_optimizer(torch.optim.LBFGS(program.parameters()), program, slim)
