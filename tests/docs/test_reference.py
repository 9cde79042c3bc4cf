"""The pages of the reference that are made from the code are up to date."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import swdc
from swdc.costs.latency.cache import Cache
from swdc.ir.data_forms import check_form
from swdc.ops.base import Operator, lookup
from tests.docs import command_line_page, json_page, operators_page, passes_page
from tests.docs.reasons import POSITIONS, reasons
from tests.docs.schemas import schema

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "operators.md": operators_page.page,
    "passes.md": passes_page.page,
    "command-line.md": command_line_page.page,
    "json.md": json_page.page,
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name, request):
    path, made = REFERENCE / name, PAGES[name]()
    if request.config.getoption("--regenerate-golden"):
        path.write_text(made, encoding="utf-8")
    committed = path.read_text(encoding="utf-8")
    assert committed == made, f"{name} is out of date; run pytest tests/docs --regenerate-golden and read the diff"


def test_the_schemas_are_what_the_code_says(request):
    folder, made = REFERENCE / "schemas", json_page.schemas()
    if request.config.getoption("--regenerate-golden"):
        for name, text in made.items():
            (folder / name).write_text(text, encoding="utf-8")
    committed = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    assert committed == made, "a schema is out of date; run pytest tests/docs --regenerate-golden and read the diff"


def test_the_files_that_swdc_writes_are_of_their_forms(tmp_path):
    program = swdc.trace(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval(), torch.randn(2, 4))
    plan = swdc.plan(program, 0.5)
    slim = swdc.slim(program, plan)
    swdc.save(slim, tmp_path / "saved", swdc.verify(swdc.mask(program, plan), slim))
    cache = Cache(threads=1, folder=tmp_path)
    cache.add({"Gemm()": {(1, 4, 8): 0.25}})
    files = {tmp_path / "saved" / f"{name.lower()}.json": name for name in ("Graph", "Plan", "Certificate", "Manifest")}
    for path, name in {**files, cache.path: "LatencyFile"}.items():
        data = json.loads(path.read_text(encoding="utf-8"))
        check_form(data, json_page.FORMS[name], name)
        assert set(schema(json_page.FORMS[name])["$defs"][name]["required"]) <= set(data)


def test_reasons_are_found_in_helpers_base_classes_and_constants():
    def of(name: str) -> list[str]:
        return reasons(type(lookup(name)))

    assert POSITIONS in of("aten.conv2d.default")
    assert "computes with complex numbers" in of("aten.conv2d.default")
    assert "rows are looked up by the data" in of("aten.embedding.default")
    assert "draws random numbers for its channels" in of("aten.rrelu.default")
    assert reasons(Operator) == ["no rule for this operator"]


def test_rules_of_users_are_not_on_the_page(monkeypatch):
    from swdc.ops.base import OPERATORS

    class Theirs(Operator):
        """Comes from outside."""

        names = ("aten.bessel_j0.default",)

    monkeypatch.setitem(OPERATORS.operators, Theirs.names[0], Theirs())
    assert operators_page.page() == (REFERENCE / "operators.md").read_text(encoding="utf-8")


def test_the_page_of_the_api_has_every_public_name_once():
    named = re.findall(r"^::: swdc\.(\w+)$", (REFERENCE / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(swdc.__all__)
