"""Which objects plain data describes."""

from __future__ import annotations

import fractions
from enum import Enum
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from swdc.ir.described_objects import Described, described


class Kind(Enum):
    ONE = 1
    TWO = 2


class Options:
    def __init__(self, **parts: Any) -> None:
        self.__dict__.update(parts)


def test_objects_are_described_by_their_parts() -> None:
    inner = Options(kind=Kind.ONE)
    found = described(Options(b=inner, a=[1, (2.5, None)], c={"x": float("nan")}))
    assert found is not None
    assert list(found.parts) == ["a", "b", "c"]
    assert found.parts["b"] == Described("Options", {"kind": Described("Kind", {"member": "ONE"})})
    assert found.describes(Options(a=[1, (2.5, None)], b=Options(kind=Kind.ONE), c={"x": float("nan")}))
    for other in (
        Options(a=[1, (2.5, None)], b=Options(kind=Kind.TWO), c={"x": float("nan")}),
        Options(a=[1, [2.5, None]], b=inner, c={"x": float("nan")}),
        Options(a=[1, (2.5, None)], b=inner),
        Kind.ONE,
        "Options",
    ):
        assert not found.describes(other)


class Grown(list):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    "value",
    [
        3,
        "text",
        torch.float32,
        torch.ones(2),
        np.ones(2),
        fractions.Fraction(1, 2),
        Grown([1]),
        nn.Linear(1, 1),
        Options,
        len,
        Options(a=torch.ones(1)),
        Options(a=[Options(b=len)]),
        Options(a={1: 2}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_nothing_else_is(value: Any) -> None:
    assert described(value) is None


def test_an_object_that_holds_itself_is_not_described() -> None:
    loop = Options()
    loop.__dict__["own"] = loop
    assert described(loop) is None
