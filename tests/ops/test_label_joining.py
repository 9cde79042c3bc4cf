"""What values that are put together have in common."""

from __future__ import annotations

import numpy as np
import pytest

from swdc.channels.dead_values import UNKNOWN
from swdc.ops.label_joining import agreeing, either


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (0.0, 0.0, 0.0),
        (0.5, 0.5, 0.5),
        (0.0, 0.5, UNKNOWN),
        (UNKNOWN, 0.0, UNKNOWN),
        (UNKNOWN, UNKNOWN, UNKNOWN),
        (np.array([0.0, 1.0]), 0.0, np.array([0.0, UNKNOWN])),
        (np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([0.0, 1.0])),
        (np.array([0.0, 1.0]), np.array([0.0, 1.0, 2.0]), UNKNOWN),
    ],
)
def test_what_is_taken_from_one_of_two_is_known_where_they_agree(one: object, other: object, expected: object) -> None:
    np.testing.assert_array_equal(either(one, other), expected)  # type: ignore[arg-type]


def test_all_have_to_agree() -> None:
    assert agreeing([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]]) == [0.0, 1.0]
    first, second = agreeing([[0.0, 1.0], [0.0, 2.0], [0.0, 1.0]])
    assert first == 0.0
    assert np.isnan(second)
