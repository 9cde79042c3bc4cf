"""The rows of an experiment: one JSON object for each trained network, in a file that several processes may share."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from examples.bench.running.row_files import read_rows, write_rows

Row = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """What a network is trained with; it is finished if the file has a row of the same setting.

    ``method`` is a name of ``common.methods``; ``structure`` is ``weights`` or ``channels``; ``target`` is the share
    that goes, 0 for a dense network; ``subset`` the number of training images, all where none is given.
    ``rate`` names a course of the rate (``common.training.RATES``), by default that of the recipe; ``held`` says that
    SWD holds its pull.
    """

    experiment: str
    network: str
    dataset: str
    method: str
    structure: str
    target: float
    seed: int
    epochs: int
    width: int | None = None
    subset: int | None = None
    batch: int | None = None
    a_min: float | None = None
    a_max: float | None = None
    rate: str | None = None
    held: bool | None = None

    def matches(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has this setting."""
        return all(row.get(name) == value for name, value in asdict(self).items())

    def __str__(self) -> str:
        what = f"{self.network}{'' if self.width is None else f'-{self.width}'} {self.method}"
        target = f" {self.structure} {100 * self.target:g} %" if self.target else ""
        bounds = "" if self.a_min is None else f" a {self.a_min:g} to {self.a_max:g}"
        return f"{what}{target}{bounds}, seed {self.seed}"


def finished(path: Path, setting: Setting) -> Row | None:
    """Return the row of a setting in a file, if there is one."""
    return next((row for row in read_rows(path) if setting.matches(row)), None)


def add_row(path: Path, setting: Setting, results: Mapping[str, Any]) -> Row:
    """Add a row to a file, in place of one of the same setting, and return it."""
    row = {**asdict(setting), **results}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_rows(path, [*(old for old in read_rows(path) if not setting.matches(old)), row])
    return row


def digest(settings: Mapping[str, Any]) -> str:
    """Return a short name for settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]
