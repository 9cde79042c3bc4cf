"""A page in a headless Chromium: it opens without an error, and can be used by pointer and by keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest

import swdc
from swdc.artifacts.report.page import page_of
from tests.artifacts.report.browser import CHROMIUM, used
from tests.artifacts.report.networks import made
from tests.artifacts.report.reading import Page
from tests.artifacts.report.test_report import HOSTILE, SWEEP

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="expected chromium to open pages in; install Debian's package chromium"
)

SCRIPT = """
const texts = (table, column) =>
  [...document.querySelectorAll(`#${table} tbody tr`)].map((row) => row.cells[column].textContent);
const heads = [...document.querySelectorAll("#layers th[aria-sort]")];
const sorts = () => heads.map((head) => head.getAttribute("aria-sort")).filter((order) => order !== "none");
const press = (element, key) => element.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const button = (text) =>
  heads.find((head) => head.textContent === text && !head.classList.contains("n")).querySelector("button");
const found = { given: texts("layers", 0), before: sorts() };

const parameters = heads.filter((head) => head.textContent === "before")[1].querySelector("button");
parameters.click();
found.falling = [texts("layers", 3), sorts()];
parameters.click();
found.rising = [texts("layers", 3), sorts()];
button("layer").click();
found.names = [texts("layers", 0), sorts()];
found.focusable = parameters.tabIndex;

const picture = document.querySelector(".picture");
const told = document.getElementById("widths-told");
found.told = ["ArrowRight", "ArrowRight", "End", "ArrowLeft"].map((key) => (press(picture, key), told.textContent));
picture.querySelector(".tip").dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
found.pointed = told.textContent;

const field = document.querySelector("input");
if (field) {
  field.value = "0.9";
  field.dispatchEvent(new Event("input"));
  const rows = [...document.getElementById(field.dataset.finds).tBodies[0].rows];
  found.left = rows.filter((row) => !row.hidden).length;
  found.count = field.parentElement.querySelector("output").textContent;
}

const paper = () => getComputedStyle(document.body).backgroundColor;
const toggle = document.getElementById("theme");
found.themes = [paper(), toggle.textContent, (toggle.click(), paper()), toggle.textContent, (toggle.click(), paper())];
found.wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
return found;
"""


def test_a_page_is_used(tmp_path: Path) -> None:
    cells = [{**SWEEP["cells"][0], "seed": seed, "a_min": 0.1 * (seed + 1)} for seed in range(20)]
    sweep = {**SWEEP, "cells": [*SWEEP["cells"], *cells]}
    outcome = used(swdc.report(tmp_path / "page.html", **made().given(), sweep=sweep), SCRIPT)
    found = outcome.found
    assert (outcome.troubles, outcome.console) == ([], [])
    assert found["given"] == ["stem", "norm", "first", "second", "head"]
    assert found["before"] == []
    assert found["falling"] == [["876", "872", "224", "45", "16"], ["descending"]]
    assert found["rising"] == [["16", "45", "224", "872", "876"], ["ascending"]]
    assert found["names"] == [["first", "head", "norm", "second", "stem"], ["ascending"]]
    assert found["focusable"] == 0, "a button takes the focus, and Enter and the space bar press it"
    first, second, last, third = found["told"]
    assert first == found["pointed"] == "stem: 8 channels before, 4 after"
    assert second == "first: 12 channels before, 6 after"
    assert third == "second: 8 channels before, 4 after"
    assert last == "head: 5 channels before, 5 after; 5 are frozen"
    assert found["left"] < len(sweep["cells"])
    assert found["count"] == f"{found['left']} of 24 cells"
    light, dark_offered, dark, light_offered, again = found["themes"]
    assert light == again != dark
    assert (dark_offered, light_offered) == ("Dark", "Light")


def test_a_page_of_two_thousand_layers_opens(tmp_path: Path) -> None:
    data = Page(swdc.report(tmp_path / "small.html", **made().given())).data
    for layers in (data["slim"]["layers"], data["widths"]["layers"]):
        copies = [{**layer, "name": f"net.{n}.{layer['name']}"} for n in range(500) for layer in layers]
        layers[:] = copies[:2000]
    data["widths"]["skips"] = [[n, n + 3] for n in range(1997)]
    path = tmp_path / "page.html"
    path.write_text(page_of(data), encoding="utf-8")
    assert path.stat().st_size < 4_000_000
    script = """
    const rows = document.querySelectorAll("#layers tbody tr"), bars = document.querySelectorAll(".tip");
    document.querySelectorAll("#layers .sort")[2].click();
    return [rows.length, bars.length, document.querySelectorAll("#layers tbody tr")[0].cells[1].textContent];
    """
    outcome = used(path, script)
    assert (outcome.troubles, outcome.console) == ([], [])
    assert outcome.found == [2000, 2000, "12"]


def test_a_page_of_hostile_names_on_a_narrow_screen_runs_no_script_of_theirs(tmp_path: Path) -> None:
    name = "".join(HOSTILE).replace(".", "")
    path = swdc.report(tmp_path / "page.html", **made(first=name, head="x" * 200).given(), title=name)
    frame = "const wide = document.documentElement; return [wide.scrollWidth - wide.clientWidth, document.title];"
    outcome = used(path, frame, width=390)
    assert (outcome.troubles, outcome.console) == ([], [])
    beyond, title = outcome.found
    assert beyond <= 0, "tables and pictures scroll within the page, the page itself does not"
    assert title == f"{name} · swdc report".replace("\n", " ")
