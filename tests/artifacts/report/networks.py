"""A small network with a residual sum, and what slimming makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import swdc
from swdc.ir.program import Program
from swdc.rewriting.certificate import Certificate
from tests.support import randomise


class Residual(nn.Module):
    """A stem, a block with a sum, and a head; layers may have any names."""

    def __init__(self, first: str = "first", head: str = "head") -> None:
        super().__init__()
        self.names = first, head
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.add_module(first, nn.Conv2d(8, 12, 3, padding=1))
        self.second = nn.Conv2d(12, 8, 3, padding=1)
        self.add_module(head, nn.Linear(8, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, head = (getattr(self, name) for name in self.names)
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.second(torch.relu(first(x))))
        return head(x.mean((2, 3)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Made:
    """The programs before and after, and the certificate."""

    program: Program
    slim: Program
    certificate: Certificate

    def given(self) -> dict[str, Any]:
        """Return the arguments of a report."""
        return {"program": self.program, "slim": self.slim, "certificate": self.certificate}


def made(**names: str) -> Made:
    """Return a network that is slimmed to about a half."""
    torch.manual_seed(0)
    model = randomise(Residual(**names)).float().eval()
    program = swdc.trace(model, torch.randn(2, 3, 8, 8))
    plan = swdc.plan(program, 0.5, scope="group")
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    return Made(program, slim, swdc.verify(masked, slim))
