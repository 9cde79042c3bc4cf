"""Folders that are written as a whole or not at all, with a manifest that holds the hash of every file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from swdc.errors import ArtifactError, SwdcError

FORMAT = "swdc-program"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"


@contextmanager
def new_folder(target: Path, known: Collection[str]) -> Iterator[Path]:
    """Yield a new folder to write to, which takes the place of ``target`` if nothing is raised.

    Raises ``ArtifactError`` if ``target`` is a file, or a folder with files other than the ``known`` ones.
    """
    _check_replaceable(target, known)
    target.parent.mkdir(parents=True, exist_ok=True)
    made = _beside(target)
    made.mkdir()
    try:
        yield made
        _replace(target, made)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def seal(folder: Path, **head: str) -> None:
    """Write the manifest: the format, the entries of ``head``, and the sha256 of every file."""
    files = {file.name: _hash(file) for file in sorted(folder.iterdir())}
    write_json({"format": FORMAT, "version": FORMAT_VERSION, **head, "files": files}, folder / MANIFEST)


def read_manifest(folder: Path, needed: Collection[str]) -> dict[str, Any]:
    """Return the manifest of a folder. Raises ``ArtifactError`` if it is missing, unusable or incomplete."""
    if not folder.exists():
        raise ArtifactError(f"expected a folder that swdc.save wrote, got no folder at {folder}; check the path")
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"expected a folder that swdc.save wrote, got {folder}, which has no {MANIFEST}; check the path"
        )
    with readable(path):
        manifest: dict[str, Any] = read_json(path)
        if manifest["format"] != FORMAT:
            raise ValueError(f"the format is {manifest['format']!r}, not {FORMAT!r}")
        if manifest["version"] > FORMAT_VERSION:
            raise ArtifactError(
                f"expected format version {FORMAT_VERSION} or older, got {manifest['version']} in {path}; "
                f"install swdc {manifest['swdc']}, which wrote it"
            )
        missing = [name for name in needed if name not in manifest["files"]]
        if missing:
            raise ValueError(f"it lists no {', '.join(missing)}")
    return manifest


def verified(folder: Path, name: str, manifest: Mapping[str, Any]) -> Path:
    """Return the path of a file after checking its hash. Raises ``ArtifactError`` if it is missing or altered."""
    file = folder / name
    if not file.is_file():
        raise ArtifactError(f"expected the file {file}, but it is missing; copy the folder again, or save it again")
    if _hash(file) != manifest["files"].get(name):
        raise ArtifactError(
            f"expected {file} as it was saved, got one that is truncated or altered (its sha256 differs); "
            f"copy the folder again, or save it again"
        )
    return file


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn errors caused by data of an unexpected form into an ``ArtifactError`` that names the file."""
    try:
        yield
    except SwdcError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration, RuntimeError) as error:
        raise ArtifactError(
            f"expected {path} as swdc.save writes it, got another form ({type(error).__name__}: {error}); "
            f"copy the folder again, or save it again"
        ) from error


def read_json(path: Path) -> Any:
    """Return the data in a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(data: Mapping[str, Any], path: Path) -> None:
    """Write data to a JSON file. Raises ``ArtifactError`` for a value that JSON cannot hold."""
    try:
        text = json.dumps(data, indent=1)
    except TypeError as error:
        raise ArtifactError(
            f"expected plain data for {path.name}, got something else: {error}; use numbers, text and lists"
        ) from error
    path.write_text(text + "\n", encoding="utf-8")


def _check_replaceable(target: Path, known: Collection[str]) -> None:
    if target.is_file():
        raise ArtifactError(f"expected a folder to save to, got the file {target}; give another path")
    files = sorted(file.name for file in target.iterdir()) if target.exists() else []
    if files and not _is_ours(target):
        raise ArtifactError(
            f"expected a new or empty folder, or one that swdc.save wrote, got {target}, which holds other "
            f"files; give another path"
        )
    foreign = [name for name in files if name not in known]
    if foreign:
        raise ArtifactError(
            f"expected nothing but a saved program in {target}, got {', '.join(foreign)}, too, which would "
            f"be lost; move it elsewhere"
        )


def _is_ours(folder: Path) -> bool:
    try:
        return bool(read_json(folder / MANIFEST).get("format") == FORMAT)
    except (OSError, ValueError, AttributeError):
        return False


def _replace(target: Path, made: Path) -> None:
    """Move a folder to its place; if that fails, put the previous folder back."""
    old = _beside(target)
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(made, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid4().hex}")


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
