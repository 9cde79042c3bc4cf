"""The command line as a whole: help, version, bad usage."""

import json
import runpy
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points

import pytest
from typer.main import get_command

import swdc
from swdc.cli import COMMANDS, app, main
from swdc.cli.demo.tasks import SCENES
from swdc.cli.sweep.optuna_study import SAMPLERS
from swdc.costs.count import CONVENTIONS
from swdc.ir.trace_options import POLICIES
from swdc.sparsity.planning.criteria import WITHOUT_DATA
from swdc.sparsity.planning.plan import BUDGET_NAMES, SCOPES
from tests.cli.support_cli import run

NAMES = ("inspect", "count", "slim", "export", "verify")


def test_help_names_every_command_and_shows_an_example() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "swdc slim torchvision.models:resnet18 --input 1x3x224x224" in result.stdout
    assert [name for name in NAMES if f" {name} " not in result.stdout] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command_shows_how_to_call_it(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"\n $ swdc {name} " in result.stdout
    assert "\b" not in result.stdout


@pytest.mark.parametrize("name", NAMES)
def test_every_option_is_explained(name: str) -> None:
    for parameter in get_command(app).commands[name].params:  # type: ignore[attr-defined]
        assert parameter.help, parameter.name


def test_every_command_is_in_the_help_in_the_order_of_the_table() -> None:
    assert [*get_command(app).commands] == [*COMMANDS]  # type: ignore[attr-defined]
    assert set(NAMES) <= set(COMMANDS)


def test_the_version_is_that_of_the_package() -> None:
    assert run("--version").stdout == f"{swdc.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune"], "No such command 'prune'"),
        (["inspect"], "Missing argument 'MODEL'"),
        (["slim", "tests.cli.small_models:mlp"], "Missing option '--out'"),
        (
            ["slim", "tests.cli.small_models:mlp", "--out", "o", "--budget", "seconds"],
            "Invalid value for '--budget'",
        ),
        (["count", "tests.cli.small_models:mlp", "--seed", "-1"], "Invalid value for '--seed'"),
    ],
)
def test_bad_usage_is_code_2_with_a_message(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    result = run(*arguments, "--json")
    assert result.exit_code == 2
    assert message in result.stderr
    told = json.loads(result.stdout)["error"]
    assert message in told["message"]
    assert told["exit_code"] == 2


@pytest.mark.parametrize(
    ("command", "option", "known"),
    [
        ("slim model --out folder", "--budget", BUDGET_NAMES),
        ("slim model --out folder", "--criterion", WITHOUT_DATA),
        ("slim model --out folder", "--scope", SCOPES),
        ("slim model --out folder", "--policy", POLICIES),
        ("count model", "--convention", CONVENTIONS),
        ("sweep resnet20", "--sampler", SAMPLERS),
        ("demo", "--network", SCENES),
    ],
)
def test_choices_are_those_of_the_library(command: str, option: str, known: Sequence[str]) -> None:
    result = run(*command.split(), option, "none-of-them")
    assert result.exit_code == 2
    assert f"'none-of-them' is not one of {', '.join(map(repr, known))}." in result.stderr


def test_python_m_swdc_is_the_same(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["swdc", "--version"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("swdc", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"{swdc.__version__}\n"


def test_the_script_is_installed() -> None:
    (script,) = entry_points(group="console_scripts", name="swdc")
    assert script.load() is main
