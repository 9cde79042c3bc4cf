"""Results as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.ir.plain_results import capturable, narrowed, plain
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
    assert capturable(result)[1] == dict.fromkeys(["Cache", "Fields"], "a dict of its tensors")


class Slotted:
    __slots__ = ("keys", "missing", "name")

    def __init__(self, keys: torch.Tensor) -> None:
        self.keys, self.name = keys, "x"


def test_slots_hold_tensors() -> None:
    a = image(2)
    assert plain([Slotted(a)]) == [{"keys": a}]


def test_iterators_and_views_become_lists() -> None:
    a, b = image(2), image(3)
    wanted = {"parts": [a, [b]], "views": ([a], ["x"])}

    def result() -> Any:
        return {"parts": (part for part in (a, iter([b]))), "views": ({"x": a}.values(), {"x": a}.keys())}

    assert plain(result()) == wanted
    found, lost = capturable(result())
    assert found == wanted
    assert list(lost) == ["generator", "dict_values", "dict_keys"]


def test_plain_results_stay_as_they_are() -> None:
    thing = object()
    result = (image(2), [None, 1.5, "text", thing], {"size": torch.Size([2, 3])})
    assert plain(result)[1] is not result[1]
    assert plain(result) == result
    assert capturable(result)[1] == {}


def test_a_structure_is_narrowed_to_fewer_leaves() -> None:
    whole = {"a": (1, [2, 3]), "b": [4], "c": {"d": 5, "e": 6}, "f": ()}
    spec = pytree.tree_structure(whole)

    def left(*keep: int) -> Any:
        return pytree.tree_unflatten(list(keep), narrowed(spec, [leaf in keep for leaf in range(1, 7)]))

    assert left(1, 2, 3, 4, 5, 6) == {"a": (1, [2, 3]), "b": [4], "c": {"d": 5, "e": 6}}
    assert left(3, 6) == {"a": ([3],), "c": {"e": 6}}
    assert left(4) == {"b": [4]}
    assert pytree.tree_unflatten([7], narrowed(pytree.tree_structure(7), [True])) == 7
