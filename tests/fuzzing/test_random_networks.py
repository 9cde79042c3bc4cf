"""Random small networks of all kinds, random plans: whatever is built, slim computes what masked computes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzzing.checking import check
from tests.fuzzing.network import STARTS, Spec, draw_spec
from tests.fuzzing.shrinking import reproduction, shrink

EACH = 25
"""Networks of each kind; three hundred in all."""
PROFILE = settings(
    max_examples=EACH, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # networks are made smaller block by block instead
)  # fmt: skip

FOUND: dict[str, dict[str, Any]] = {
    "the gradient of a bias before a norm, in mixed types": {
        "start": "two vectors",
        "seed": 20003495,
        "steps": [
            ["dense_of_vector", 1050226278],
            ["dense_of_vector", 809251606],
            ["perceptron", 1075899943],
            ["dense_of_vector", 846164567],
            ["again", 471115899],
        ],
        "types": "float32+bfloat16",
    },
    "the gradient of a single bias before a norm, which float32 rounds to nothing by chance": {
        "start": "two vectors",
        "seed": 244,
        "steps": [
            ["dense_of_vector", 1756222398],
            ["dense_of_vector", 1648630343],
            ["dense_of_vector", 661442083],
            ["over_channels", 567845512],
            ["dense_of_vector", 973600602],
            ["again", 1522233241],
            ["dropout", 1976512107],
            ["again", 6304253],
            ["dense_of_vector", 1458243407],
        ],
        "types": "bfloat16+float32",
    },
    "a batch norm of equal samples, which leaves nothing but rounding": {
        "start": "graph",
        "seed": 2369,
        "steps": [
            ["dense_of_nodes", 367916416],
            ["dense_of_nodes", 1466464842],
            ["gain", 29975114],
            ["norm_of_nodes", 81244895],
            ["with_context", 217466186],
            ["pointwise", 978067488],
            ["with_context", 422164178],
        ],
        "types": "float32",
    },
}
"""Networks that once failed, by what was wrong."""


def assert_holds(spec: Spec) -> None:
    outcome = check(spec)
    assert outcome.result != "failed", json.dumps(reproduction(shrink(outcome)), indent=1)


@pytest.mark.parametrize("start", STARTS)
def test_slim_computes_what_masked_computes(start: str) -> None:
    @PROFILE
    @given(st.integers(0, 2**32 - 1))
    def networks(seed: int) -> None:
        assert_holds(draw_spec(seed, most=4, start=start))

    networks()


def test_there_are_three_hundred_of_them() -> None:
    assert EACH * len(STARTS) >= 300


@pytest.mark.parametrize("name", FOUND)
def test_what_was_once_wrong(name: str) -> None:
    assert_holds(Spec.from_dict(FOUND[name]))
