"""Help texts from docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from rich.markup import escape


def help_of(command: Callable[..., Any]) -> str:
    """Return the docstring of a command as its help: paragraphs are re-wrapped, examples (``$ swdc ...``) are not."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    flowing = [p if p.startswith("$ ") else p.replace("\n", " ") for p in paragraphs]
    return escape("\n\n".join(flowing))
