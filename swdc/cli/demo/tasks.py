"""What the demonstration trains: a residual network on handwritten digits, a graph network on the karate club."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional

from swdc.capture.trace import trace
from swdc.errors import CommandError
from swdc.ir.program import Program
from swdc.ir.seeding import seed_all
from swdc.networks import resnet20
from swdc.rewriting.rewrites import insert_batchnorm

LATENCY_BATCH = 16
"""Samples in the batch whose milliseconds are shown; a graph network runs on its whole graph instead."""


class Scene(Protocol):
    """A program with the data that it is trained and tested on, and the settings of its training."""

    title: str
    program: Program
    epochs: int
    target: float
    round_to: int
    latency_batch: int | None

    def optimizer(self, epochs: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Return the optimizer and the schedule of its rate, which advances once an epoch."""

    def losses(self) -> Iterator[torch.Tensor]:
        """Yield the losses of one epoch."""

    def steps_per_epoch(self) -> int:
        """Return how many losses an epoch has."""

    def accuracy(self, program: Program) -> float:
        """Return the share of held-out samples that a program classifies correctly."""


@dataclass
class Digits:
    """ResNet-20 of width 16 with inserted batch norms, on the 1,797 digits of scikit-learn (8x8, 360 held out)."""

    seed: int
    title: str = "ResNet-20 on handwritten digits"
    epochs: int = 20
    target: float = 0.9
    round_to: int = 8  # runtimes compute this many channels at once, and others as if they were rounded up
    latency_batch: int | None = LATENCY_BATCH
    batch: int = 64

    def __post_init__(self) -> None:
        self._images, self._labels, self._train, self._test = _digits(self.seed)
        seed_all(self.seed)
        model = resnet20(width=16, channels=1, inserted_batchnorm=False)
        self.program = insert_batchnorm(trace(model, self._images[:2]))

    def optimizer(self, epochs: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """SGD with momentum, whose rate rises and falls once (Smith and Topin 2018): smoother than in thirds."""
        optimizer = torch.optim.SGD(self.program.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs + 1)

    def steps_per_epoch(self) -> int:
        """Return the number of batches."""
        return -(-len(self._train) // self.batch)

    def losses(self) -> Iterator[torch.Tensor]:
        """Yield the cross-entropy of each batch, in random order."""
        order = self._train[torch.randperm(len(self._train))]
        for rows in torch.split(order, self.batch):
            yield functional.cross_entropy(self.program(self._images[rows]), self._labels[rows])

    @torch.no_grad()
    def accuracy(self, program: Program) -> float:
        """Return the accuracy on the held-out digits."""
        guesses = program(self._images[self._test]).argmax(1)
        return float((guesses == self._labels[self._test]).float().mean())


@dataclass
class KarateClub:
    """A two-layer GCN of 64 hidden units on Zachary's karate club: 34 members, 4 communities, 4 labelled members."""

    seed: int
    title: str = "GCN on the karate club"
    epochs: int = 400
    target: float = 0.9
    round_to: int = 1  # of its one hidden layer, a tenth is less than 8 units
    latency_batch: int | None = None

    def __post_init__(self) -> None:
        try:
            from torch_geometric.datasets import KarateClub as Data
            from torch_geometric.nn import GCN
        except ImportError as error:
            raise CommandError("expected PyG for this scene; install it with pip install 'swdc[demo]'") from error
        self._data: Any = Data()[0]
        seed_all(self.seed)
        model = GCN(self._data.num_features, 64, num_layers=2, out_channels=4, dropout=0.5)
        self.program = trace(model, (self._data.x, self._data.edge_index))

    def optimizer(self, epochs: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Adam, whose rate falls along a cosine so that the weights that SWD pulls come to rest."""
        optimizer = torch.optim.Adam(self.program.parameters(), lr=0.01, weight_decay=5e-4)
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)

    def steps_per_epoch(self) -> int:
        """The whole graph is one step."""
        return 1

    def losses(self) -> Iterator[torch.Tensor]:
        """Yield the cross-entropy over the labelled members."""
        logits = self.program(self._data.x, self._data.edge_index)
        yield functional.cross_entropy(logits[self._data.train_mask], self._data.y[self._data.train_mask])

    @torch.no_grad()
    def accuracy(self, program: Program) -> float:
        """Return the accuracy on the members without a label."""
        held_out = ~self._data.train_mask
        guesses = program(self._data.x, self._data.edge_index).argmax(1)
        return float((guesses == self._data.y)[held_out].float().mean())


SCENES: dict[str, type[Digits] | type[KarateClub]] = {"resnet20": Digits, "gcn": KarateClub}


def scene(name: str, seed: int) -> Scene:
    """Return a scene by the name of its network."""
    if name not in SCENES:
        raise CommandError(f"expected a network of {sorted(SCENES)}, got {name!r}")
    return SCENES[name](seed)


def _digits(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return images (1797, 1, 8, 8) in [0, 1], labels, and the rows to train and to test on."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise CommandError("expected scikit-learn for its digits; install it with pip install 'swdc[demo]'") from error
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target, dtype=torch.int64)
    train, test = train_test_split(range(len(labels)), test_size=360, stratify=data.target, random_state=seed)
    return images, labels, torch.tensor(train), torch.tensor(test)
