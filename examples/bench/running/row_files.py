"""The rows of the zoo: what they hold, what may be wrong with a network, and the file that they are kept in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swdc.errors import CommandError

Row = dict[str, Any]
KINDS = (
    "", "build", "capture", "no groups", "surgery", "no effect", "not exact", "reduction", "onnx", "transplant",
    "time-out", "memory", "crash", "error",
)  # fmt: skip
"""What may be wrong with a network, the first of several; empty where all holds."""


def blank(library: str, name: str) -> Row:
    """Return the row of a network of which nothing is known yet."""
    return {
        "library": library, "name": name, "captured_by": None, "prunable_share": None, "parameters_before": None,
        "parameters_after": None, "operations_before": None, "operations_after": None, "reduction": None,
        "exact": False, "max_relative_error": None, "effect": None, "onnx": None, "onnx_max_relative_error": None,
        "transplant": None, "transplant_notes": [],
        "phase": None, "seconds": {}, "kind": "error", "reason": "nothing was measured",
    }  # fmt: skip


def summary(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Return how many rows there are of each kind, in the order of ``KINDS``."""
    kinds = [row["kind"] for row in rows]
    return {kind: kinds.count(kind) for kind in KINDS if kind in kinds}


def read_rows(path: Path | None) -> list[Row]:
    """Return the rows in a file, none where there is no file; ``CommandError`` if it holds something else."""
    if path is None or not path.exists():
        return []
    try:
        rows = json.loads(path.read_text())
    except ValueError as error:
        raise CommandError(f"expected a JSON list of rows in {path}, got {error}; name another file") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CommandError(f"expected a JSON list of rows in {path}, got something else; name another file")
    return rows


def write_rows(path: Path | None, rows: Iterable[Row]) -> None:
    """Write rows to a file at once, each on a line: whoever reads it finds all of the old or all of the new."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
    os.replace(partial, path)
