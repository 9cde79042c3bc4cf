"""Branches of programs whose weights have no values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.analysis.branches import branches_of
from swdc.analysis.zeros import zeros_after
from swdc.ir.program import Program
from swdc.rewriting.branches import layers_of
from tests.sparsity.test_blocks import TOKENS, Block, gated, normed, parallel, residual
from tests.support import Function, assert_same, conv, image, randomise

Case = tuple[Callable[[], nn.Module], torch.Tensor]


def linears(forward: Any) -> Case:
    def make() -> nn.Module:
        parts = {"one": nn.Linear(8, 8), "two": nn.Linear(8, 8), "head": nn.Linear(8, 3)}
        return Function(forward, **parts, gain=nn.Parameter(torch.rand(8))).double()

    return make, TOKENS


def images() -> nn.Module:
    parts = {"stem": conv(3, 4), "conv1": conv(4, 4), "bn1": nn.BatchNorm2d(4), "conv2": conv(4, 6)}
    parts |= {"bn2": nn.BatchNorm2d(6), "short": conv(4, 6, 1), "head": conv(6, 2)}
    return Function(residual, **parts).double()


def transformer() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), Block(), Block(), nn.Linear(8, 3)).double()


def skeleton(case: Case) -> tuple[Program, Program]:
    """Return the program of a randomised model, and one of the same model without values."""
    make, x = case
    torch.manual_seed(0)
    program = swdc.trace(randomise(make()).eval(), x)
    return program, swdc.trace_skeleton(make, x, program.tensors)


FOUND: dict[str, Case] = {
    "a transformer": (transformer, TOKENS),
    "maps": (images, image(2, 3, 8, 8)),
    "a norm that is written out": linears(normed),
    "two writers": linears(parallel),
    "a reshape to sizes of the input": linears(
        lambda m, x: m.head(x + m.one(x).view(x.shape[0] * x.shape[1], 8).view(x.shape))
    ),
    "a batch norm of the branch": (
        lambda: Function(
            lambda m, x: m.head(x + m.norm(m.one(x).transpose(1, 2)).transpose(1, 2) * 2),
            one=nn.Linear(8, 8), norm=nn.BatchNorm1d(8), head=nn.Linear(8, 3),
        ).double(), TOKENS,
    ),
}  # fmt: skip
NOT_FOUND: dict[str, Case] = {
    "a constant after the layer": linears(lambda m, x: m.head(x + torch.sigmoid(m.one(x)))),
    "a shift after the layer": linears(lambda m, x: m.head(x + (m.one(x) + m.gain))),
    "a layer that is called twice": linears(lambda m, x: m.head(x + m.one(m.one(x)))),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_branches_are_those_of_the_program_with_values(name: str) -> None:
    program, empty = skeleton(FOUND[name])
    assert branches_of(empty)
    assert branches_of(empty) == branches_of(program)
    assert layers_of(empty) == layers_of(program)


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_is_not_zero_is_no_branch(name: str) -> None:
    assert not branches_of(skeleton(NOT_FOUND[name])[1])


def test_numbers_that_pick_are_not_known() -> None:
    """Which rows an index takes is not known without values, so that the experts are left alone."""

    def make() -> nn.Module:
        parts = {"norm": nn.LayerNorm(8), "one": nn.Linear(8, 1), "two": nn.Linear(8, 8), "head": nn.Linear(8, 3)}
        return Function(gated, **parts, experts=nn.Parameter(torch.randn(2, 8, 8))).double()

    program, empty = skeleton((make, TOKENS))
    assert list(branches_of(program)) == ["experts"]
    assert set(branches_of(empty)) <= {"experts"}


def test_modes_and_random_numbers_are_as_before() -> None:
    _, empty = skeleton((transformer, TOKENS))
    empty.train()
    state = torch.get_rng_state()
    node = next(node for node in empty.graph.nodes if node.op == "call_module")
    assert node in zeros_after(empty, {node})
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in empty.modules())


def test_depth_and_width_of_a_checkpoint_go_tensor_by_tensor(tmp_path: Path) -> None:
    program, empty = skeleton((transformer, TOKENS))
    order = {name: number for number, name in enumerate(reversed(branches_of(program)))}

    def criterion(program: Program, names: list[str], statistics: Any) -> list[int]:
        return [order[name] for name in names]

    plans = []
    for one, weights in ((program, None), (empty, program.tensors)):
        depth = swdc.plan(one, 0.25, "blocks", criterion, structure="blocks")
        plans.append(swdc.plan(one, 0.5, "parameters", after=depth, weights=weights))
    assert plans[0] == plans[1]
    assert plans[0].branches == ("2.down",)
    assert plans[0].removed_channels
    swdc.slim_checkpoint(empty, plans[1], program.tensors, tmp_path / "slim")
    loaded, slim = swdc.load(tmp_path / "slim"), swdc.slim(program, plans[0])
    assert loaded.tensors.keys() == slim.tensors.keys()
    assert_same(slim(TOKENS), loaded(TOKENS))
    assert swdc.verify(swdc.mask(program, plans[0]), loaded).exact
