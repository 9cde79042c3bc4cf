"""Results as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from swdc.results import opaque, plain
from tests.support import image


class Cache:
    def __init__(self, *tensors: torch.Tensor) -> None:
        self.layers = [Layer(t, str(number)) for number, t in enumerate(tensors)]
        self.owner = self
        self.length = 3


@dataclass
class Layer:
    keys: torch.Tensor
    name: str


class Fields(dict[str, Any]):
    """A dict that pytree does not know."""


def test_objects_become_dicts_of_their_tensors() -> None:
    a, b = image(2), image(3)
    result = {"logits": a, "cache": (Cache(a, b), 3, None), "fields": Fields(x=[b], y=2)}
    wanted = {"logits": a, "cache": ({"layers": [{"keys": a}, {"keys": b}]}, 3, None), "fields": {"x": [b]}}
    assert plain(result) == wanted
    assert opaque(result) == ["Cache", "Fields"]


def test_what_is_plain_stays() -> None:
    thing = object()
    result = (image(2), [None, 1.5, "text", thing], {"size": torch.Size([2, 3])})
    assert plain(result)[1] is not result[1]
    assert plain(result) == result
    assert opaque(result) == []
