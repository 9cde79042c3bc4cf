"""Files and folders that are written whole, exchanged in one step, locked, and cleaned up after."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from swdc.ir import atomic_files
from swdc.ir.atomic_files import locked, need_plain_file, present, put_folder, recover, workspace, write_whole


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "file").write_text(text)
    return path


def forked(work: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        process = os.fork()
    if not process:
        work()
        os._exit(0)
    return process


def test_a_folder_takes_the_place_of_another_which_is_then_where_it_was(tmp_path: Path) -> None:
    made, target = folder(tmp_path / "made", "new"), folder(tmp_path / "target", "old")
    put_folder(made, target)
    assert (target / "file").read_text() == "new"
    assert (made / "file").read_text() == "old"
    put_folder(made, tmp_path / "free")
    assert (tmp_path / "free" / "file").read_text() == "old"
    assert not made.exists()


@pytest.mark.parametrize("renames", [1, 2, 3])
def test_without_an_exchange_a_kill_after_any_rename_loses_nothing(
    renames: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic_files, "_renameat2", lambda: None)
    made, target = folder(tmp_path / "made", "new"), folder(tmp_path / "target", "old")
    rename, left = os.rename, iter(range(renames))

    def until_killed(source: Path, place: Path) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        rename(source, place)

    monkeypatch.setattr(os, "rename", until_killed)
    os.waitpid(forked(lambda: put_folder(made, target)), 0)
    monkeypatch.undo()
    assert (present(target) / "file").read_text() == ("old" if renames == 1 else "new")
    recover(target)
    assert (target / "file").read_text() == ("old" if renames == 1 else "new")
    assert {path.name for path in tmp_path.iterdir()} <= {"target", "made"}


def test_a_rename_that_fails_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_files, "_renameat2", lambda: None)
    target = folder(tmp_path / "target", "old")
    with pytest.raises(FileNotFoundError):
        put_folder(tmp_path / "nothing", target)
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_litter_of_a_killed_process_goes_that_of_a_living_one_stays(tmp_path: Path) -> None:
    def dies() -> None:
        with workspace(tmp_path) as made:
            (made / "half").write_text("a")
            os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(forked(dies), 0)
    (tmp_path / ".swdc-mine").mkdir()
    assert len(list(tmp_path.iterdir())) == 2
    with workspace(tmp_path) as mine:
        with workspace(tmp_path) as other:
            assert {path.name for path in tmp_path.iterdir()} == {mine.name, other.name, ".swdc-mine"}
        assert mine.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [".swdc-mine"]


def test_a_locked_folder_is_waited_for_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def wait() -> None:
        with locked(tmp_path):
            seen.append("second")

    thread = threading.Thread(target=wait)
    with locked(tmp_path):
        thread.start()
        thread.join(0.05)
        seen.append("first")
        monkeypatch.setattr(atomic_files, "PATIENCE", 0.02)
        with pytest.raises(TimeoutError, match="another process keeps it locked"), locked(tmp_path):
            pass
    thread.join()
    assert seen == ["first", "second"]


def test_only_plain_files_are_replaced(tmp_path: Path) -> None:
    file, link, pipe = (tmp_path / name for name in ("file", "link", "pipe"))
    write_whole(file, "a")
    write_whole(file, "b")
    link.symlink_to(file)
    os.mkfifo(pipe)
    for path in (link, pipe, tmp_path):
        with pytest.raises(FileExistsError, match="expected a regular file or a free name"):
            write_whole(path, "c")
    need_plain_file(tmp_path / "free")
    assert file.read_text() == "b"
    assert link.is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link", "pipe"}
