"""What was measured so far, kept in a folder, so that a run that was killed goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swdc.artifacts.onnx.placing import parts_of
from swdc.artifacts.onnx.runtime import Array
from swdc.errors import ExportError
from swdc.ir.atomic_files import write_whole


class Progress:
    """Numbers by name, in a file that is written after each of them; and a file for the ranges of activations."""

    def __init__(self, folder: Path) -> None:
        self._ranges = folder / "ranges.json"
        self._file = folder / "measured.json"
        self._found: dict[str, Any] = json.loads(self._file.read_text()) if self._file.is_file() else {}

    @classmethod
    def at(
        cls, state: str | os.PathLike[str] | None, folder: Path, source: Path, feeds: Sequence[Mapping[str, Array]],
        options: Mapping[str, Any],
    ) -> Progress:  # fmt: skip
        """Return the progress of one file with some inputs and options: in ``state``, or in ``folder``.

        Raises ``ExportError`` if ``state`` cannot be a folder.
        """
        if state is not None and not os.fspath(state):
            raise ExportError("expected a folder for the state, got an empty path; give one, or None")
        own = folder / "progress" if state is None else Path(state) / _key(source, feeds, options)[:16]
        try:
            own.mkdir(parents=True, exist_ok=True)
            return cls(own)
        except (OSError, ValueError) as error:
            raise ExportError(f"expected a folder for the state, but {error}; give another one") from error

    @contextmanager
    def ranges(self, folder: Path) -> Iterator[Path]:
        """Yield a file in a folder for the ranges of activations, with those that are known, and keep those found."""
        own = folder / self._ranges.name
        if self._ranges.is_file():
            shutil.copyfile(self._ranges, own)
        yield own
        if own.is_file() and not self._ranges.is_file():
            write_whole(self._ranges, own.read_text())

    def kept(self, name: str, measure: Callable[[], Any]) -> Any:
        """Return what was measured under a name; measure it if nothing was."""
        if name not in self._found:
            self._found[name] = measure()
            write_whole(self._file, json.dumps(self._found))
        return self._found[name]


def _key(source: Path, feeds: Sequence[Mapping[str, Array]], options: Mapping[str, Any]) -> str:
    """Return a hash of all that decides what is measured; of a metric it is the name."""
    found = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    for file in parts_of(source):
        found.update(file.read_bytes())
    for arrays in feeds:
        for name, array in sorted(arrays.items()):
            found.update(f"{name} {array.dtype} {array.shape}".encode())
            found.update(array.tobytes())
    return found.hexdigest()
