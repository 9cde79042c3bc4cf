"""The page of a compression: its trials, the one that was chosen, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.report.trial_curve import draw_trials
from swdc.errors import ExportError
from tests.artifacts.report.reading import Page


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))
    inputs = torch.randn(32, 4)
    wanted = network(inputs).detach()

    def closeness(model: nn.Module) -> float:
        return -float((model(inputs) - wanted).detach().abs().max())

    options: dict[str, Any] = {"most_drop": 0.6, "trials": 3, "epochs": 2, "rate": 0.02, "progress": False}
    return swdc.compress(network, inputs[:2], [inputs], closeness, **options).to_dict()


def tips(page: Page, kind: str) -> list[str | None]:
    groups = [group for group in page.root.all("g") if group.all("circle")]
    return [g.attributes["data-tip"] for g in groups if g.all("circle")[0].attributes["class"] == kind]


def test_every_trial_is_drawn_and_the_line_ends_at_the_chosen_one(document: dict[str, Any], tmp_path: Path) -> None:
    page = Page(swdc.report(tmp_path / "page.html", compression=document))
    assert page.data["compression"] == json.loads(json.dumps(document))
    assert [heading.text for heading in page.root.all("h1")] == ["Compression"]
    trials = document["trials"]
    verdicts = ["good enough" if trial["good"] else "fell too far" for trial in trials]
    assert set(verdicts) == {"good enough", "fell too far"}, "the example shows both"
    assert [str(tip).rpartition(": ")[2] for tip in tips(page, "cell")] == verdicts
    assert [row[5].text for row in page.rows("trials")] == verdicts
    assert [row[4].attributes["data-v"] for row in page.rows("trials")] == [str(t["metric"]) for t in trials]
    before, *cuts = tips(page, "best")
    assert str(before).startswith("before: metric")
    assert len(cuts) == len(document["cuts"]) == len(page.rows("cuts"))
    removed = max(trial["removed"] for trial in trials if trial["good"])
    assert f"{100 * removed:.1f} % removed" in str(cuts[-1])
    costs = {row[0].text: row[2].attributes["data-v"] for row in page.rows("costs")}
    assert costs == {name: str(cost) for name, cost in document["costs"].items()}
    assert {f"#{name}" for name in page.ids()} >= {link.attributes["href"] for link in page.root.all("a")}


def test_the_dashed_line_parts_good_trials_from_others(document: dict[str, Any]) -> None:
    (curve,) = draw_trials(document)
    assert curve.level is not None
    for trial, point in zip(document["trials"], curve.points, strict=True):
        assert (point.y <= curve.level) == trial["good"], "a picture's numbers grow downwards"
    assert curve.best[0].x < curve.points[0].x


def test_without_a_good_trial_the_page_says_so(document: dict[str, Any], tmp_path: Path) -> None:
    bad = [{**trial, "good": False} for trial in document["trials"]]
    none = {**document, "found": False, "cuts": [], "trials": bad, "costs": document["costs_before"]}
    page = Page(swdc.report(tmp_path / "page.html", compression=none))
    assert "No trial was good enough" in page.by_id("main").text
    assert "cuts" not in page.ids()
    failed = {**bad[0], "removed": None, "metric": None, "reason": "<script>no plan</script>"}
    page = Page(swdc.report(tmp_path / "page.html", compression={**none, "trials": [failed]}))
    assert page.root.all("figure") == []
    assert page.rows("trials")[0][5].text == "<script>no plan</script>"


def test_another_document_is_refused(document: dict[str, Any], tmp_path: Path) -> None:
    half = copy.deepcopy(document)
    del half["costs"]["macs"]
    unknown = copy.deepcopy(document)
    unknown["cuts"][0]["trial"]["metric"] = None
    wrong = {
        "has the keys": {"found": True},
        "macs is counted on one side only": half,
        "a cut has no metric": unknown,
    }
    for message, data in wrong.items():
        with pytest.raises(ExportError, match=f"swdc compress --json prints, got one in which .*{message}"):
            swdc.report(tmp_path / "page.html", compression=data)
    assert list(tmp_path.iterdir()) == []
