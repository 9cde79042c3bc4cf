"""The networks of the core bench: how to build each, and on what inputs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from examples.bench.networks.entry import Entry
from swdc.errors import CommandError
from swdc.ir.packages import package
from swdc.networks import LeNet5, resnet20, resnet50

FAMILIES = (
    "vgg", "resnet", "resnext", "wide_resnet", "regnet", "densenet", "mobilenet", "efficientnet", "mnasnet",
    "shufflenet", "squeezenet", "googlenet", "inception",
)  # fmt: skip
GRAPH_NETWORKS = {"gcn": "GCN", "graphsage": "GraphSAGE", "gat": "GAT", "gin": "GIN"}
CORE = (
    "mlp", "lenet5", "resnet20", "small_resnet50", "vgg11", "vgg16_bn", "resnet18", "resnet50", "resnext50_32x4d",
    "wide_resnet50_2", "regnet_x_400mf", "regnet_y_400mf", "densenet121", "mobilenet_v2", "mobilenet_v3_small",
    "mobilenet_v3_large", "efficientnet_b0", "efficientnet_v2_s", "mnasnet1_0", "shufflenet_v2_x1_0",
    "squeezenet1_0", "squeezenet1_1", "googlenet", "inception_v3", *GRAPH_NETWORKS,
)  # fmt: skip


def names() -> tuple[str, ...]:
    """Return the names of the core bench."""
    return CORE


def entry(name: str) -> Entry:
    """Return a network of the core bench, or any other variant of its torchvision families."""
    own: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
        "mlp": (_mlp, (2, 64)),
        "lenet5": (LeNet5, (2, 1, 32, 32)),
        "resnet20": (resnet20, (2, 3, 32, 32)),
        "small_resnet50": (partial(resnet50, width=16), (2, 3, 32, 32)),
    }
    if name in own:
        model, shape = own[name]
        return Entry(name, model, partial(torch.randn, *shape))
    if name in GRAPH_NETWORKS:
        return Entry(name, partial(_graph_network, GRAPH_NETWORKS[name]), _karate_club)
    if not name.startswith(FAMILIES):
        raise CommandError(f"expected networks of {', '.join(CORE)}, or of the families {FAMILIES}, got {name!r}")
    side = {"vgg": 224, "inc": 139}.get(name[:3], 96)
    return Entry(name, partial(_torchvision, name), partial(torch.randn, 2, 3, side, side))


def _mlp() -> nn.Module:
    layers: list[nn.Module] = []
    for inputs, outputs in ((64, 128), (128, 96), (96, 64)):
        layers += [nn.Linear(inputs, outputs), nn.Sigmoid() if inputs == 128 else nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(64, 10))


def _torchvision(name: str) -> nn.Module:
    models = package("torchvision", "vision").models
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model: nn.Module = models.get_model(name, weights=None, **options)
    return model


def _graph_network(name: str) -> nn.Module:
    models = package("torch_geometric.nn", "graph").models
    options = {"heads": 4} if name == "GAT" else {}
    model: nn.Module = getattr(models, name)(34, 32, num_layers=3, out_channels=4, **options)
    return model


def _karate_club() -> tuple[torch.Tensor, torch.Tensor]:
    """Return features of shape (34, 34) and edges of shape (2, 156) of Zachary's karate club, which PyG ships."""
    data = package("torch_geometric.datasets", "graph").KarateClub()[0]
    return data.x, data.edge_index
