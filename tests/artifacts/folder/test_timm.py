"""Slim models of timm in new instances of their classes: its own methods work on the slim widths."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from tests.support import assert_same, image, randomise

timm = pytest.importorskip("timm")

SIZES = {
    "resnet18": 64,
    "mobilenetv3_small_100": 64,
    "vit_tiny_patch16_224": 224,
    "convnext_atto": 64,
    "levit_128s": 224,
}

DEPTHS = {
    "vit_tiny_patch16_224": {"depth": 2},
    "convnext_atto": {"depths": (1, 1, 1, 1)},
    "levit_128s": {"depth": (1, 1, 1)},
}


def make(name: str) -> Any:
    return timm.create_model(name, num_classes=10, **DEPTHS.get(name, {})).eval()


def widths_of(model: Any) -> list[int]:
    return [entry["num_chs"] for entry in model.feature_info]


def features_of(model: nn.Module, x: torch.Tensor) -> list[int]:
    """Return the channels that the modules named in ``feature_info`` return."""
    found: dict[str, int] = {}
    names = [entry["module"] for entry in model.feature_info]  # type: ignore[union-attr]

    def note(name: str) -> Any:
        return lambda part, args, result: found.update({name: result.shape[-1 if result.dim() == 3 else 1]})

    handles = [model.get_submodule(name).register_forward_hook(note(name)) for name in names]
    model(x)
    for handle in handles:
        handle.remove()
    return [found[name] for name in names]


@pytest.mark.parametrize("name", SIZES)
def test_the_methods_of_a_slim_model_work_on_its_widths(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, x = randomise(make(name)), image(2, 3, SIZES[name], SIZES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # norms over fewer channels are replaced
        program = swdc.trace(model, x)
        slim = swdc.slim(program, swdc.plan(program, 0.4, scope="group"))
        swdc.save(slim, tmp_path / "slim", model=model)
        mine: Any = swdc.load_into(make(name), tmp_path / "slim")
    features = mine.forward_features(x)
    assert_same(slim(x), mine.forward_head(features), 1e-9)
    assert features.shape[-1 if features.dim() == 3 else 1] == mine.num_features < model.num_features
    assert mine.forward_head(features, pre_logits=True).shape[-1] == mine.head_hidden_size
    assert features_of(model, x) == widths_of(model)
    assert features_of(mine, x) == widths_of(mine)
    mine.reset_classifier(7)
    assert mine.double()(x).shape == (2, 7)
