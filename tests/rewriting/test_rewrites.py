"""Inserting norms, masking and slimming, as a user does it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import swdc
from swdc.ir.program import Program
from tests.support import assert_equal, assert_same, conv, image, plan_of, random_plan, traced


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = conv(3, 6), nn.BatchNorm2d(6)
        self.body, self.norm_body = conv(6, 6), nn.BatchNorm2d(6)
        self.head = nn.Linear(6, 3)
        self.unused = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.norm_body(self.body(x)) + x)
        result: torch.Tensor = self.head(x.mean((2, 3)))
        return result


@pytest.fixture
def program() -> Program:
    return traced(Residual())


def test_a_mask_zeroes_what_writes_a_channel_and_nothing_else(program: Program) -> None:
    kept = [0, 2, 5]
    name = program.groups[0].name
    masked = swdc.mask(program, plan_of(program, {name: kept}))
    layers, parts = ("stem", "norm", "body", "norm_body"), ("weight", "bias")
    writers = {f"{layer}.{part}" for layer in layers for part in parts}
    before = program.state_dict()
    for key, value in masked.state_dict().items():
        if key not in writers:
            assert torch.equal(value, before[key]), key
            continue
        assert torch.equal(value[kept], before[key][kept])
        assert value[[1, 3, 4]].abs().max() == 0
        assert before[key][[1, 3, 4]].abs().max() > 0


def test_masked_and_slim_share_nothing_with_the_program(program: Program) -> None:
    plan = random_plan(program)
    programs = [program, swdc.mask(program, plan), swdc.slim(program, plan)]
    pointers = [{t.data_ptr() for t in p.tensors.values()} for p in programs]
    assert len(set.union(*pointers)) == sum(len(p) for p in pointers)


def test_a_plan_that_removes_nothing_changes_no_bit(program: Program) -> None:
    plan = swdc.plan(program, 0)
    expected = program(image(3, 3, 8, 8))
    assert_equal(expected, swdc.mask(program, plan)(image(3, 3, 8, 8)))
    assert_same(expected, swdc.slim(program, plan)(image(3, 3, 8, 8)), 1e-14)


def test_slimming_the_program_or_its_masked_copy_is_the_same(program: Program) -> None:
    plan = random_plan(program)
    one, other = swdc.slim(program, plan), swdc.slim(swdc.mask(program, plan), plan)
    assert one.hash() == other.hash()
    assert one.state_dict().keys() == other.state_dict().keys()
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_a_slim_program_holds_the_kept_slices_under_their_names(program: Program) -> None:
    kept = [1, 2, 4]
    slim = swdc.slim(program, plan_of(program, {program.groups[0].name: kept}))
    before = program.state_dict()
    assert list(slim.state_dict()) == list(before)
    assert torch.equal(slim.get_parameter("unused.weight"), before["unused.weight"])
    assert torch.equal(slim.get_parameter("stem.weight"), before["stem.weight"][kept])
    assert torch.equal(slim.get_parameter("body.weight"), before["body.weight"][kept][:, kept])
    assert torch.equal(slim.get_buffer("norm.running_var"), before["norm.running_var"][kept])
    body, norm, head = (slim.get_submodule(path) for path in ("body", "norm", "head"))
    for module, sizes in (
        (body, ("in_channels", "out_channels")),
        (norm, ("num_features",)),
        (head, ("in_features",)),
    ):
        assert {getattr(module, size) for size in sizes} == {3}


@pytest.mark.parametrize("training", [False, True])
def test_modes_and_what_is_fixed_are_kept(program: Program, training: bool) -> None:
    program.train(training)
    program.get_submodule("norm").train(not training)
    program.get_parameter("stem.weight").requires_grad_(False)
    plan = random_plan(program)
    for result in (swdc.mask(program, plan), swdc.slim(program, plan)):
        assert result.training is training
        assert result.get_submodule("norm").training is not training
        assert result.get_submodule("norm_body").training is training
        assert not result.get_parameter("stem.weight").requires_grad
        assert result.get_parameter("body.weight").requires_grad


def test_a_slim_program_trains(program: Program) -> None:
    slim = swdc.slim(program, random_plan(program)).train()
    optimizer = torch.optim.Adam(slim.parameters(), lr=1e-2)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (slim(image(4, 3, 8, 8)) - 1).square().mean()
        loss.backward()
        assert all(p.grad is not None for p in slim.read_parameters().values())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_slim_program_can_be_slimmed_again(program: Program) -> None:
    once = swdc.slim(program, plan_of(program, {program.groups[0].name: [0, 1, 3, 5]}))
    plan = plan_of(once, {once.groups[0].name: [1, 3]})
    twice = swdc.slim(once, plan)
    at_once = swdc.slim(program, plan_of(program, {program.groups[0].name: [1, 5]}))
    assert_equal(at_once(image(2, 3, 8, 8)), twice(image(2, 3, 8, 8)))
    assert swdc.verify(swdc.mask(once, plan), twice).exact


def test_inserted_norms_change_no_output_and_train_the_parameters_of_the_program(program: Program) -> None:
    inserted = swdc.insert_batchnorm(program)
    assert_same(program(image(3, 3, 8, 8)), inserted(image(3, 3, 8, 8)))
    new = set(inserted.state_dict()) - set(program.state_dict())
    assert {name.rpartition(".")[0] for name in new} == {"sum_batchnorm"}
    assert inserted.get_parameter("body.weight") is program.get_parameter("body.weight")
    plan = swdc.plan(inserted, 0.5, criterion="gamma")
    assert swdc.verify(swdc.mask(inserted, plan), swdc.slim(inserted, plan)).exact


def test_norms_are_inserted_once(program: Program) -> None:
    inserted = swdc.insert_batchnorm(program)
    assert swdc.insert_batchnorm(inserted).hash() == inserted.hash()


def test_hooks_are_no_part_of_what_is_rewritten(program: Program) -> None:
    plan = random_plan(program)
    handle = program.register_forward_hook(lambda module, inputs, result: result * 2)
    program.leaves["body"].forward = lambda x: x  # type: ignore[method-assign]
    for rewrite in (swdc.mask, swdc.slim):
        with pytest.warns(UserWarning, match="forward, at the program, body, which are not") as caught:
            rewrite(program, plan)
        assert [warning.filename for warning in caught] == [__file__]
    handle.remove()
    del program.leaves["body"].forward
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    assert not swdc.verify(masked, slim).notes
    slim.leaves["head"].register_forward_pre_hook(lambda module, inputs: None)
    certificate = swdc.verify(masked, slim)
    assert certificate.exact
    assert certificate.notes == ("not compared: hooks, or another forward, that the slim program has at head",)
