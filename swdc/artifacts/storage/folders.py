"""Folders that are written as a whole or not at all, with a manifest that holds the hash of every file."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypedDict, TypeVar

from swdc.artifacts.storage.plain_json import read_json, write_json
from swdc.errors import ArtifactError, SwdcError
from swdc.ir.atomic_files import locked, present, put_folder, recover, workspace, writing
from swdc.ir.data_forms import check_form

FORMAT = "swdc-program"
FORMAT_VERSION = 2
"""Folders of version 1 are read, too. Their manifests hold no hash of their own entries."""
MANIFEST = "manifest.json"
_EMPTY_BYTES, _EMPTIEST = 2**26, 64
"""A file larger than this, of which the disk holds less than one part in ``_EMPTIEST``, consists of holes."""
_ATTEMPTS = 20
T = TypeVar("T")


class _Manifest(TypedDict):
    """``files`` gives the sha256 of every other file."""

    format: str
    version: int
    swdc: str
    torch: str
    program_hash: str
    files: dict[str, str]


class Manifest(_Manifest):
    """The file ``manifest.json``: the ``version`` of the format, and what wrote it.

    ``files`` gives the sha256 of every other file, and ``sha256`` is that of the other entries.
    """

    sha256: str


_FORMS = {1: _Manifest, 2: Manifest}


@contextmanager
def new_folder(target: Path, is_known: Callable[[str], Any], mark: str = "") -> Iterator[Path]:
    """Yield a new folder to write to, which takes the place of ``target`` if nothing is raised.

    A folder that is there is replaced if it has the manifest of a saved program, or else a file named ``mark``.
    ``target`` leads through no link. Raises ``ArtifactError`` if it is no folder, or one with files of names that are
    not known, and if the folder cannot be written, for example because the disk is full.
    """
    _check_apart(target)
    with writing(target, ArtifactError):
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(target.parent):
            recover(target)
            _check_replaceable(target, is_known, mark)
        with workspace(target.parent) as made:
            yield made
            with locked(target.parent):
                _check_replaceable(target, is_known, mark)
                put_folder(made, target)


def resolved(path: str | os.PathLike[str]) -> Path:
    """Return a path without links; ``ArtifactError`` if there can be no such path."""
    try:
        return Path(path).resolve()
    except (OSError, ValueError, RuntimeError) as error:
        raise ArtifactError(f"expected the path of a folder, got {path!r}: {error}; give another path") from error


def _check_apart(target: Path) -> None:
    """Raise ``ArtifactError`` for the folder that the process works in, or one around it: it would be moved away."""
    with suppress(OSError):  # the process works in a folder that is gone
        if Path.cwd().is_relative_to(target):
            raise ArtifactError(
                f"expected the path of a folder to write, got {target}, in which this process works; name one inside it"
            )


def seal(folder: Path, **head: str) -> None:
    """Write the manifest: the format, the entries of ``head``, and the sha256 of every file and of these entries."""
    files = {file.name: _hash(file) for file in sorted(folder.iterdir())}
    manifest = {"format": FORMAT, "version": FORMAT_VERSION, **head, "files": files}
    write_json({**manifest, "sha256": _hash_of(manifest)}, folder / MANIFEST)


def read_folder(path: Path, read: Callable[[Path], T]) -> T:
    """Return what ``read`` makes of a folder. If the folder is replaced meanwhile, the new one is read.

    Whatever the content makes ``read`` raise is an ``ArtifactError``.
    """
    for _ in range(_ATTEMPTS):
        before = _identity(path)
        try:
            with readable(path):
                made = read(present(path))
        except ArtifactError:
            if _identity(path) == before:
                raise
            continue
        if _identity(path) == before:
            return made
    raise ArtifactError(f"expected {path} to stay as it is while it is read, but it is replaced again and again; wait")


def read_manifest(folder: Path, needed: Collection[str], is_known: Callable[[str], Any]) -> dict[str, Any]:
    """Return the manifest of a folder, with the files that are known.

    Raises ``ArtifactError`` if it is missing, unusable or incomplete, or if the folder holds other files.
    """
    if not folder.exists():
        raise ArtifactError(f"expected a folder that swdc.save wrote, got no folder at {folder}; check the path")
    path = folder / MANIFEST
    if not path.is_file():
        raise ArtifactError(
            f"expected a folder that swdc.save wrote, got {folder}, which has no {MANIFEST}; check the path"
        )
    with readable(path):
        manifest: dict[str, Any] = read_json(own_file(folder, MANIFEST))
        if manifest["format"] != FORMAT:
            raise ValueError(f"the format is {manifest['format']!r}, not {FORMAT!r}")
        if manifest["version"] > FORMAT_VERSION:
            raise ArtifactError(
                f"expected format version {FORMAT_VERSION} or older, got {manifest['version']} in {path}; "
                f"install swdc {manifest['swdc']}, which wrote it"
            )
        check_form(manifest, _FORMS[manifest["version"]])
        if manifest["version"] > 1:
            _check_whole(folder, manifest, is_known)
        manifest["files"] = {name: text for name, text in manifest["files"].items() if is_known(name)}
        missing = [name for name in needed if name not in manifest["files"]]
        if missing:
            raise ValueError(f"it lists no {', '.join(missing)}")
    return manifest


def verified(folder: Path, name: str, manifest: Mapping[str, Any]) -> Path:
    """Return the path of a file after checking its hash. Raises ``ArtifactError`` if it is missing or altered."""
    file = own_file(folder, name)
    if _hash(file) != manifest["files"].get(name):
        raise ArtifactError(
            f"expected {file} as it was saved, got one that is truncated or altered (its sha256 differs); "
            f"copy the folder again, or save it again"
        )
    return file


def own_file(folder: Path, name: str) -> Path:
    """Return the path of a file of a folder. Raises ``ArtifactError`` if it is missing, or not a file of this folder.

    Links out of the folder are not followed, and files that consist of holes are not read.
    """
    file = folder / name
    if not file.is_file():
        raise ArtifactError(f"expected the file {file}, but it is missing; copy the folder again, or save it again")
    if file.resolve().parent != folder.resolve():
        raise ArtifactError(f"expected the file {file}, got a link out of the folder; copy what it leads to")
    check_held(file)
    return file


def check_held(file: Path) -> None:
    """Raise ``ArtifactError`` for a file that consists of holes: it takes far more memory than space on the disk."""
    found = file.stat()
    held = getattr(found, "st_blocks", found.st_size) * 512
    if found.st_size > _EMPTY_BYTES and held * _EMPTIEST < found.st_size:
        raise ArtifactError(
            f"expected {file} as it was saved, got {found.st_size} bytes of which the disk holds {held}; copy it "
            f"again, or save it again"
        )


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn whatever data of an unexpected form may raise into an ``ArtifactError`` that names the file."""
    try:
        yield
    except ArtifactError:
        raise
    except Exception as error:  # a hostile file reaches torch, sympy, the parser of Python
        raise ArtifactError(
            f"expected {path} as swdc.save writes it, got another form ({type(error).__name__}: {error}); "
            f"copy the folder again, or save it again"
        ) from error


def _check_whole(folder: Path, manifest: Mapping[str, Any], is_known: Callable[[str], Any]) -> None:
    """Raise ``ArtifactError`` unless a manifest is as it was written, and a folder holds the files that it lists.

    Files whose names begin with a dot are not counted, because file managers and version control leave such.
    """
    if manifest["sha256"] != _hash_of(manifest):
        raise ArtifactError(
            f"expected {folder / MANIFEST} as it was saved, got one that is altered (its sha256 differs); copy the "
            f"folder again, or save it again"
        )
    listed = set(manifest["files"])
    more = {name for name in listed if not is_known(name)}
    more |= {file.name for file in folder.iterdir() if not file.name.startswith(".")} - {*listed, MANIFEST}
    if more:
        raise ArtifactError(
            f"expected nothing but a saved program in {folder}, got {', '.join(sorted(more))}, too; move it elsewhere"
        )


def _hash_of(manifest: Mapping[str, Any]) -> str:
    """Return the sha256 of what a manifest says besides the hashes of files, which the files themselves confirm."""
    said = {key: value for key, value in manifest.items() if key not in ("files", "sha256")}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _check_replaceable(target: Path, is_known: Callable[[str], Any], mark: str) -> None:
    if not os.path.lexists(target):
        return
    mode = target.lstat().st_mode
    if not stat.S_ISDIR(mode):
        what = "file" if stat.S_ISREG(mode) else "special file"
        raise ArtifactError(f"expected a folder to save to, got the {what} {target}; give another path")
    files = sorted(file.name for file in target.iterdir())
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "the folder there is read-only", str(target))
    if files and not (mark in files if mark else is_saved(target)):
        raise ArtifactError(
            f"expected a new or empty folder, or one that swdc wrote, got {target}, which holds other "
            f"files; give another path"
        )
    foreign = [name for name in files if not is_known(name) or not stat.S_ISREG((target / name).lstat().st_mode)]
    if foreign:
        raise ArtifactError(
            f"expected nothing but a saved program in {target}, got {', '.join(foreign)}, too, which would "
            f"be lost; move it elsewhere"
        )


def is_saved(folder: Path) -> bool:
    """Whether a folder names itself one that swdc wrote. Nothing else in it is looked at."""
    try:
        return bool(read_json(own_file(folder, MANIFEST)).get("format") == FORMAT)
    except (SwdcError, OSError, ValueError, AttributeError, RecursionError):
        return False


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """Return what changes if another folder takes this place; ``None`` if there is none."""
    try:
        found = folder.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
