"""All models of torchvision except the quantized ones: classification, segmentation, detection, video, optical flow."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import nn

from examples.bench.networks.entry import Entry, known
from swdc.ir.packages import package

UNINITIALISED = ("googlenet", "inception_v3", "vgg")
"""Families whose builders spend seconds on initial weights unless told not to."""
SIDES = {"inception": 96, "swin_": 96, "maxvit": 224, "vit_": 64, "vit_h": 56}
"""Sides of the images, by the longest prefix of the name; 64 otherwise."""
CLIPS = {
    "s3d": (13, 209, 209), "mvit": (4, 64, 64), "swin3d": (4, 64, 64), "r3d": (8, 48, 48), "mc3": (8, 48, 48),
    "r2plus1d": (8, 48, 48),
}  # fmt: skip
"""Frames, height and width of videos; S3D's last pool takes no smaller ones."""
REGIONS = {
    "min_size": 96, "max_size": 160, "box_score_thresh": 0.0, "box_detections_per_img": 10,
    "rpn_post_nms_top_n_test": 50,
}  # fmt: skip
DETECTION = {
    "fasterrcnn": REGIONS,
    "maskrcnn": REGIONS,
    "keypointrcnn": REGIONS,
    "retinanet": {"min_size": 96, "max_size": 160, "score_thresh": 0.0},
    "fcos": {"min_size": 96, "max_size": 160, "score_thresh": 0.0},
    "ssd": {"score_thresh": 0.0},
}
"""Options of the detectors: small images, few regions, and no score so low that a box is dropped."""


def names() -> tuple[str, ...]:
    """Return the names of all models except the quantized ones."""
    models = package("torchvision", "vision").models
    quantized = set(models.list_models(module=models.quantization))
    return tuple(name for name in models.list_models() if name not in quantized)


def entry(name: str) -> Entry:
    """Return a model with random weights, on inputs as small as it takes."""
    known(name, names())
    for family, options in DETECTION.items():
        if name.startswith(family):
            return Entry(name, partial(_model, name, weights_backbone=None, **options), _images)
    if name.startswith("raft"):
        return Entry(name, partial(_model, name), _pair)
    for family, clip in CLIPS.items():
        if name.startswith(family):
            build = partial(_multiscale, name, clip) if family == "mvit" else partial(_model, name)
            return Entry(name, build, partial(torch.rand, 2, 3, *clip))
    return Entry(name, partial(_model, name, **_options(name)), partial(torch.randn, 2, 3, _side(name), _side(name)))


def _options(name: str) -> dict[str, Any]:
    if name.startswith(("deeplab", "fcn", "lraspp")):
        return {"weights_backbone": None}
    if name.startswith("vit_"):
        return {"image_size": _side(name)}
    return {"init_weights": False} if name.startswith(UNINITIALISED) else {}


def _side(name: str) -> int:
    fitting = [prefix for prefix in SIDES if name.startswith(prefix)]
    return SIDES[max(fitting, key=len)] if fitting else 64


def _model(name: str, **options: Any) -> nn.Module:
    model: nn.Module = package("torchvision", "vision").models.get_model(name, weights=None, **options)
    return model


def _multiscale(name: str, clip: tuple[int, int, int]) -> nn.Module:
    """Build an MViT for small videos; its public builders fix the size."""
    module = package("torchvision.models.video.mvit", "vision")
    build = module._mvit
    size = {"temporal_size": clip[0], "spatial_size": clip[1:]}
    with mock.patch.object(module, "_mvit", lambda **options: build(**{**options, **size})):
        return _model(name)


def _images() -> tuple[list[torch.Tensor]]:
    return ([torch.rand(3, 96, 128), torch.rand(3, 96, 128)],)


def _pair() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(2, 3, 128, 128) * 2 - 1, torch.rand(2, 3, 128, 128) * 2 - 1
