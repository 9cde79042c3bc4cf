"""``swdc.report``: what stands in a page, and what it refuses."""

from __future__ import annotations

import copy
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.report.slimming import Slimming
from swdc.errors import ExportError
from tests.artifacts.report.networks import Made, made
from tests.artifacts.report.reading import Element, Page

SECTIONS = {"widths", "layers-title", "groups-title", "frozen-title", "certificate", "plan"}
SWEEP: dict[str, Any] = {
    "study": "digits", "storage": "sweep.db", "metric": "accuracy",
    "best": [
        {"target": 0.5, "a_max": 1e4, "a_min": 0.1, "value": 97.5, "seeds": 2},
        {"target": 0.9, "a_max": 1e4, "a_min": 0.1, "value": 93.0, "seeds": 1},
    ],
    "cells": [
        {"target": 0.5, "a_max": 1e4, "a_min": 0.1, "seed": 0, "accuracy": 97.0, "parameters": 5000.0},
        {"target": 0.5, "a_max": 1e4, "a_min": 0.1, "seed": 1, "accuracy": 98.0, "parameters": 5200.0},
        {"target": 0.5, "a_max": 1e3, "a_min": 0.1, "seed": 0, "accuracy": 91.0, "parameters": 5100.0},
        {"target": 0.9, "a_max": 1e4, "a_min": 0.1, "seed": 0, "accuracy": 93.0, "parameters": 900.0},
    ],
    "failed": [{"target": 0.9, "a_max": 1e3, "a_min": 0.1, "seed": 0, "reason": "ValueError: too hot"}],
}  # fmt: skip


@pytest.fixture(scope="module")
def residual() -> Made:
    return made()


@pytest.fixture(scope="module")
def page(residual: Made, tmp_path_factory: pytest.TempPathFactory) -> Page:
    return Page(swdc.report(tmp_path_factory.mktemp("report") / "page.html", **residual.given()))


def shown(cells: list[Element]) -> list[str]:
    return [cell.text for cell in cells]


def test_the_data_of_a_page_are_those_of_the_commands(page: Page, residual: Made) -> None:
    origin = residual.slim.facts.origin
    assert origin is not None
    slimming = Slimming(residual.program, residual.slim, origin.plan, residual.certificate)
    assert page.data["slim"] == json.loads(json.dumps(slimming.to_dict()))
    assert page.data["inspect"] == json.loads(json.dumps(residual.program.explanation.to_dict()))


def test_the_table_of_layers_has_the_numbers_of_the_data_and_they_add_up(page: Page, residual: Made) -> None:
    layers, rows = page.data["slim"]["layers"], page.rows("layers")
    assert len(layers) == len(rows) == 5
    for layer, row in zip(layers, rows, strict=True):
        pairs = [layer[what] for what in ("width", "parameters", "operations", "macs")]
        numbers = [pair[when] for pair in pairs for when in ("before", "after")]
        assert [float(cell.attributes["data-v"] or "nan") for cell in row[1:9]] == numbers
        assert shown(row) == [layer["name"], *(f"{number:,}" for number in numbers), layer["operator"]]
    for what in ("parameters", "operations", "macs"):
        for when in ("before", "after"):
            assert sum(layer[what][when] for layer in layers) == page.data["slim"][what][when]
    assert page.data["slim"]["macs"]["after"] == swdc.count(residual.slim).macs


def test_totals_and_the_first_screen_have_the_numbers_of_the_data(page: Page) -> None:
    slim = page.data["slim"]
    parameters, paper, reference, macs = (shown(row) for row in page.rows("totals"))
    assert parameters[1:3] == [f"{slim['parameters'][when]:,}" for when in ("before", "after")]
    assert [row[2] for row in (paper, reference, macs)] == [f"{p['after']:,}" for p in slim["conventions"].values()]
    figures = [element for element in page.every() if element.attributes.get("class") == "figure"]
    told = {figure.all("dt")[0].text: figure.all("strong")[0].text for figure in figures}
    after = {"Parameters": "parameters", "Multiply-adds": "macs", "Operations, paper’s count": "operations"}
    assert told == {title: f"{slim[what]['after']:,}" for title, what in after.items()}
    assert f"At most {page.data['inspect']['removable_parameters']:,} of the" in page.by_id("main").text


def test_groups_and_reasons_have_their_members_and_the_line_of_the_code(page: Page) -> None:
    groups = {row[0].text: shown(row[1:]) for row in page.rows("groups")}
    assert groups["first"][:4] == ["12", "6", "50.0 %", "first.weight[0], first.bias[0]"]
    assert groups["first"][4] == "second.weight[1]"
    assert groups["stem"][3].startswith("6 tensors"), "a residual sum has many members, which can be opened"
    held, rows = page.data["inspect"]["held"], page.rows("frozen")
    assert [row[0].text for row in rows] == [one["reason"] for one in held]
    assert [float(row[1].attributes["data-v"] or "nan") for row in rows] == [one["parameters"] for one in held]
    assert [row[-1].text for row in rows] == ["stem.weight[1]", "head.weight[0], head.bias[0]"]


class Sorted(nn.Module):
    """Sorts its hidden channels, so that none of them can be removed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.second(self.first(x).sort(-1).values)))  # type: ignore[no-any-return]


def test_what_is_frozen_is_told_on_the_first_screen_with_the_line_of_the_code(tmp_path: Path) -> None:
    program = swdc.trace(Sorted().eval(), torch.randn(2, 4))
    slim = swdc.slim(program, swdc.plan(program, 0.5))
    written = Page(swdc.report(tmp_path / "page.html", program, slim))
    line = f"{Path(__file__).name}:{Sorted.forward.__code__.co_firstlineno + 1}"
    (row,) = [row for row in written.rows("frozen") if "sort" in row[3].text]
    assert row[4].text.endswith(line)
    (reasons,) = [e for e in written.root.all("ul") if e.attributes.get("class") == "reasons"]
    assert line in reasons.text
    assert "first.weight and 1 more: works along this dimension" in reasons.text


def test_the_certificate_is_told_in_full(page: Page, residual: Made) -> None:
    certificate, text = residual.certificate, page.by_id("main").text
    rows = page.rows("cases")
    assert len(rows) == len(certificate.comparisons)
    for case, row in zip(certificate.comparisons, rows, strict=True):
        assert float(row[4].attributes["data-v"] or "nan") == case.relative_error
        assert row[5].attributes["data-v"] == ("" if case.rounding is None else str(case.rounding))
        assert row[1].text == case.dtype
    assert all(assumption in text for assumption in certificate.assumptions)
    assert certificate.assumptions
    assert f"differ by {certificate.max_relative_error:.2e} at most" in text
    assert certificate.slim_hash in text
    assert "Is it exact? Yes" in text


def test_a_certificate_that_is_not_exact_says_why(residual: Made, tmp_path: Path) -> None:
    infinite = replace(residual.certificate, exact=False, max_relative_error=float("inf"), first_difference="relu_1")
    written = Page(swdc.report(tmp_path / "page.html", **{**residual.given(), "certificate": infinite}))
    assert written.data["slim"]["certificate"]["max_relative_error"] is None
    text = written.by_id("main").text
    assert "Is it exact? Not shown" in text
    assert "the first node that differs is relu_1" in text
    assert "Largest relative error in float64: not finite" in text


def test_without_a_certificate_nothing_is_called_exact(residual: Made, tmp_path: Path) -> None:
    text = Page(swdc.report(tmp_path / "page.html", residual.program, residual.slim)).by_id("main").text
    assert "Is it exact? Not verified No certificate was given; swdc.verify makes one." in text
    assert "Yes" not in text


def test_a_section_is_there_if_its_data_are_given(residual: Made, page: Page, tmp_path: Path) -> None:
    assert set(page.ids()) >= SECTIONS
    assert not {"deployment", "sweep"} & set(page.ids())
    deployed = swdc.deploy(residual.slim)
    onnx = swdc.export_onnx(residual.slim, tmp_path / "slim.onnx", deploy=True)
    measured = {"accuracy": (0.9833, 0.975), "milliseconds": (12, 5.25)}
    beside = {"deployed": deployed, "onnx": onnx, "measured": measured, "sweep": SWEEP, "title": "All of it"}
    full = Page(swdc.report(tmp_path / "full.html", **residual.given(), **beside))
    assert set(full.ids()) >= {*SECTIONS, "deployment", "sweep"}
    assert [heading.text for heading in full.root.all("h1")] == ["All of it"]
    stages = {row[0].text: shown(row[1:]) for row in full.rows("stages")}
    assert stages["deployed program"][1] == f"{swdc.count(deployed).parameters:,}"
    assert stages["ONNX, exported"][4] == f"{onnx.stages[0].file_bytes:,}"
    assert stages["ONNX, optimized"][5] == f"{onnx.stages[1].max_relative_error:.2e}"
    assert float(full.rows("stages")[-1][7].attributes["data-v"] or "nan") == onnx.stages[1].latency_ms
    assert full.data["onnx"] == json.loads(json.dumps(onnx.to_dict()))
    assert full.data["measured"]["milliseconds"] == {"before": 12, "after": 5.25}
    figures = [element.text for element in full.every() if element.attributes.get("class") == "figure"]
    assert figures[-2:] == ["accuracy 0.975 before: 0.9833", "milliseconds 5.25 before: 12"]
    linked = [link.attributes["href"] for link in full.root.all("a")]
    assert {f"#{name}" for name in full.ids()} >= set(linked)


def test_a_sweep_alone_has_its_cells_and_a_curve_for_each_cost(tmp_path: Path) -> None:
    written = Page(swdc.report(tmp_path / "sweep.html", sweep=SWEEP))
    assert not SECTIONS & set(written.ids())
    assert written.data["sweep"] == SWEEP
    titles = [caption.text for caption in written.root.all("figcaption")]
    assert titles == ["accuracy over share removed", "accuracy over parameters left"]
    first, second = ([e.attributes["data-tip"] for e in f.all("g")] for f in written.root.all("figure"))
    assert len(first) == len(second) == len(SWEEP["cells"]) + len(SWEEP["best"])
    assert second[1] == "accuracy 98, 5,200 parameters left: share 50 %, a from 0.1 to 10000, seed 1"
    assert first[-2] == "best accuracy 97.5, mean of 2 seeds at share 50 %: a from 0.1 to 10000"
    left, right = (circle.attributes["cx"] for circle in written.root.all("figure")[1].all("circle")[-2:])
    assert left is not None
    assert right is not None
    assert float(left) < float(right), "the line goes from few parameters to many"
    assert shown(written.rows("cells")[1]) == ["50 %", "0.1", "10,000", "1", "98", "5,200"]
    assert "ValueError: too hot" in written.by_id("main").text
    assert "With 50 % removed, the best accuracy is 97.5; with 90 %, it is 93." in written.by_id("main").text


def test_a_sweep_without_a_finished_cell_has_no_curve(tmp_path: Path) -> None:
    nothing = {**SWEEP, "best": [], "cells": []}
    written = Page(swdc.report(tmp_path / "sweep.html", sweep=nothing))
    assert written.root.all("figure") == []
    assert "0 cells are finished, 1 failed" in written.by_id("main").text


HOSTILE = (
    "</script><script>boom()</script>",
    '"><img src=x onerror=boom()>',
    "<!--<script>",
    "{{ 7 * 7 }}",
    "a'b&amp;",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_the_user_cannot_break_out(name: str, tmp_path: Path) -> None:
    hostile = made(first=name)
    sweep = {**SWEEP, "study": name, "failed": [{**SWEEP["failed"][0], "reason": name}]}
    measured = {name: (1.0, 2.0)}
    path = swdc.report(tmp_path / "p.html", **hostile.given(), measured=measured, sweep=sweep, title=name)
    written = Page(path)
    assert written.root.all("img") == []
    assert len(written.root.all("script")) == 2, "that of the data and that of the page"
    assert [heading.text for heading in written.root.all("h1")] == [name]
    assert name in [row[0].text for row in written.rows("layers")]
    assert name in [layer["name"] for layer in written.data["slim"]["layers"]]
    assert name in [layer["name"] for layer in written.data["widths"]["layers"]]
    assert any((bar.attributes.get("data-tip") or "").startswith(f"{name}: 12") for bar in written.root.all("g"))


def test_a_page_loads_nothing(page: Page) -> None:
    for element in page.every():
        loading = {"src", "srcset", "data", "action", "style"} & set(element.attributes)
        assert not loading, element
        assert (element.attributes.get("href") or "#").startswith("#")
        assert not [name for name in element.attributes if name.startswith("on")]
    (style,) = page.root.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    policy = next(e.attributes["content"] for e in page.root.all("meta") if "http-equiv" in e.attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_headings_are_in_order_and_every_part_has_a_name(page: Page) -> None:
    levels = [int(e.tag[1]) for e in page.every() if e.tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert len(page.ids()) == len(set(page.ids()))
    for element in page.every():
        named = element.attributes.get("aria-labelledby") or element.attributes.get("aria-describedby")
        assert named is None or named in page.ids()
        if "tabindex" in element.attributes and element.tag != "main":
            assert element.attributes.get("aria-label")
        if element.tag == "svg":
            assert element.attributes.get("aria-hidden") == "true" or element.attributes.get("aria-label")
    labels = [label.attributes["for"] for label in page.root.all("label")]
    assert labels == [field.attributes["id"] for field in page.root.all("input")]


def refused(residual: Made) -> dict[str, tuple[dict[str, Any], str]]:
    other = made(first="other")
    deployed, given = swdc.deploy(other.slim), residual.given()
    masked = swdc.mask(residual.program, residual.slim.facts.origin.plan)  # type: ignore[union-attr]
    retrained = copy.deepcopy(residual.slim)
    with torch.no_grad():
        retrained.get_parameter("stem.weight").add_(1)
    cell = {name: value for name, value in SWEEP["cells"][0].items() if name != "seed"}
    return {
        "nothing": ({}, "expected something to show"),
        "one program": ({"program": residual.program}, "expected the program before and the slim one"),
        "a certificate alone": ({"certificate": residual.certificate, "sweep": SWEEP}, "give program and slim"),
        "another program": ({**given, "program": other.program}, "expected the program that slim was cut from"),
        "no slim program": ({**given, "slim": residual.program, "certificate": None}, "a program that was not cut"),
        "a masked program": ({**given, "slim": masked}, "a program that was not cut"),
        "other weights": ({**given, "slim": retrained}, "expected a certificate of this program"),
        "another deployment": ({**given, "deployed": deployed}, "expected what swdc.deploy returned for slim"),
        "one number": ({**given, "measured": {"accuracy": (1.0,)}}, "expected two numbers for 'accuracy'"),
        "no number": ({**given, "measured": {"accuracy": ("a", "b")}}, "expected measured as"),
        "half a sweep": ({"sweep": {"cells": []}}, r"prints, got one in which it has the keys \['cells'\]"),
        "half a cell": ({"sweep": {**SWEEP, "cells": [cell]}}, "in which a cell has no seed"),
        "a folder": ({**given, "path": "folder.html"}, "expected the path of a file to write"),
        "a link": ({**given, "path": "link.html"}, "expected the path of a file to write"),
        "another suffix": ({**given, "path": "page.txt"}, "expected a path that ends in .html, got page.txt"),
        "a path below a file": ({**given, "path": "old.html/page.html"}, "expected"),
    }


def test_what_cannot_be_shown_is_refused_and_the_old_file_stays(
    residual: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.html").write_text("old")
    Path("folder.html").mkdir()
    Path("link.html").symlink_to("old.html")
    before = sorted(os.listdir())
    for what, (arguments, message) in refused(residual).items():
        with pytest.raises(ExportError, match=message):
            swdc.report(**{"path": "old.html", **arguments})
        assert sorted(os.listdir()) == before, what
        assert Path("old.html").read_text() == "old", what


def test_a_page_takes_the_place_of_an_old_one_and_the_programs_stay(residual: Made, tmp_path: Path) -> None:
    before = [program.hash() for program in (residual.program, residual.slim)]
    weights = copy.deepcopy(residual.slim.state_dict())
    path = tmp_path / "new" / "page.html"
    path.parent.mkdir()
    path.write_text("old")
    assert swdc.report(path, **residual.given()) == path
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert os.listdir(path.parent) == ["page.html"]
    assert [program.hash() for program in (residual.program, residual.slim)] == before
    assert all(torch.equal(weights[name], tensor) for name, tensor in residual.slim.state_dict().items())
