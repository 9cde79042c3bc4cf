"""Blocks of code in docstrings, for the site: what is indented after two colons is fenced, as Markdown has it.

``mkdocs.yml`` names this file. Without it the page of the API prints both colons, and the code has no colours.
"""

from __future__ import annotations

import re
from textwrap import dedent, indent
from typing import Any

from griffe import Extension, Object

_BLOCK = re.compile(r"^([ ]*)(\S.*)::\n\n((?:\1 {4}.*\n|[ ]*\n)*\1 {4}.*)", re.MULTILINE)


def fenced(text: str) -> str:
    """Return a docstring with fenced blocks in the place of indented ones."""

    def block(found: re.Match[str]) -> str:
        margin, sentence, code = found.groups()
        return f"{margin}{sentence}:\n\n" + indent(f"```python\n{dedent(code)}\n```", margin)

    return _BLOCK.sub(block, text)


class Fences(Extension):
    """Tells griffe, which reads the docstrings for the site."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)
