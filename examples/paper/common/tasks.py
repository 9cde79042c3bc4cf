"""What is trained: a network with its data, losses batch by batch, and its accuracy on held-out data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn import functional

from common.data import STATISTICS, CitationGraph, Images

TEST_BATCH = 500
MARGIN = 4
"""Pixels by which an image is moved at most."""


class Task(Protocol):
    """A classification task."""

    steps: int
    """Batches in an epoch."""

    def example(self) -> Any:
        """Return example inputs to trace a network with."""

    def losses(self, model: nn.Module) -> Iterator[torch.Tensor]:
        """Yield the losses of one epoch, drawn with torch's own generator."""

    def accuracy(self, model: nn.Module) -> dict[str, float]:
        """Return ``accuracy`` (top-1; also ``top5`` where classes are many) in evaluation, in percent."""


class ImageTask:
    """Images that fit into memory; moved by up to four pixels and mirrored at random where ``augment``."""

    def __init__(self, images: Images, batch: int, augment: bool, device: str = "cpu") -> None:
        mean, deviation = (torch.tensor(s, device=device).view(1, -1, 1, 1) for s in STATISTICS[images.name])
        self._shift, self._scale = mean * 255, 1 / (deviation * 255)
        self._train, self._labels = images.train.to(device), images.train_labels.to(device)
        self._test, self._test_labels = images.test.to(device), images.test_labels.to(device)
        self._batch, self._augment = batch, augment
        self.steps = -(-len(self._train) // batch)

    def example(self) -> torch.Tensor:
        """Return two normalised images."""
        return self._normalised(self._test[:2])

    def losses(self, model: nn.Module) -> Iterator[torch.Tensor]:
        """Yield the cross-entropy of each batch, in random order."""
        for rows in torch.randperm(len(self._train)).to(self._train.device).split(self._batch):
            images = augmented(self._train[rows]) if self._augment else self._train[rows]
            yield functional.cross_entropy(model(self._normalised(images)), self._labels[rows])

    def accuracy(self, model: nn.Module) -> dict[str, float]:
        """Return the accuracy on the test images."""
        guesses = [model(self._normalised(images)).argmax(1) for images in self._test.split(TEST_BATCH)]
        return {"accuracy": _percent(torch.cat(guesses) == self._test_labels)}

    def _normalised(self, images: torch.Tensor) -> torch.Tensor:
        return (images.float() - self._shift) * self._scale


class GraphTask:
    """One citation graph; an epoch is one step on the labelled papers."""

    steps = 1

    def __init__(self, graph: CitationGraph) -> None:
        self._graph = graph

    def example(self) -> tuple[()]:
        """Return nothing: the network holds its graph."""
        return ()

    def losses(self, model: nn.Module) -> Iterator[torch.Tensor]:
        """Yield the cross-entropy of the labelled papers."""
        rows = self._graph.train
        yield functional.cross_entropy(model()[rows], self._graph.labels[rows])

    def accuracy(self, model: nn.Module) -> dict[str, float]:
        """Return the accuracy on the test papers."""
        rows = self._graph.test
        return {"accuracy": _percent(model()[rows].argmax(1) == self._graph.labels[rows])}


def augmented(images: torch.Tensor) -> torch.Tensor:
    """Return images padded by four pixels, cropped at a random place each, and mirrored with a chance of a half."""
    count, _, height, width = images.shape
    padded = functional.pad(images, [MARGIN] * 4)
    device = images.device
    down, right = torch.randint(2 * MARGIN + 1, (2, count, 1)).to(device)
    mirrored = (torch.rand(count, 1) < 0.5).to(device)
    columns = torch.arange(width, device=device)
    columns = right + torch.where(mirrored, width - 1 - columns, columns)
    rows = down + torch.arange(height, device=device)
    chosen = padded[torch.arange(count, device=device)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return chosen.permute(0, 3, 1, 2).contiguous()


@torch.no_grad()
def evaluate(task: Task, model: nn.Module) -> dict[str, float]:
    """Return the accuracy in evaluation mode; the model's own mode is kept."""
    training = model.training
    model.eval()
    try:
        return task.accuracy(model)
    finally:
        model.train(training)


def _percent(right: torch.Tensor) -> float:
    return 100 * float(right.double().mean())
