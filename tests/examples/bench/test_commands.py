"""The measurements as a command line: help, options, and where they stand."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from examples.bench.__main__ import COMMANDS, app
from examples.bench.networks.catalogue import LIBRARIES
from examples.bench.running.process import run
from tests.cli.support_cli import run as run_swdc
from tests.examples.bench.support_bench import run_bench

ROOT = Path(__file__).parents[3]


def test_the_help_names_every_command() -> None:
    result = run_bench("--help")
    assert result.exit_code == 0
    assert [name for name in COMMANDS if f" {name} " not in result.stdout] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_shows_how_to_call_it(name: str) -> None:
    result = run_bench(name, "-h")
    assert result.exit_code == 0
    assert f"\n $ python -m examples.bench {name}" in result.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    for parameter in get_command(app).commands[name].params:  # type: ignore[attr-defined]
        assert parameter.help, parameter.name


def test_the_libraries_are_those_of_the_catalogue() -> None:
    assert f"<{'|'.join(LIBRARIES)}>" in run_bench("zoo", "-h").stdout
    result = run_bench("zoo", "--library", "jax")
    assert result.exit_code == 2
    assert "--library" in result.stderr


def test_a_new_process_finds_the_modules_of_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("def answer(number):\n    return number + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert run("only_here:answer", 41)[0] == 42


def test_swdc_neither_holds_nor_imports_them() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["swdc", "passes"]
    sources = [path for package in wheel["packages"] for path in (ROOT / package).rglob("*.py")]
    outside = re.compile(r"^\s*(from|import) (examples|tests)\b", re.MULTILINE)
    assert [path.name for path in sources if outside.search(path.read_text())] == []
    assert "bench" not in run_swdc("--help").stdout
