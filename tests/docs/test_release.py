"""What a release says of itself agrees: the version stands in one place, and the citation names it."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import swdc

ROOT = Path(__file__).parents[2]


def test_the_version_stands_in_one_place_and_the_citation_names_it():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["hatch"]["version"]["path"] == "swdc/__init__.py"
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.+)$", citation, re.MULTILINE) == [swdc.__version__] == [version("swdc")]
