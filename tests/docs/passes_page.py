"""``docs/reference/passes.md``: the passes, with the graph before and after, as their docstrings have them."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, Field, fields

from swdc.rewriting.deploy import DEPLOY_PIPELINE
from swdc.rewriting.pass_base import find_pass, pass_names
from swdc.rewriting.rewrites import SLIM_PIPELINE

_HEAD = """---
search: {boost: 0.3}
---
# Passes

This page is made from the code: `pytest tests/docs --regenerate-golden` writes it.

A pass takes a program and returns one; the program that it is given stays as it is. `swdc.apply_pass(program, NAME,
**options)` runs it, with the invariants of the program checked before and after. [Write a
pass](../write-your-own/pass.md) says how to add one.
"""


def page() -> str:
    """Return the page."""
    lines = [
        _HEAD,
        f"`swdc.slim` runs {_list(SLIM_PIPELINE)}.\n",
        f"`swdc.deploy` runs {_list(DEPLOY_PIPELINE)}, until nothing changes.\n",
    ]
    for name in pass_names():
        cls = find_pass(name)
        if not cls.__module__.startswith("passes."):
            continue
        lines += [f"## {name}\n", *_paragraphs(inspect.cleandoc(cls.__doc__ or ""))]
        given = [_field(each) for each in fields(cls)]  # type: ignore[arg-type]
        lines += [f"Options: {', '.join(given)}.\n"] if given else []
        lines += [f"After: {_list(cls.after)}, if they are in the same pipeline.\n"] if cls.after else []
    return "\n".join(lines).rstrip() + "\n"


def _field(field: Field[object]) -> str:
    default = "" if field.default is MISSING else f" (default `{field.default!r}`)"
    return f"`{field.name}: {field.type}`{default}"


def _list(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _paragraphs(text: str) -> list[str]:
    """Return a docstring as Markdown: what follows two colons becomes a block."""
    found, graph = list[str](), False
    for paragraph in text.split("\n\n"):
        indented = paragraph.startswith("    ")
        if indented and graph:
            found.append(f"```text\n{inspect.cleandoc(chr(10) + paragraph)}\n```\n")
            continue
        graph = paragraph.endswith("::")
        plain = paragraph.removesuffix("::") + (":" if graph and len(paragraph) > 2 else "")
        if plain:
            found.append(plain.replace("``", "`") + "\n")
    return found
