"""Where the trials of an optuna study are kept: a file, or a database that many machines share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swdc.ir.packages import package


def storage_of(storage: str, extra: str) -> Any:
    """Return what optuna takes as the storage that a text names: a file for SQLite, or any URL that optuna takes.

    ``redis://`` stands for a journal. ``PackageError`` names ``extra`` if optuna is missing.
    """
    storages = package("optuna.storages", extra)
    if storage.startswith("redis"):
        journal = package("optuna.storages.journal", extra)
        return storages.JournalStorage(journal.JournalRedisBackend(storage))
    if "://" in storage:
        return storage
    # two processes may write at the same time: wait rather than fail
    return storages.RDBStorage(f"sqlite:///{Path(storage)}", engine_kwargs={"connect_args": {"timeout": 60}})
