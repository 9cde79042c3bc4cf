"""A small trained network, its data and its metric."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(192, 6, generator=GENERATOR)
Y = (X[:, :3].sum(1) > 0).long() + (X[:, 3] > 0).long()
DATA = [(X[i : i + 48], Y[i : i + 48]) for i in range(0, 192, 48)]


def accuracy(model: Any) -> float:
    return float((model(X).argmax(1) == Y).double().mean())


def loss(output: torch.Tensor, batch: Any) -> torch.Tensor:
    return functional.cross_entropy(output, batch[1])


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 3)
    )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        functional.cross_entropy(model(X), Y).backward()
        optimizer.step()
    return model.eval()


def arguments() -> dict[str, Any]:
    """Return what ``swdc.compress`` takes, for a run of a few seconds."""
    return {
        "model": network(), "example": X[:2], "data": DATA, "metric": accuracy, "most_drop": 0.05, "loss": loss,
        "epochs": 2, "rate": 1e-2, "trials": 3, "progress": False,
    }  # fmt: skip
