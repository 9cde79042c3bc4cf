"""The data sets, as torchvision and PyG find them under one folder; nothing is downloaded."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

CIFAR10_RAW = "cifar-10-batches-py"
CIFAR100_RAW = "cifar-100-python"
CIFAR10_JPEG = "cifar10"
STATISTICS = {
    "mnist": ((0.1307,), (0.3081,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
}
"""Mean and deviation of each colour, by which images are normalised."""


@dataclass(frozen=True)
class Images:
    """Images as bytes, of shape (N, channels, 32, 32), and their classes."""

    name: str
    classes: int
    train: torch.Tensor
    train_labels: torch.Tensor
    test: torch.Tensor
    test_labels: torch.Tensor


@dataclass(frozen=True)
class CitationGraph:
    """Papers with bags of words of shape (N, words), rows of sum one, and who cites whom, of shape (2, edges)."""

    name: str
    classes: int
    words: torch.Tensor
    edges: torch.Tensor
    labels: torch.Tensor
    train: torch.Tensor
    test: torch.Tensor


def load_images(name: str, root: Path, subset: int | None = None) -> Images:
    """Load ``mnist`` (padded to 32 x 32), ``cifar10`` or ``cifar100``.

    ``subset`` is how many of the training images to take, the same ones every time. Raises ``FileNotFoundError``, which
    says where the loader looked.
    """
    train, test = _image_sets(name, root)
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    if subset is not None:
        if not 1 <= subset <= len(train):
            raise ValueError(f"expected a subset of 1 to {len(train)} images of {name}, got {subset}")
        rows = rows[:subset]
    images, labels = _stacked(train, rows.tolist())
    test_images, test_labels = _stacked(test, range(len(test)))
    return Images(name, len(train.classes), images, labels, test_images, test_labels)


def load_graph(name: str, root: Path) -> CitationGraph:
    """Load ``Cora`` or ``Citeseer`` with the public split; ``FileNotFoundError`` says where the loader looked."""
    raw = root / name / "raw"
    if not raw.exists():
        raise _missing(f"{name} as Planetoid keeps it (ind.{name.lower()}.x and the others)", raw)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch_geometric.datasets import Planetoid

        graph: Any = Planetoid(str(root), name)[0]
    words = graph.x / graph.x.sum(1, keepdim=True).clamp(min=1)
    train, test = graph.train_mask.nonzero()[:, 0], graph.test_mask.nonzero()[:, 0]
    return CitationGraph(name, int(graph.y.max()) + 1, words, graph.edge_index, graph.y, train, test)


def _image_sets(name: str, root: Path) -> tuple[Any, Any]:
    from torchvision import datasets

    if name == "mnist":
        _expect(root / "MNIST" / "raw", "MNIST as torchvision keeps it")
        return datasets.MNIST(root, train=True), datasets.MNIST(root, train=False)
    if name == "cifar100":
        _expect(root / CIFAR100_RAW, "CIFAR-100 as torchvision keeps it")
        return datasets.CIFAR100(root, train=True), datasets.CIFAR100(root, train=False)
    if name != "cifar10":
        raise ValueError(f"expected a data set of {list(STATISTICS)}, got {name!r}")
    if (root / CIFAR10_RAW).exists():
        return datasets.CIFAR10(root, train=True), datasets.CIFAR10(root, train=False)
    folder = root / CIFAR10_JPEG
    if not (folder / "train").is_dir() or not (folder / "test").is_dir():
        raise _missing(
            "CIFAR-10 as torchvision keeps it, or as train/<class>/*.jpg and test/<class>/*.jpg",
            root / CIFAR10_RAW, folder,
        )  # fmt: skip
    return datasets.ImageFolder(folder / "train"), datasets.ImageFolder(folder / "test")


def _expect(path: Path, what: str) -> None:
    if not path.exists():
        raise _missing(what, path)


def _missing(what: str, *places: Path) -> FileNotFoundError:
    looked = " and ".join(map(str, places))
    return FileNotFoundError(f"expected {what}, found none in {looked}; put it there, or give another --data ROOT")


def _stacked(images: Any, rows: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return bytes of shape (N, channels, 32, 32), smaller images padded with zeros, and the labels."""
    from torchvision.transforms.functional import pil_to_tensor

    drawn = [images[row] for row in rows]
    stack = torch.stack([pil_to_tensor(image) for image, _ in drawn])
    margin = (32 - stack.shape[-1]) // 2
    return nn.functional.pad(stack, [margin] * 4), torch.tensor([label for _, label in drawn])
