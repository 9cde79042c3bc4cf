"""The pages of the reference that are made from the code are up to date."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

import swdc
from swdc.ops.base import Operator, lookup
from tests.docs import command_line_page, operators_page, passes_page
from tests.docs.reasons import POSITIONS, reasons

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "operators.md": operators_page.page,
    "passes.md": passes_page.page,
    "command-line.md": command_line_page.page,
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_says(name, request):
    path, made = REFERENCE / name, PAGES[name]()
    if request.config.getoption("--regenerate-golden"):
        path.write_text(made, encoding="utf-8")
    committed = path.read_text(encoding="utf-8")
    assert committed == made, f"{name} is out of date; run pytest tests/docs --regenerate-golden and read the diff"


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
