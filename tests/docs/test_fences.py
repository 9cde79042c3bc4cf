"""Blocks in docstrings are fenced for the site, and nothing else of a docstring changes."""

from __future__ import annotations

import inspect
import re

import pytest

import swdc
from tests.docs.fences import fenced

TEXT = """Return a thing.

Two colons:: in a sentence stay.

Example::

    first = 1
    if first:

        second = 2

The end.

    Indented without colons."""
FENCED = """Return a thing.

Two colons:: in a sentence stay.

Example:

```python
first = 1
if first:

    second = 2
```

The end.

    Indented without colons."""


def test_a_block_after_two_colons_is_fenced():
    assert fenced(TEXT) == FENCED
    assert fenced(FENCED) == FENCED


WITH_BLOCKS = [name for name in swdc.__all__ if "::\n\n" in (inspect.getdoc(getattr(swdc, name)) or "")]


@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_the_docstrings_of_the_api_keep_their_lines(name):
    text = inspect.getdoc(getattr(swdc, name)) or ""
    found = fenced(text)
    assert "::\n\n" not in found
    assert found.count("```python\n") == text.count("::\n\n")
    lines = [line.strip() for line in found.splitlines() if not line.startswith("```")]
    assert lines == [re.sub("::$", ":", line.strip()) for line in text.splitlines()]
