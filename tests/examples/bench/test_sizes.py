"""The bench of sizes: which sizes a network takes, and what its parts do there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from examples.bench.measurements.other_sizes import PARTS, sizes_taken, verdicts
from examples.bench.sizes import not_equal
from tests.examples.bench.support_bench import run_bench
from tests.support import Function


@pytest.mark.parametrize(
    ("model", "inputs", "expected"),
    [
        (nn.Conv2d(3, 4, 3), torch.randn(2, 3, 64, 64), [[(2, 3, 48, 48)], [(2, 3, 80, 48)]]),
        (nn.Linear(3, 4), torch.randn(2, 10, 3), [[(2, 6, 3)], [(2, 12, 3)]]),
        (nn.Linear(3, 4), torch.randn(2, 3), []),
        (Function(lambda m, x: x[:, : 1 + 4 // (x.shape[1] < 12)]), torch.randn(2, 10), [[(2, 6)]]),
    ],
    ids=["an image", "a length", "none", "smaller only"],
)
def test_the_sizes_that_a_model_takes(model: nn.Module, inputs: Any, expected: Any) -> None:
    assert [[tuple(each.shape)] for each in sizes_taken(model, inputs)] == expected


def test_indices_of_an_edge_list_stay_in_range() -> None:
    model = Function(lambda m, x, edges: x[edges].sum(0))
    inputs = (torch.randn(4, 3), torch.tensor([[0, 3, 2, 2, 1, 0, 3, 3], [1, 1, 1, 1, 1, 1, 1, 1]]))
    assert [tuple(edges.shape) for _, edges in sizes_taken(model, inputs)] == [(2, 6), (2, 10)]


def test_the_worst_part_at_each_size_is_named() -> None:
    row = {"shapes": [[[2, 6]], [[2, 10]]], "program": ["equal", "refused: at 10"], "slim": ["silent: 1e-1", "equal"]}
    assert list(verdicts(row)) == [("slim", "silent: 1e-1"), ("program", "refused: at 10")]
    assert list(not_equal(row)) == ["2x6: slim silent: 1e-1", "2x10: program refused: at 10"]


def test_a_network_of_the_bench(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    assert run_bench("sizes", "--library", "core", "--only", "resnet20", "--json", file).exit_code == 0
    (row,) = json.loads(file.read_text())
    assert [row[part] for part in PARTS] == [["equal", "equal"]] * 4
    table = run_bench("sizes-table", file).stdout
    assert "2 of 2 pairs of network and size agree; refused: 0, silent: 0, raw: 0; not measured: 0" in table
