"""``docs/reference/command-line.md``: the commands of ``swdc`` with their options, as their functions have them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import EnumType
from inspect import Parameter
from typing import Any, get_args, get_origin

from typer.models import ArgumentInfo

from swdc.cli import COMMANDS, _root

_HEAD = """# Command line

This page is made from the code: `pytest tests/docs --regenerate-golden` writes it. `swdc COMMAND --help` prints the
same.

Results go to stdout, messages and progress to stderr. With `--json` stdout holds one JSON document and nothing else;
[JSON](json.md) says what is in it.

| exit code | meaning |
|---|---|
| 0 | fine |
| 1 | the result is not what was asked for: no exact certificate, or a training of a sweep that failed |
| 2 | bad usage, or input that swdc cannot use |
| 3 | a defect of swdc |
| 130 | `swdc sweep` was interrupted; the same command goes on |
"""
_WORDS = {bool: "flag", int: "whole number", float: "number", str: "text"}


def page() -> str:
    """Return the page."""
    lines = [_HEAD, "## swdc\n", *_rows(_root)]
    for name, command in COMMANDS.items():
        named = [_metavar(p) for p in _parameters(command) if isinstance(_info(p), ArgumentInfo)]
        lines += [f"## swdc {name}\n", f"```console\n$ {' '.join(['swdc', name, *named])} [OPTIONS]\n```\n"]
        lines += [*_text(command), *_rows(command)]
    return "\n".join(lines).rstrip() + "\n"


def _text(command: Callable[..., Any]) -> list[str]:
    """Return the docstring; its lines that begin with $ become one block for each paragraph."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    blocks = [p.startswith("$ ") for p in paragraphs]
    return [
        f"```console\n{p}\n```\n" if block else " ".join(p.split()) + "\n"
        for p, block in zip(paragraphs, blocks, strict=True)
    ]


def _rows(command: Callable[..., Any]) -> list[str]:
    rows = ["| argument or option | values | default | what it does |", "|---|---|---|---|"]
    for parameter in _parameters(command):
        cells = (_names(parameter), _values(parameter), _default(parameter), _help(parameter))
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return [*rows, ""]


def _parameters(command: Callable[..., Any]) -> list[Parameter]:
    return list(inspect.signature(command, eval_str=True).parameters.values())


def _info(parameter: Parameter) -> Any:
    return get_args(parameter.annotation)[1]


def _type(parameter: Parameter) -> Any:
    """Return the type of a parameter, without ``None``."""
    kind = get_args(parameter.annotation)[0]
    inner = [one for one in get_args(kind) if one is not type(None)]
    return inner[0] if inner and get_origin(kind) is not list else kind


def _metavar(parameter: Parameter) -> str:
    return str(_info(parameter).metavar or parameter.name.upper())


def _names(parameter: Parameter) -> str:
    info = _info(parameter)
    if isinstance(info, ArgumentInfo):
        return f"`{_metavar(parameter)}`"
    declared = [info.default, *(info.param_decls or ())]
    return ", ".join(f"`{name}`" for name in declared if isinstance(name, str))


def _values(parameter: Parameter) -> str:
    info, kind = _info(parameter), _type(parameter)
    if isinstance(info, ArgumentInfo):
        return "-"
    several = ", repeatable" if get_origin(kind) is list else ""
    if info.metavar:
        return f"`{info.metavar}`{several}"
    if isinstance(kind, EnumType):
        return " ".join(f"`{each.value}`" for each in kind)  # type: ignore[attr-defined]
    bounds = [f"{word} {bound}" for word, bound in (("at least", info.min), ("at most", info.max)) if bound is not None]
    return ", ".join([_WORDS.get(kind, "path"), *bounds]) + several


def _default(parameter: Parameter) -> str:
    if parameter.default is Parameter.empty:
        return "required"
    if parameter.default is None or parameter.default is False:
        return "-"
    return f"`{getattr(parameter.default, 'value', parameter.default)}`"


def _help(parameter: Parameter) -> str:
    info = _info(parameter)
    variable = f" The variable `{info.envvar}` sets it, too." if info.envvar else ""
    return " ".join((info.help or "").split()) + variable or "-"
