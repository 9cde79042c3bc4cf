"""A saved slim program in a new instance of the user's class."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.folder.save import OUTPUTS
from swdc.artifacts.storage.tensor_files import load_tensors, save_tensors
from swdc.artifacts.transplanting.part_module import Extracted
from swdc.errors import ArtifactError, TransplantError
from tests.artifacts.transplanting.models import (
    Attention,
    Configured,
    Depthwise,
    DerivedAttention,
    SqueezeExcitation,
    Tied,
)
from tests.artifacts.transplanting.test_transplant import Rows
from tests.support import Function, assert_same, conv, image, plan_of, random_plan, randomise

TOKENS = image(2, 5, 12)


def heads() -> nn.Module:
    return nn.Sequential(Attention(), nn.Linear(12, 3))


def derived() -> nn.Module:
    return nn.Sequential(DerivedAttention(), nn.Linear(12, 3))


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 12), nn.LayerNorm(12), nn.GELU(), nn.Linear(12, 3))


def configured() -> nn.Module:
    config = SimpleNamespace(width=6, hidden=10)
    return nn.Sequential(Configured(config), Configured(config), nn.Linear(6, 3))


def constants() -> nn.Module:
    """Removed channels are one half, which goes into a bias that the layer did not have."""
    return nn.Sequential(nn.Linear(12, 8), nn.Sigmoid(), nn.Linear(8, 3, bias=False))


def images() -> nn.Module:
    return nn.Sequential(conv(3, 8), nn.BatchNorm2d(8, affine=False), nn.ReLU(), conv(8, 2))


CLASSES: list[tuple[Callable[[], nn.Module], torch.Tensor]] = [
    (heads, TOKENS),
    (normed, TOKENS),
    (constants, TOKENS),
    (SqueezeExcitation, image(2, 3, 8, 8)),
    (images, image(2, 3, 8, 8)),
    (configured, image(2, 6)),
    (Depthwise, image(2, 3, 8, 8)),
    (Tied, torch.tensor([[1, 2, 3], [4, 5, 6]])),
]


def slim_of(model: nn.Module, example: Any) -> tuple[Any, Any]:
    program = swdc.trace(randomise(model).eval(), example)
    plan = random_plan(program)
    return swdc.mask(program, plan), swdc.slim(program, plan)


@pytest.mark.parametrize(("make", "example"), CLASSES)
def test_a_new_instance_computes_what_the_slim_program_computes(
    make: Callable[[], nn.Module], example: torch.Tensor, tmp_path: Path
) -> None:
    model = make()
    masked, slim = slim_of(model, example)
    before = copy.deepcopy(model.state_dict())
    swdc.save(slim, tmp_path / "slim", swdc.verify(masked, slim), model=model)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    torch.manual_seed(5)
    fresh = make().train()
    same = swdc.load_into(fresh, tmp_path / "slim")
    assert same is fresh
    assert fresh.training
    fresh.eval()
    assert sum(p.numel() for p in fresh.parameters()) < sum(p.numel() for p in model.parameters())
    more = torch.cat([example, example.flip(1), example])
    assert_same(masked(more), fresh(more), 1e-9)
    assert_same(slim(more), fresh(more))
    assert {name: tuple(t.shape) for name, t in swdc.transplant(slim, model).state_dict().items()} == {
        name: tuple(t.shape) for name, t in fresh.state_dict().items()
    }


def test_what_was_trained_after_the_cut_is_what_is_loaded(tmp_path: Path) -> None:
    model = heads()
    _, slim = slim_of(model, TOKENS)
    with torch.no_grad():
        for parameter in slim.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the masked model is that of the weights as they are now
        swdc.save(slim, tmp_path / "slim", model=model)
        fresh = swdc.load_into(heads().eval(), tmp_path / "slim")
    assert_same(slim(TOKENS), fresh(TOKENS))


def test_parts_that_no_integers_fix_are_replaced_again(tmp_path: Path) -> None:
    model = derived()
    _, slim = slim_of(model, TOKENS)
    with pytest.warns(UserWarning, match="replaced by their part of the slim program"):
        swdc.save(slim, tmp_path / "slim", model=model)
    with pytest.warns(UserWarning, match="replaced by their part of the slim program"):
        fresh = swdc.load_into(derived().eval(), tmp_path / "slim")
    assert any(isinstance(module, Extracted) for module in fresh.modules())
    assert_same(slim(TOKENS), fresh(TOKENS))


def test_a_folder_without_the_model_is_loaded_into_it_too(tmp_path: Path) -> None:
    _, slim = slim_of(heads(), TOKENS)
    swdc.save(slim, tmp_path / "slim")
    assert not (tmp_path / "slim" / OUTPUTS).exists()
    fresh = swdc.load_into(heads().float().eval(), tmp_path / "slim")
    assert_same(slim(TOKENS), fresh(TOKENS))
    assert next(fresh.parameters()).dtype == torch.float64


@pytest.mark.filterwarnings("ignore:recorded on the example inputs")
def test_a_recorded_model_is_loaded_although_the_new_weights_choose_otherwise(tmp_path: Path) -> None:
    model = randomise(Rows()).eval()
    program = swdc.trace(model, image(2, 3, 5, 5))
    plan = random_plan(program)
    swdc.save(swdc.slim(program, plan), tmp_path / "slim", model=model)
    fresh = swdc.load_into(Rows().eval(), tmp_path / "slim")
    masked = copy.deepcopy(model)
    masked.load_state_dict(swdc.mask(program, plan).state_dict())
    for seed in range(4):
        assert_same(masked(image(2, 3, 5, 5, seed=seed)), fresh(image(2, 3, 5, 5, seed=seed)))


def test_layers_that_were_solved_again_are_loaded(tmp_path: Path) -> None:
    model = randomise(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))).eval()
    program = swdc.trace(model, image(2, 12))
    plan = plan_of(program, {"0": range(5)})
    statistics = swdc.calibrate(program, [image(30, 12)], moments=True)
    result = swdc.refit(swdc.slim(program, plan), swdc.mask(program, plan), statistics)
    swdc.save(result, tmp_path / "slim", model=model)
    fresh = swdc.load_into(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval(), tmp_path / "slim")
    assert_same(result(image(3, 12)), fresh(image(3, 12)))


@pytest.mark.parametrize(
    ("fresh", "message"),
    [
        (lambda: nn.Sequential(Attention(heads=5), nn.Linear(12, 3)), "got one of another graph"),
        (lambda: nn.Sequential(nn.Linear(12, 3)), "expected an instance of Sequential like the one that was traced"),
        (lambda: nn.Linear(7, 3), "expected an instance of Linear like the one that was traced"),
    ],
)
def test_other_instances_are_refused_and_stay_as_they_are(
    fresh: Callable[[], nn.Module], message: str, tmp_path: Path
) -> None:
    model = heads()
    _, slim = slim_of(model, TOKENS)
    swdc.save(slim, tmp_path / "slim", model=model)
    other = fresh()
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(TransplantError, match=message):
        swdc.load_into(other, tmp_path / "slim")
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.state_dict().items())


def test_a_class_that_returns_something_else_by_now_is_refused(tmp_path: Path) -> None:
    """The graph is the same; what differs is what the class does with it, as another version of a library may."""
    model = Function(lambda m, x: m.head(torch.relu(m.body(x))), body=nn.Linear(12, 8), head=nn.Linear(8, 3))
    _, slim = slim_of(model, TOKENS)
    swdc.save(slim, tmp_path / "slim", model=model)
    file = tmp_path / "slim" / OUTPUTS
    found = load_tensors(file)
    save_tensors({"0": found["0"] + 1e-6}, file)
    with pytest.raises(ArtifactError, match="truncated or altered"):
        swdc.load_into(copy.deepcopy(model), tmp_path / "slim")


def test_dense_programs_have_no_such_folder(tmp_path: Path) -> None:
    model = randomise(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))).eval()
    program = swdc.trace(model, image(2, 12))
    with pytest.raises(TransplantError, match="expected a slim program"):
        swdc.save(program, tmp_path / "dense", model=model)
    assert not (tmp_path / "dense").exists()
    swdc.save(program, tmp_path / "dense")
    with pytest.raises(TransplantError, match="expected the folder of a slim program"):
        swdc.load_into(model, tmp_path / "dense")
