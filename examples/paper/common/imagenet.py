"""ImageNet ILSVRC2012, read image by image as torchvision keeps it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE = 224
WORKERS = os.cpu_count() or 1
"""Processes that read images."""


class ImageNetTask:
    """Random crops of 224 x 224 pixels, mirrored at random, to train on; the middle of each image to test on."""

    def __init__(self, root: Path, batch: int, subset: int | None, device: str) -> None:
        train, test = _sets(root)
        if subset is not None:
            rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:subset]
            train = Subset(train, rows.tolist())
        options: dict[str, Any] = {"batch_size": batch, "num_workers": WORKERS}
        self._train = DataLoader(train, shuffle=True, pin_memory=device != "cpu", **options)
        self._test = DataLoader(test, **options)
        self._device = device
        self.steps = len(self._train)

    def example(self) -> torch.Tensor:
        """Return two images."""
        return torch.zeros(2, 3, SIDE, SIDE)

    def losses(self, model: nn.Module) -> Iterator[torch.Tensor]:
        """Yield the cross-entropy of each batch, in random order."""
        for images, labels in self._train:
            yield functional.cross_entropy(model(images.to(self._device)), labels.to(self._device))

    def accuracy(self, model: nn.Module) -> dict[str, float]:
        """Return the top-1 and top-5 accuracy on the validation images."""
        first = fifth = count = 0
        for images, labels in self._test:
            guesses = model(images.to(self._device)).topk(5).indices.cpu()
            right = guesses == labels[:, None]
            first, fifth = first + int(right[:, 0].sum()), fifth + int(right.any(1).sum())
            count += len(labels)
        return {"accuracy": 100 * first / count, "top5": 100 * fifth / count}


def _sets(root: Path) -> tuple[Any, Any]:
    """Return both splits: ``imagenet/train`` and ``val`` of one folder per class, or what torchvision unpacks."""
    from torchvision import datasets, transforms

    last = [transforms.ToTensor(), transforms.Normalize(MEAN, DEVIATION)]
    moved = transforms.Compose([transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip(), *last])
    middle = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(SIDE), *last])
    folder = root / "imagenet"
    if (folder / "meta.bin").exists():
        return datasets.ImageNet(folder, "train", transform=moved), datasets.ImageNet(folder, "val", transform=middle)
    if (folder / "train").is_dir() and (folder / "val").is_dir():
        return datasets.ImageFolder(folder / "train", moved), datasets.ImageFolder(folder / "val", middle)
    raise FileNotFoundError(
        f"expected ImageNet as train/<class>/* and val/<class>/*, or as torchvision.datasets.ImageNet keeps it, found "
        f"none in {folder}; put it there, or give another --data ROOT"
    )
