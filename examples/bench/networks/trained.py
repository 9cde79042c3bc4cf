"""Networks of the bench of SWD: what trains, on what, and how someone counts what is left of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from swdc.ir.packages import package
from swdc.networks import ResNet, resnet20
from swdc.networks.resnet import Bottleneck

NODES, EDGES, FEATURES, HIDDEN, CLASSES = 2708, 10_556, 1433, 16, 7
"""Those of Cora, and of the GCN that Tessier et al. (2022) train on it."""


@dataclass(frozen=True)
class Trainee:
    """A network to train: what builds it, and what draws inputs and labels for a batch size."""

    model: Callable[[], nn.Module]
    inputs: Callable[[int], tuple[Tensor, ...]]
    labels: Callable[[int], Tensor]


class StemmedResNet(ResNet):
    """A ResNet whose stem takes a quarter of the resolution, as those for ImageNet do."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conv1 = nn.Conv2d(self.conv1.in_channels, self.conv1.out_channels, 7, 2, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        x = functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.fc(self.pool(self.blocks(x)).flatten(1))  # type: ignore[no-any-return]


class GCN(nn.Module):
    """Two graph convolutions on features of shape ``(N, 1433)``; returns logits of shape ``(N, 7)``."""

    def __init__(self) -> None:
        super().__init__()
        convolution = package("torch_geometric.nn", "bench").GCNConv
        self.conv1 = convolution(FEATURES, HIDDEN)
        self.conv2 = convolution(HIDDEN, CLASSES)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Return logits."""
        return self.conv2(torch.relu(self.conv1(x, edge_index)), edge_index)  # type: ignore[no-any-return]


def _graph(batch: int) -> tuple[Tensor, ...]:
    """Return features and edges of a whole graph, whatever the batch."""
    return (torch.rand(NODES, FEATURES) < 0.013).float(), torch.randint(NODES, (2, EDGES))


def _images(side: int, batch: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, 3, side, side),)


def _classes(number: int, batch: int) -> Tensor:
    return torch.randint(number, (batch,))


NETWORKS: dict[str, Trainee] = {
    "resnet20-16": Trainee(partial(resnet20, width=16), partial(_images, 32), partial(_classes, 10)),
    "resnet20-64": Trainee(partial(resnet20, width=64), partial(_images, 32), partial(_classes, 10)),
    "resnet50": Trainee(
        partial(StemmedResNet, Bottleneck, (3, 4, 6, 3), classes=1000), partial(_images, 64), partial(_classes, 1000)
    ),
    "gcn": Trainee(GCN, _graph, lambda batch: torch.randint(CLASSES, (NODES,))),
}
