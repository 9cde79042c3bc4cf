"""The settings of training that the paper gives for each data set."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import nn

from common.training import Rate, constant, thirds


@dataclass(frozen=True)
class Recipe:
    """How networks are trained on a data set.

    ``decay`` is that of the optimizer, ``mu`` that of SWD. ``fine_tuning`` are the epochs after each round of magnitude
    pruning, ``slimming`` those after network slimming, whose penalty is ``smooth_l1``.
    """

    epochs: int
    batch: int | None
    rate: Rate
    momentum: float = 0.9
    decay: float = 5e-4
    mu: float = 5e-4
    adam: bool = False
    fine_tuning: tuple[int, ...] = (15, 15, 15, 15, 50)
    slimming: int = 50
    smooth_l1: float = 1e-4

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        if self.adam:
            return torch.optim.Adam(parameters, lr=self.rate(0.0), weight_decay=self.decay)
        return torch.optim.SGD(parameters, lr=self.rate(0.0), momentum=self.momentum, weight_decay=self.decay)

    def scaled(self, epochs: int) -> Recipe:
        """Return the recipe with fewer or more epochs, fine-tuning in proportion, rounded to at least one epoch."""
        share = epochs / self.epochs
        rounds = tuple(max(1, round(share * each)) for each in self.fine_tuning)
        return replace(self, epochs=epochs, fine_tuning=rounds, slimming=max(1, round(share * self.slimming)))


CIFAR = Recipe(epochs=300, batch=128, rate=thirds(0.1))
"""Sections 4.1 and 4.5; the batch is that of the authors' code."""
MNIST = Recipe(epochs=200, batch=128, rate=constant(0.1), momentum=0.0, decay=0.0)
"""Section 4.6: no weight decay, although SWD takes 5e-4; the rate stays, as in the authors' code."""
IMAGENET = Recipe(
    epochs=90, batch=128, rate=thirds(0.1), decay=1e-4, mu=1e-4, fine_tuning=(5, 5, 5, 5, 15), slimming=40,
    smooth_l1=1e-5,
)  # fmt: skip
"""Section 4.4."""
CORA = Recipe(
    epochs=2000, batch=None, rate=constant(1e-2), adam=True, fine_tuning=(200, 200, 200, 200, 2000),
)  # fmt: skip
"""Section 4.7; the whole graph is one batch."""

RECIPES = {
    "mnist": MNIST, "cifar10": CIFAR, "cifar100": CIFAR, "imagenet": IMAGENET, "Cora": CORA, "Citeseer": CORA,
}  # fmt: skip
