"""``docs/reference/json.md``, and the JSON Schemas beside it."""

from __future__ import annotations

import inspect
import json
from typing import Any

from swdc.artifacts.folder.forms import Graph
from swdc.artifacts.storage.folders import Manifest
from swdc.cli import documents
from swdc.ir.plan import Plan
from swdc.rewriting.certificate import Certificate
from tests.docs.schemas import inside, name_of, schema, table

FORMS: dict[str, Any] = {
    **{
        name_of(form): form for forms in documents.PRINTED.values() for form in forms
    },
    "ErrorDocument": documents.ErrorDocument,
    "DemoReport": documents.DemoReport,
    "Graph": Graph,
    "Plan": Plan,
    "Certificate": Certificate,
    "Manifest": Manifest,
    "LatencyFile": documents.LatencyFile,
}  # fmt: skip
"""The documents that have a schema, by name."""
_FILES = {
    "Graph": "`graph.json` in a folder that `swdc.save` writes",
    "Plan": "`plan.json` in such a folder, `Plan.to_dict()`, and `swdc.plan` in the metadata of files",
    "Certificate": "`certificate.json` in such a folder, and `Certificate.to_dict()`",
    "Manifest": "`manifest.json` in such a folder",
    "LatencyFile": "the cache of measured times",
    "DemoReport": "`report.json` of `swdc demo`",
}
_HEAD = """---
search: {boost: 0.3}
---
# JSON

This page and the schemas are made from the code: `pytest tests/docs --regenerate-golden` writes them. A test holds
what the commands print and write against these forms.

- With `--json` a command prints one document to stdout and nothing else. A command that fails prints an
  [ErrorDocument](#errordocument) there, and its message on stderr, too; the exit code is in both. Arguments that the
  command line itself refuses (an unknown option) are told on stderr alone, with exit code 2.
- A command that ends with exit code 1 has printed its document: `exact` is false, or `failed` is not empty.
- Numbers that are not finite are null in what commands print, because JSON has no infinity. So every field that is a
  number may be null there.
- Parameters, operations and multiply-adds are counts; sizes of files are in bytes, times in milliseconds, shares
  between 0 and 1. Errors are relative.
- What commands print has no version of its own: `swdc --version` says which one printed it. Folders have
  `format` and `version` in [Manifest](#manifest); the cache of times has `format`.

| document | schema |
|---|---|
"""


def schemas() -> dict[str, str]:
    """Return the text of each schema by the name of its file."""
    return {f"{name}.schema.json": json.dumps(schema(form), indent=2) + "\n" for name, form in FORMS.items()}


def page() -> str:
    """Return the page."""
    lines = [_HEAD.rstrip("\n")]
    for name in FORMS:
        where = _FILES.get(name, f"[{name}](#{name.lower()})")
        shown = where if name not in _FILES else f"[{name}](#{name.lower()}): {where}"
        lines.append(f"| {shown} | [{name}.schema.json](schemas/{name}.schema.json) |")
    pending, seen = list(FORMS.values()), set[str]()
    while pending:
        form = pending.pop(0)
        if name_of(form) not in seen:
            seen.add(name_of(form))
            text = inspect.cleandoc(form.__doc__ or "").replace("``", "`")
            lines += [f"\n## {_title(form)}\n", text, "", *table(form)]
            pending += inside(form)
    return "\n".join(lines) + "\n"


def _title(form: Any) -> str:
    return next((name for name, one in FORMS.items() if one is form), name_of(form))
