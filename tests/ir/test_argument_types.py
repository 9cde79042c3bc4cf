"""The types of arguments at the door of public functions."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.errors import ArtifactError, PlanError, SwdcError
from swdc.ir.argument_types import checked, fits

NUMBER = 3.5


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1, int), (np.int64(1), int), (1, float), (NUMBER, float), (np.float32(1), float), (float("inf"), float),
        (True, bool), (None, int | None), ("a", str | Path), (Path("a"), str | Path), ((1, 2), Sequence[int]),
        ([1], Sequence[int | str]), ("layer4", str | Iterable[str]), ({"a"}, Iterable[str]),
        ({"a": 1}.keys(), Iterable[str]), (10**100, float),
        ({"a": torch.ones(1)}, Mapping[str, torch.Tensor]), ({}, Mapping[str, int]), (len, Callable[..., Any]),
        (nn.ReLU, type[nn.Module]), ((1, "a"), tuple[int, str]), (object(), Any), (nn.ReLU(), nn.Module),
    ],
)  # fmt: skip
def test_values_that_fit(value: object, hint: object) -> None:
    assert fits(value, hint)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (True, int), (True, float), (1.0, int), (float("nan"), float), ("1", float), (None, int), (1, bool),
        (1, str | Path), (b"a", Iterable[int]), (3, Sequence[int]), ((1, 2.5), Sequence[int]), ([1], Iterable[str]),
        ("abc", Sequence[int]), ("abc", Iterable[str]), (b"abc", Sequence[int]), (bytearray(3), Sequence[int]),
        (nn.Sequential(), Iterable[str]), (torch.ones(0), Iterable[str]), ({}, Iterable[str]), (2**63, int),
        (10**400, float), (np.float32("nan"), float),
        ({"a": 1}, Mapping[str, torch.Tensor]), ({1: torch.ones(1)}, Mapping[str, object]),
        (3, Callable[..., Any]), (nn.ReLU(), type[nn.Module]), (int, type[nn.Module]), ((1, 2), tuple[int, str]),
        ((1,), tuple[int, str]), (nn.ReLU(), swdc.Program),
    ],
)  # fmt: skip
def test_values_that_do_not_fit(value: object, hint: object) -> None:
    assert not fits(value, hint)


def test_a_function_is_not_entered_with_a_wrong_argument() -> None:
    entered: list[float] = []

    @checked(PlanError)
    def share(part: float, names: Sequence[str] = ()) -> float:
        entered.append(part)
        return part

    assert share(0.5, names=["a"]) == 0.5
    with pytest.raises(PlanError, match=r"expected part as a number, got '0\.5'; give one"):
        share("0.5")  # type: ignore[arg-type]
    with pytest.raises(PlanError, match=r"expected names as a sequence of \(text\), got \[1\]"):
        share(0.5, [1])  # type: ignore[list-item]
    assert entered == [0.5]


def test_a_function_gets_numbers_of_python_and_tuples() -> None:
    @checked(PlanError)
    def taken(part: float, count: int, flag: bool, names: Iterable[str] = (), anything: Any = None) -> tuple[Any, ...]:
        return part, count, flag, names, anything

    found = taken(np.float32(0.5), np.int64(3), np.True_, (name for name in "ab"), np.int64(1))  # type: ignore[arg-type]
    assert found == (0.5, 3, True, ("a", "b"), 1)
    assert [type(each) for each in found] == [float, int, bool, tuple, np.int64]
    assert taken(Fraction(1, 2), 1, False)[0] == 0.5  # type: ignore[arg-type]
    with pytest.raises(
        PlanError, match=r"expected names as an iterable of \(text\), got a generator, which fails with Zero"
    ):
        taken(0.5, 1, True, (name / 0 for name in [1]))


def test_what_cannot_be_printed_is_named_by_its_type() -> None:
    with pytest.raises(SwdcError, match="expected batch as a whole number or None, got an int"):
        swdc.count(swdc.trace(nn.Linear(2, 2), torch.ones(2, 2)), batch=10**5000)


def test_the_message_says_what_to_do() -> None:
    with pytest.raises(SwdcError, match=r"expected program as a Program, got a ReLU; make one with swdc\.trace"):
        swdc.count(nn.ReLU())  # type: ignore[arg-type]


class _Path:
    """A path that stands for something else than text."""

    def __init__(self, stands_for: object) -> None:
        self.stands_for = stands_for

    def __fspath__(self) -> object:
        return self.stands_for


@pytest.mark.parametrize("stands_for", [b"folder", 3])
def test_a_path_stands_for_text(stands_for: object) -> None:
    with pytest.raises(ArtifactError, match="expected path as text or a path, got a _Path, which "):
        swdc.load(_Path(stands_for))  # type: ignore[arg-type]
