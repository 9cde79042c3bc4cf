"""The bench of free residual sums, on a small network."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

import swdc
from examples.bench.measurements import sums as bench
from examples.bench.measurements.sums import ways, zeroed
from swdc.networks import resnet20
from tests.examples.bench.support_bench import run_bench
from tests.support import image, plan_of, randomise


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "NETWORKS", {"small": partial(resnet20, width=8)})
    monkeypatch.setattr(bench, "SIDE", 16)


def test_a_row_tells_how_the_sums_came_out(tmp_path: Path) -> None:
    result = run_bench("sums", "--network", "small", "--repeats", 2, "--json", tmp_path / "sums.json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "sums.json").read_text())
    assert row["exact"]
    assert row["onnx_max_relative_error"] < 1e-3
    assert sum(row["sums"].values()) == 7  # the two with a projection on the shortcut have no free side
    assert 0.9 * row["free_parameters"] < row["tied_parameters"] <= row["free_parameters"] < 0.4 * row["parameters"]
    assert row["free_over_tied"] == row["free_ms"] / row["tied_ms"] > 0


def test_every_way_is_counted() -> None:
    program = swdc.trace(randomise(resnet20(width=8)).eval(), image(2, 3, 16, 16), policy="free")
    whole = plan_of(program, {})
    assert ways(program, swdc.slim(program, whole)) == {"plain": 7, "slice or pad": 0, "gather": 0, "vanished": 0}
    streams = [g.name for g in program.groups if g.name == "conv1" or g.name.endswith("conv2")]
    kept = {g.name: _half(g.width, streams.index(g.name) if g.name in streams else 0) for g in program.groups}
    apart = swdc.slim(program, plan_of(program, kept))
    assert ways(program, apart)["vanished"] == 7


def _half(width: int, number: int) -> tuple[int, ...]:
    """Return the first or the second half of the channels, taking turns."""
    return tuple(range(width // 2)) if number % 2 else tuple(range(width // 2, width))


def test_unknown_networks_are_refused() -> None:
    result = run_bench("sums", "--network", "resnet5")
    assert result.exit_code == 2
    assert "expected networks of small, got 'resnet5'" in result.output


def test_a_plan_of_another_seed_is_another() -> None:
    program = swdc.trace(randomise(resnet20(width=8)).eval(), image(2, 3, 16, 16), policy="free")
    assert zeroed(program, 0) == zeroed(program, 0) != zeroed(program, 1)
    widths = {group.name: group.width for group in program.groups}
    assert all(0 < len(kept) <= 0.55 * widths[name] for name, kept in zeroed(program, 0).kept.items())
