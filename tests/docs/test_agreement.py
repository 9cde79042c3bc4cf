"""The pages, the docstrings, the command line and the package name the same things, with the same defaults."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import tomllib
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

import swdc
from swdc.cli import COMMANDS, _root, app
from swdc.costs.count import CONVENTIONS
from swdc.sparsity.planning.criteria import CRITERIA
from swdc.sparsity.planning.plan import BUDGET_NAMES
from tests.docs import command_line_page

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]*")
OTHERS = ("python ", "pytest ", "pip ", "mypy ", "chromium ", "mkdocs ")
"""Beginnings of code that calls another program, whose options are its own."""
SAME = {"slim": "plan", "quantize": "quantize_onnx", "export": "export_onnx", "verify": "verify", "count": "count"}
"""Commands, and the function of the library that does their work."""
OTHERWISE = {("slim", "policy")}
"""Defaults that differ: ``swdc.plan`` takes the policy that the program was traced with, the command traces it."""


def inline(path: Path) -> list[str]:
    """Return the pieces of code in the sentences and tables of a page."""
    return [text.replace("\\|", "|") for text in INLINE.findall(FENCED.sub("", path.read_text(encoding="utf-8")))]


def commands_of(code: str) -> list[list[str]]:
    """Return the options that a piece of code may name: those of the command that it calls, or of each command."""
    named = re.match(r"swdc (\w+)", code)
    chosen = [COMMANDS[named[1]]] if named and named[1] in COMMANDS else [*COMMANDS.values(), _root]
    return [options(command) for command in chosen]


@cache
def options(command: Any) -> list[str]:
    """Return the options of a command as its page has them."""
    found = [command_line_page._names(parameter) for parameter in command_line_page._parameters(command)]
    return ["--help", *(option for names in found for option in OPTION.findall(names))]


def calls_in(code: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the public functions that a piece of Python calls, with the names of their arguments."""
    try:
        tree = ast.parse(code.replace("...", "_"))
    except SyntaxError:
        return
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and (name := ast.unparse(call.func).removeprefix("swdc.")) in swdc.__all__:
            yield name, [keyword.arg for keyword in call.keywords if keyword.arg]


def found(dotted: str) -> bool:
    """Whether a dotted name stands for something: an attribute, a module, or the group of entry points of passes."""
    place: Any = swdc
    for part in dotted.split(".")[1:]:
        if not hasattr(place, part):
            try:
                importlib.import_module(f"{place.__name__}.{part}")
            except (ImportError, AttributeError):
                return (
                    dotted
                    in tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
                )
        place = getattr(place, part)
    return True


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_options_names_and_arguments_on_a_page_exist(path):
    for code in inline(path):
        if not code.startswith(OTHERS):
            for option in OPTION.findall(code):
                assert any(option in known for known in commands_of(code)), f"no command has the {option} of `{code}`"
        for name, given in calls_in(code):
            taken = inspect.signature(getattr(swdc, name)).parameters.values()
            if all(one.kind is not one.VAR_KEYWORD for one in taken):
                assert set(given) <= {one.name for one in taken}, f"swdc.{name} does not take all of `{code}`"
        if path.name != "operators.md":  # operators of swdc's own have such names, too
            for name in re.findall(r"(?<![\w./])swdc(?:\.\w+)+", code):
                assert found(name), f"there is no {name}, which `{code}` names"


def test_what_does_not_exist_is_found():
    assert not any("--no-such" in known for known in commands_of("swdc slim --no-such"))
    assert "--sparsity" in commands_of("swdc slim")[0]
    assert "--sparsity" not in commands_of("swdc count")[0]
    assert list(calls_in("swdc.plan(program, 0.5, wrong=1)")) == [("plan", ["wrong"])]
    assert found("swdc.errors.PlanError")
    assert not found("swdc.no_such")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_the_options_of_its_page(name):
    group = typer.main.get_command(app)
    command = group.commands[name]  # type: ignore[attr-defined]
    named = [option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)]
    assert {"--help", *(option for option in named if option.startswith("--"))} == {*options(COMMANDS[name])}


@pytest.mark.parametrize(("command", "function"), SAME.items())
def test_an_option_has_the_default_of_the_library(command, function):
    here, there = inspect.signature(COMMANDS[command]).parameters, inspect.signature(getattr(swdc, function)).parameters
    both = {name for name in here.keys() & there.keys() if there[name].default is not inspect.Parameter.empty}
    assert both
    for name in both - {argument for called, argument in OTHERWISE if called == command}:
        mine, theirs = here[name].default, there[name].default
        assert (mine.value if isinstance(mine, Enum) else mine) == (theirs if theirs != () else None), (
            f"{command} {name}"
        )


def test_the_page_of_plans_names_every_criterion_and_budget():
    named = inline(ROOT / "docs" / "explanations" / "plans.md")
    assert {*CRITERIA} <= set(named)
    assert {*BUDGET_NAMES} <= set(named)
    assert {*CONVENTIONS} <= set(inline(ROOT / "docs" / "counting.md"))


def test_the_first_page_names_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    said = re.search(r"The extras are (.*)", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    assert said
    assert set(INLINE.findall(said[1])) == set(project["optional-dependencies"])
