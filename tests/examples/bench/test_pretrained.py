"""The bench of classes of transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from examples.bench.measurements.pretrained import EQUAL, REFUSED, WAYS, reasons
from examples.bench.networks.pretrained import entry, names
from tests.examples.bench.support_bench import run_bench

pytest.importorskip("transformers")


def test_models_come_as_their_class_makes_them_in_float64_with_three_layers() -> None:
    chosen = entry("qwen2")
    model: Any = chosen.model()
    assert (model.config.use_cache, model.config.num_hidden_layers, model.dtype) == (True, 3, torch.float64)
    assert len(names()) == len(set(names())) == 23


def test_rows_become_a_table_with_the_messages_of_what_is_refused(tmp_path: Path) -> None:
    equal = {"verdict": EQUAL, "tokens": True, "parameters_before": 8, "parameters_after": 6, "reason": ""}
    refused = {"verdict": REFUSED, "reason": "expected something else"}
    row = {"name": "a", "class": "A", "kind": "", **dict.fromkeys(WAYS, equal), "depth": refused}
    assert reasons(row) == {"depth": "expected something else"}
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([row]))
    told = run_bench("pretrained-table", file).stdout
    assert "depth: 0 of 1 equal, refused: 1" in told
    assert "| A | -25% | -25% | -25% | refused | same |" in told
    assert "| A | depth | expected something else |" in told
