"""A small problem, and the plain loop that the trainers have to agree with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

INPUTS = torch.randn(24, 6, generator=torch.Generator().manual_seed(3))
LABELS = torch.randint(0, 3, (24,), generator=torch.Generator().manual_seed(4))
BATCH, ACCUMULATE, EPOCHS, CLIP = 4, 2, 2, 0.1
STEPS = EPOCHS * len(INPUTS) // (BATCH * ACCUMULATE)


def network() -> nn.Sequential:
    """Return the network, always with the same weights."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)


def trained_by_hand(method: Callable[..., Any], clip: float = CLIP, left_out: int | None = None) -> nn.Sequential:
    """Return the network after the plain loop: accumulation, clipping, the method, the optimizer.

    ``left_out`` is the number of a step that every epoch leaves out.
    """
    model = network()
    optimizer = sgd(model)
    acting = method(model, optimizer=optimizer, steps=STEPS)
    for _ in range(EPOCHS):
        for number, rows in enumerate(torch.arange(len(INPUTS)).split(BATCH * ACCUMULATE)):
            if number == left_out:
                continue
            optimizer.zero_grad()
            for part in rows.split(BATCH):
                (functional.cross_entropy(model(INPUTS[part]), LABELS[part]) / ACCUMULATE).backward()
            nn.utils.clip_grad_norm_(model.parameters(), clip)
            acting.step()
            optimizer.step()
    return model


def assert_same_weights(one: nn.Module, other: nn.Module, tolerance: float = 0.0) -> None:
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        assert (a - b).abs().max() <= tolerance * a.abs().max(), name
