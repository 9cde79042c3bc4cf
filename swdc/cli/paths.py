"""Where results go: checked before the work begins, so that it is not lost at the end."""

from __future__ import annotations

from pathlib import Path

from swdc.errors import CommandError


def check_folder(path: Path, option: str) -> None:
    """Raise ``CommandError`` if ``path`` is a file, where a folder is to be written."""
    if path.exists() and not path.is_dir():
        raise CommandError(f"expected {option} to name a folder, got the file {path}; name another, or move the file")


def check_file(path: Path | None, option: str) -> None:
    """Raise ``CommandError`` if ``path`` is a folder, where a file is to be written."""
    if path is not None and path.is_dir():
        raise CommandError(f"expected {option} to name a file, got the folder {path}; add a file name")
