"""The figures that torchvision publishes with its weights, and the networks and inputs that they stand for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from examples.bench.networks.entry import Entry
from swdc.ir.packages import package

TORCHVISION = "torchvision"
SIDE, FRAMES = 512, 16
"""Side of the image, and frames of a video, to which torchvision applies the transforms of the weights."""
SIDES, SIDE_OF_DETECTORS = {"320": 320, "ssd300": 300, "keypointrcnn": 1333}, 800
"""Sides of the images for detectors, by a part of the name, and of all others."""
NO_REGION = {"rpn_score_thresh": 2.0, "box_score_thresh": 2.0}
ALL_REGIONS = {"rpn_nms_thresh": 1.0, "box_score_thresh": 2.0}
REGIONS: dict[str, dict[str, Any]] = {
    "fasterrcnn_mobilenet": NO_REGION,
    "fasterrcnn": ALL_REGIONS,
    "maskrcnn": ALL_REGIONS,
    "keypointrcnn": ALL_REGIONS,
}
"""Options that fix how many regions a detector finds, because that is most of what it computes.

The published figures are those of trained weights on random numbers, where they find no region, or as many as they
keep (1,000); no box has a score for masks and key points.
"""


@dataclass(frozen=True)
class Figure:
    """A network of torchvision with its inputs, and its published multiply-adds in billions."""

    name: str
    entry: Entry
    billions: float


def figures() -> list[Figure]:
    """Return a figure for all weights but those of detectors and quantized models; equal ones of a model stand once."""
    return [_figure(name, weights) for name, weights in _distinct() if _kind(name) != "detection"]


def detectors() -> list[Figure]:
    """Return a figure for each detector."""
    return [_detector(name, weights) for name, weights in _distinct() if _kind(name) == "detection"]


def _distinct() -> Iterator[tuple[str, Any]]:
    """Yield each model with the first weights of each figure."""
    models = package("torchvision", "vision").models
    quantized = set(models.list_models(module=models.quantization))
    for name in models.list_models():
        seen: set[float] = set()
        for weights in () if name in quantized else models.get_model_weights(name):
            if "_ops" in weights.meta and weights.meta["_ops"] not in seen:
                seen.add(weights.meta["_ops"])
                yield name, weights


def _kind(name: str) -> str:
    """Return the part of torchvision that a model belongs to: ``models``, ``detection``, ``video``, ..."""
    return str(package("torchvision", "vision").models.get_model_builder(name).__module__.split(".")[-2])


def _figure(name: str, weights: Any) -> Figure:
    options: dict[str, Any] = {}
    if "aux_loss" in inspect.signature(package("torchvision", "vision").models.get_model_builder(name)).parameters:
        options["aux_loss"] = True
    if name.startswith("vit_"):
        options["image_size"] = weights.meta["min_size"][0]
    if _kind(name) == "segmentation":
        options["weights_backbone"] = None
    return _entry(name, weights, options, partial(_transformed, weights, _kind(name)))


def _detector(name: str, weights: Any) -> Figure:
    side = next((side for part, side in SIDES.items() if part in name), SIDE_OF_DETECTORS)
    regions = next((options for part, options in REGIONS.items() if name.startswith(part)), {})
    options = {"weights_backbone": None, **regions}
    return _entry(name, weights, options, partial(_image, side))


def _entry(name: str, weights: Any, options: dict[str, Any], inputs: Callable[[], Any]) -> Figure:
    models = package("torchvision", "vision").models
    entry = Entry(f"{name} {weights.name}", partial(models.get_model, name, weights=None, **options), inputs)
    return Figure(entry.name, entry, weights.meta["_ops"])


def _transformed(weights: Any, kind: str) -> tuple[torch.Tensor, ...]:
    """Return an image, a video or two images as the transforms of the weights leave them."""
    transform = weights.transforms()
    images = torch.zeros(1, *((FRAMES,) if kind == "video" else ()), 3, SIDE, SIDE)
    found = transform(images, images) if kind == "optical_flow" else (transform(images),)
    return tuple(found)


def _image(side: int) -> tuple[list[torch.Tensor]]:
    return ([torch.rand(3, side, side)],)
