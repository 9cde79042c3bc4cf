"""The bench of counts: networks of torchvision with their published figures, torch's counter, and tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from examples.bench.measurements import counts as bench
from examples.bench.measurements.counts import Case, cases, counts
from examples.bench.measurements.published import detectors, figures
from examples.bench.networks.entry import Entry
from swdc.networks import resnet20
from tests.examples.bench.support_bench import run_bench

ROWS = Path(bench.__file__).parents[2] / "counts" / "rows"


@pytest.mark.parametrize("name", ["resnet18 IMAGENET1K_V1", "vit_b_32 IMAGENET1K_V1", "lraspp_mobilenet_v3_large"])
def test_published_figures_are_met(name: str, tmp_path: Path) -> None:
    (name,) = (case.name for case in cases("torchvision") if case.name.startswith(name))
    result = run_bench("counts", "--only", name, "--json", tmp_path / "rows.json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert (row["device"], row["reason"]) == ("meta", "")
    assert row["macs"] == row["torch"] == pytest.approx(row["published"], rel=0.005)
    assert row["to_published"] == row["to_torch"] == 1
    assert "within 0.5% of published: 1 of 1; within 1.0% of torch's counter: 1 of 1" in result.stdout
    table = run_bench("counts-table", tmp_path / "rows.json").stdout
    assert f"| {name} | " in table
    assert f"| {row['macs']:,} | " in table


def test_all_models_with_figures_are_listed_once_for_each_figure() -> None:
    names = [figure.name for figure in figures()]
    assert len(names) == len(set(names)) > 100
    assert {name.split()[0] for name in names} >= {"alexnet", "raft_small", "swin3d_t", "fcn_resnet50", "vit_h_14"}
    assert {figure.name.split()[0] for figure in detectors()} >= {"ssd300_vgg16", "maskrcnn_resnet50_fpn"}
    assert not {figure.name for figure in detectors()} & set(names)


def test_a_network_that_needs_values_is_counted_on_them_and_one_that_fails_is_a_row() -> None:
    def fails() -> torch.nn.Module:
        raise ValueError("no such network")

    entry = Entry("small", lambda: resnet20(width=4), lambda: torch.randn(2, 3, 8, 8))
    given = [Case("small", entry, values=True), Case("broken", Entry("broken", fails, entry.inputs))]
    small, broken = counts("core", given)
    assert (small["device"], small["to_torch"], small["to_published"]) == ("cpu", 1, None)
    assert small["macs"] == small["torch"] > 0
    assert "no such network" in broken["reason"]


def test_unknown_networks_are_refused() -> None:
    result = run_bench("counts", "--library", "core", "--only", "resnet19")
    assert result.exit_code == 2
    assert "expected networks of mlp" in result.stderr


WITH_HEADS_FOR_BOXES = {"keypointrcnn_resnet50_fpn COCO_V1", "maskrcnn_resnet50_fpn_v2 COCO_V1"}
"""What is published counts masks and key points, which random inputs have no boxes for."""


@pytest.mark.parametrize("path", sorted(ROWS.glob("*.json")), ids=lambda path: path.stem)
def test_the_committed_rows_agree(path: Path) -> None:
    rows = json.loads(path.read_text())
    assert rows
    for row in rows:
        assert row["reason"] == ""
        published = None if row["name"] in WITH_HEADS_FOR_BOXES else row["to_published"]
        assert published is None or abs(published - 1) <= 0.005, row["name"]
        assert row["to_torch"] is None or abs(row["to_torch"] - 1) <= 0.01, row["name"]
