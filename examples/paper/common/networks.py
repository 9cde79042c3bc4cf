"""The networks and the tasks that they are trained on, by name."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

import swdc
from common.data import CitationGraph, load_graph, load_images
from common.gcn import GCN
from common.rows import Setting
from common.tasks import GraphTask, ImageTask, Task
from swdc import networks
from swdc.ir.program import Program

CLASSES = {"mnist": 10, "cifar10": 10, "cifar100": 100}


def task_of(setting: Setting, data: Path, device: str) -> Task:
    """Return the task of a setting; its data are read once."""
    if setting.dataset == "imagenet":
        from common.imagenet import ImageNetTask

        return ImageNetTask(data, setting.batch or 1, setting.subset, device)
    if setting.dataset in CLASSES:
        return _images(setting.dataset, data, setting.subset, setting.batch or 1, device)
    return GraphTask(_graph(setting.dataset, data))


def network_of(setting: Setting, data: Path) -> nn.Module:
    """Return the network of a setting, its weights drawn with its seed."""
    torch.manual_seed(setting.seed)
    if setting.network == "gcn":
        return GCN(_graph(setting.dataset, data), setting.width or 16)
    if setting.network == "lenet5":
        return networks.LeNet5()
    if setting.network == "resnet50":
        from torchvision.models import resnet50

        return resnet50()  # type: ignore[no-any-return]
    made: nn.Module = getattr(networks, setting.network)(width=setting.width, classes=CLASSES[setting.dataset])
    return made


def traced(setting: Setting, model: nn.Module, example: Any) -> Program:
    """Return the program of a network; each inserted batch norm keeps its own channels, as in the paper."""
    program = swdc.trace(model, example, policy="free")
    return swdc.insert_batchnorm(program) if setting.network == "resnet50" else program


@cache
def _images(name: str, data: Path, subset: int | None, batch: int, device: str) -> ImageTask:
    return ImageTask(load_images(name, data, subset), batch, augment=name.startswith("cifar"), device=device)


@cache
def _graph(name: str, data: Path) -> CitationGraph:
    return load_graph(name, data)
