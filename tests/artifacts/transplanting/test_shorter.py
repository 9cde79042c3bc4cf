"""Slim programs without some residual branches, in the user's own class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import TransplantError
from tests.sparsity.test_blocks import TOKENS, Block, given, images, residual, scored
from tests.support import Function, assert_same, conv, image, randomise


def stemmed() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), Block(), Block(), nn.Linear(8, 3))


def cut(model: nn.Module, share: float, width: bool) -> swdc.Program:
    program = swdc.trace(model, TOKENS.to(next(model.parameters()).dtype))
    plan = swdc.plan(program, share, "blocks", given(scored(program)), structure="blocks")
    if width:
        plan = swdc.plan(program, {"*up": 0.5, "0": 0.25}, after=plan)
    return swdc.slim(program, plan)


@pytest.mark.parametrize(("share", "width", "replaced"), [
    (0.25, False, "1 (Block)"),
    (0.5, True, "1 (Block)"),
    (0.75, True, "1 (Block), 2 (Block)"),
])  # fmt: skip
def test_modules_that_add_a_removed_branch_become_their_part(share: float, width: bool, replaced: str) -> None:
    model = randomise(stemmed()).eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    slim = cut(model, share, width)
    with torch.no_grad():  # as if it had been trained
        slim.get_parameter("3.bias").add_(1.0)
    with pytest.warns(UserWarning, match="replaced by their part of the slim program: .*") as told:
        mine = swdc.transplant(slim, model)
    assert replaced in str(told[0].message)
    assert type(mine) is nn.Sequential
    assert mine.state_dict().keys() == slim.state_dict().keys()
    assert "Linear" in repr(mine)
    for batch in (1, 3):
        x = image(batch, 5, 8, seed=batch)
        assert_same(slim(x), mine(x))
        assert not torch.allclose(model(x), mine(x))
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    mine.train()
    mine(TOKENS).square().sum().backward()
    assert all(p.grad is not None for p in mine.parameters())


def test_a_model_in_float32_and_a_new_instance(tmp_path: Path) -> None:
    model = randomise(stemmed()).float().eval()
    slim = cut(model, 0.5, width=True)
    with pytest.warns(UserWarning, match="replaced by their part"):
        swdc.save(slim, tmp_path / "slim", model=model)
    fresh = stemmed().eval()
    with pytest.warns(UserWarning, match="replaced by their part"):
        swdc.load_into(fresh, tmp_path / "slim")
    assert fresh.state_dict().keys() == slim.state_dict().keys()
    x = TOKENS.float()
    torch.testing.assert_close(fresh(x), slim(x))


def test_a_branch_that_the_model_itself_adds_is_refused() -> None:
    torch.manual_seed(0)
    parts = {"stem": conv(3, 4), "conv1": conv(4, 4), "bn1": nn.BatchNorm2d(4), "conv2": conv(4, 6)}
    parts |= {"bn2": nn.BatchNorm2d(6), "short": conv(4, 6, 1), "head": conv(6, 2)}
    model: Any = randomise(Function(residual, **parts)).eval()
    program = swdc.trace(model, image(2, 3, 8, 8))
    plan = swdc.plan(program, 0.5, "blocks", given({"bn1": 0.0}), structure="blocks")
    with pytest.raises(TransplantError, match="got one that is added in the forward of the model"):
        swdc.transplant(swdc.slim(program, plan), model)
    assert images().hash() == program.hash()
