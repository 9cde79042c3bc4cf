"""Files and folders written whole or not at all, by any number of processes that may be killed at any point.

A new file or folder is made in a workspace beside its place, and moved there in one step. Nothing but the kernel knows
which processes live: a workspace is locked by the process that made it, so that one without a lock is litter, and goes.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from uuid import uuid4

from swdc.errors import SwdcError

if sys.platform != "win32":  # Windows has no locks on folders
    import fcntl

PATIENCE = 60.0
"""Seconds to wait for another process that has locked a folder."""
_WORKSPACE = re.compile(r"\.swdc-[0-9a-f]{32}")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_TAKEN = (errno.EAGAIN, errno.EACCES)
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other process or thread that asks for it have this folder at the same time.

    Hold it for short work only, and ask neither for it again meanwhile nor for a workspace in it. Raises
    ``TimeoutError`` after a minute of waiting. Where the operating system or the file system has no locks, nothing is
    held.
    """
    handle = _lock(folder, PATIENCE)
    try:
        yield
    finally:
        _unlock(handle)


@contextmanager
def workspace(folder: Path) -> Iterator[Path]:
    """Yield a new folder within ``folder``, which is made if it is missing; it is removed in the end.

    Workspaces of processes that were killed are removed first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = folder / f".swdc-{uuid4().hex}"
    with locked(folder):
        _remove_litter(folder)
        made.mkdir()
        handle = _lock(made, 0.0)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)
        _unlock(handle)


def write_whole(path: Path, text: str) -> None:
    """Write a text file, or leave the one that is there as it is. Raises ``OSError`` for anything but a plain file."""
    need_plain_file(path)
    with workspace(path.parent) as folder:
        made = folder / path.name
        made.write_text(text, encoding="utf-8")
        os.replace(made, path)


@contextmanager
def writing(target: Path, kind: type[SwdcError]) -> Iterator[None]:
    """Turn an ``OSError`` of writing ``target`` whole or not at all into an error of ``kind``."""
    try:
        yield
    except OSError as error:
        raise kind(
            f"expected to write {target}, but {why(error)}; give another path, or make room; what was there before "
            f"is as it was"
        ) from error


def need_plain_file(path: Path) -> None:
    """Raise ``FileExistsError`` if ``path`` is anything but a regular file or nothing, such as a link or a device.

    Raises ``PermissionError`` if the file is read-only, and ``OSError`` for a path that no file can have.
    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "a path holds no null character", str(path))
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "expected a regular file or a free name, got a special file", str(path))
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "the file there is read-only", str(path))


def put_folder(made: Path, target: Path) -> None:
    """Move a folder to its place. What was there is then at ``made``, or gone if it was empty.

    A process that is killed on the way leaves the old folder or the new one in place. Where the system cannot exchange
    two names, it may leave the old one under another name, at which ``present`` finds it.
    """
    if not target.exists():
        os.rename(made, target)
    elif not _exchanged(made, target):
        _put_by_renaming(made, target)


def present(target: Path) -> Path:
    """Return a folder's path, or where a process that was killed while it replaced the folder has left it."""
    if target.exists():
        return target
    aside = _aside(target.resolve())
    return aside if aside.is_dir() else target


def recover(target: Path) -> None:
    """Put a folder back that a killed process has left under another name."""
    aside = _aside(target)
    if not aside.is_dir():
        return
    if target.exists():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        os.rename(aside, target)


def why(error: OSError) -> str:
    """Return in words why a file cannot be read or written."""
    return "the disk is full" if error.errno in _FULL else str(error)


def _aside(target: Path) -> Path:
    """Return a second name for a folder, which is short, because the first may be as long as names can be."""
    return target.parent / f".swdc-old-{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:32]}"


def _put_by_renaming(made: Path, target: Path) -> None:
    aside = _aside(target)
    os.rename(target, aside)
    try:
        os.rename(made, target)
    except OSError:
        os.rename(aside, target)
        raise
    os.rename(aside, made)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two names in one step, and return whether the system can do so."""
    function = _renameat2()
    if function is None:
        return False
    if function(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code), str(other))


@cache
def _renameat2() -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is not None:
        function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return function


def _remove_litter(folder: Path) -> None:
    for entry in os.scandir(folder):
        if _WORKSPACE.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            _remove_if_left(Path(entry.path))


def _remove_if_left(made: Path) -> None:
    with suppress(OSError):
        handle = _lock(made, 0.0)
        if handle is not None:
            shutil.rmtree(made, ignore_errors=True)
            _unlock(handle)


def _lock(folder: Path, patience: float) -> int | None:
    """Return the handle of a locked folder; ``None`` if there are no locks here. Raises ``TimeoutError``."""
    if sys.platform == "win32":
        return None
    handle = os.open(folder, os.O_RDONLY)
    over = time.monotonic() + patience
    while (got := _try_lock(handle)) is False and time.monotonic() < over:
        time.sleep(0.005)
    if got:
        return handle
    os.close(handle)
    if got is None:
        return None
    raise TimeoutError(errno.ETIMEDOUT, "another process keeps it locked", str(folder))


def _try_lock(handle: int) -> bool | None:
    """Return whether a lock was taken; ``None`` if the file system has none."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in _TAKEN else None
    return True


def _unlock(handle: int | None) -> None:
    if handle is not None:
        fcntl.flock(handle, fcntl.LOCK_UN)  # closing is not enough if a process was forked meanwhile
        os.close(handle)
