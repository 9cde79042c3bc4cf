"""States that a model hands from call to call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import swdc


class Cache:
    """A state of a class that no program can return."""

    def __init__(self) -> None:
        self.seen: torch.Tensor | None = None

    def add(self, keys: torch.Tensor) -> torch.Tensor:
        old = torch.tensor([], dtype=keys.dtype, device=keys.device) if self.seen is None else self.seen
        self.seen = torch.cat([old, keys], 1)
        return self.seen


class Remembering(nn.Module):
    """Takes a cache, and hands it on under a name."""

    def __init__(self, name: str = "cache") -> None:
        super().__init__()
        self.name, self.keys, self.head = name, nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, cache: Any = None) -> dict[str, Any]:
        cache = Cache() if cache is None else cache
        return {"scores": self.head(cache.add(self.keys(x)).mean(1)), self.name: cache}


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_state_is_not_returned_and_frees_its_channels(device: str) -> None:
    x = torch.randn(2, 4, 6, device=device)
    with pytest.warns(UserWarning, match="cache comes back as None, because the model takes it again"):
        program = swdc.trace(Remembering().to(device).eval(), x)
    assert program.facts.captured_by == "follow"
    assert [group.name for group in program.groups] == ["keys"]
    assert sorted(program.tensors) == ["head.bias", "head.weight", "keys.bias", "keys.weight"]
    assert program(x)["cache"] is None


def test_the_users_class_gets_its_slim_tensors_and_returns_its_state(recwarn: Any) -> None:
    model, x = Remembering().eval(), torch.randn(2, 4, 6)
    program = swdc.trace(model, x)
    slim = swdc.slim(program, swdc.plan(program, 0.5))
    found = swdc.transplant(slim, model)(x)
    assert found["cache"].seen.shape == (2, 4, 4)
    assert torch.allclose(found["scores"], slim(x)["scores"], atol=1e-6)


def test_a_result_of_another_name_is_returned(recwarn: Any) -> None:
    x = torch.randn(2, 4, 6)
    program = swdc.trace(Remembering("memory").eval(), x)
    assert program.groups == ()
    assert program(x)["memory"]["seen"].shape == (2, 4, 8)
