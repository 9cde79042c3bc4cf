"""Times on disk: kept, found again, never half written, and measured again where they cannot be used."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from swdc.costs.latency.cache import Cache, Times, cache_folder, machine

TIMES: Times = {"Gemm()": {(1, 8, 16): 0.25, (1, 8, 24): 0.5}, "Add()": {(256,): 0.001}}


def test_what_is_added_is_loaded_again(tmp_path: Path) -> None:
    cache = Cache(1, tmp_path)
    assert cache.load() == {}
    cache.add(TIMES)
    assert Cache(1, tmp_path).load() == TIMES


def test_added_times_join_those_that_another_process_has_written(tmp_path: Path) -> None:
    one, other = Cache(1, tmp_path), Cache(1, tmp_path)
    one.add({"Gemm()": {(1, 8, 16): 0.25}})
    other.add({"Gemm()": {(1, 8, 24): 0.5}, "Add()": {(256,): 0.001}})
    assert one.load() == TIMES
    one.add({"Add()": {(256,): 0.002}})
    assert other.load()["Add()"] == {(256,): 0.002}


def test_what_several_add_at_once_is_kept(tmp_path: Path) -> None:
    def add(name: str) -> None:
        for number in range(20):
            Cache(1, tmp_path).add({f"{name}{number}": {(1,): 1.0}})

    threads = [Thread(target=add, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Cache(1, tmp_path).load()) == 60
    assert [file.name for file in Cache(1, tmp_path).path.parent.iterdir()] == [Cache(1, tmp_path).path.name]


def test_threads_machine_and_version_have_files_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(1, tmp_path)
    cache.add(TIMES)
    paths = {cache.path, Cache(2, tmp_path).path}
    with monkeypatch.context() as patched:
        patched.setattr("swdc.costs.latency.cache.machine", lambda: "another")
        paths.add(Cache(1, tmp_path).path)
        assert Cache(1, tmp_path).load() == {}
    with monkeypatch.context() as patched:
        patched.setattr("onnxruntime.__version__", "0.0.1")
        paths.add(Cache(1, tmp_path).path)
    assert len(paths) == 4
    assert machine() == machine()


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "null",
        '{"times": {}}',
        b"\xff\xfe\x00",
        {"times": {"Gemm()": {"1,8,16": -1.0}}},
        {"times": {"Gemm()": {"1,8,16": float("nan")}}},
        {"times": {"Gemm()": {"1,8,16": "soon"}}},
        {"times": {"Gemm()": {"one": 1.0}}},
        {"times": {"Gemm()": [1.0]}},
        {"times": 7},
        {"machine": "another"},
        {"format": 99},
    ],
    ids=str,
)
def test_a_damaged_file_is_as_if_it_were_not_there(tmp_path: Path, damage: Any) -> None:
    cache = Cache(1, tmp_path)
    cache.add(TIMES)
    if isinstance(damage, dict):
        damage = json.dumps({**json.loads(cache.path.read_text()), **damage})
    cache.path.write_bytes(damage if isinstance(damage, bytes) else damage.encode())
    assert cache.load() == {}
    cache.add(TIMES)
    assert cache.load() == TIMES


def test_a_file_that_cannot_be_replaced_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = Cache(1, tmp_path)
    cache.add(TIMES)

    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with caplog.at_level(logging.WARNING):
        cache.add({"Add()": {(256,): 9.0}})
    assert "measured times are not kept" in caplog.text
    assert "no space left" in caplog.text
    assert cache.load() == TIMES
    assert [file.name for file in cache.path.parent.iterdir()] == [cache.path.name]


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "latency").write_text("a file in the way")
    cache = Cache(1, tmp_path)
    cache.add(TIMES)
    assert cache.load() == {}


def test_the_folder_is_that_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "swdc"
    assert Cache(1).path.parent == tmp_path / "swdc" / "latency"
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder().is_absolute()
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Path.home() in cache_folder().parents
