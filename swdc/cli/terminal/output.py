"""What commands print, and how they fail: results on stdout, everything else on stderr."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from swdc.artifacts.storage.folders import is_saved
from swdc.errors import CommandError, SwdcError
from swdc.ir.atomic_files import need_plain_file
from swdc.ir.plain_data import plain

NOT_AS_ASKED = 1
UNUSABLE = 2
DEFECT = 3
WIDTH = 160
"""Columns of a table that goes into a file or a pipe."""


class Output:
    """Where a command prints: text and tables, or with ``json_only`` one JSON document and nothing else."""

    def __init__(self, json_only: bool = False) -> None:
        self.json_only = json_only
        self._out, self._err = _console(sys.stdout), _console(sys.stderr)
        self._is_written = False

    def line(self, text: str = "", style: str = "") -> None:
        """Print a line of text (nothing with ``json_only``)."""
        if not self.json_only:
            self._out.print(Text(text, style=style), soft_wrap=True)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str | int]]) -> None:
        """Print a table (nothing with ``json_only``). Columns of whole numbers are set right, with commas."""
        every = [list(row) for row in rows]
        if self.json_only or not every:
            return
        table = Table(title=Text(title), title_justify="left", show_edge=False)
        for number, column in enumerate(columns):
            counts = all(isinstance(row[number], int) or row[number] == "" for row in every)
            table.add_column(Text(column), justify="right" if counts else "left", overflow="fold", no_wrap=counts)
        for row in every:
            table.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else cell) for cell in row))
        self._out.print(table)
        self._out.print()

    def document(self, data: Mapping[str, Any]) -> None:
        """Print a JSON document (nothing without ``json_only``); numbers that are not finite become null."""
        if self.json_only:
            text = json.dumps(plain(data), indent=2, allow_nan=False)
            self._out.file.write(f"{text}\n")
            self._is_written = True

    def notes(self, notes: Iterable[str]) -> None:
        """Print notes on stderr."""
        for note in notes:
            self._err.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)

    def error(self, text: str) -> None:
        """Print an error on stderr."""
        self._err.print(Text.assemble(("error: ", "bold red"), text), soft_wrap=True)

    def failed(self, error: Exception, text: str, code: int) -> typer.Exit:
        """Print an error on stderr, with ``json_only`` also as the document; return what ends the command."""
        self.error(text)
        if not self._is_written:
            self.document({"error": {"kind": type(error).__name__, "message": text, "exit_code": code}})
        return typer.Exit(code)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show a spinner and the time on stderr while something is done, if stderr is a terminal."""
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        hidden = self.json_only or not self._err.is_terminal
        with Progress(*columns, console=self._err, transient=True, disable=hidden) as progress:
            progress.add_task(text, total=None)
            yield


def _console(stream: Any) -> Console:
    console = Console(file=stream, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH
    return console


@contextmanager
def reported(json_only: bool = False, show_traceback: bool = False) -> Iterator[Output]:
    """Give a command its output, and turn errors into a message on stderr and an exit code.

    Warnings and prints of other packages are kept away from the result. Raises ``typer.Exit`` with code 2 for
    ``SwdcError`` and ``OSError``, and with code 3, after a traceback, for anything else. With ``json_only`` the
    message is also the one document on stdout, unless the command has printed its own.
    """
    output = Output(json_only)
    try:
        with _quiet():
            yield output
    except (SwdcError, OSError) as error:
        if show_traceback:
            traceback.print_exception(error, file=sys.stderr)
        raise output.failed(error, str(error), UNUSABLE) from error
    except typer.Exit:
        raise
    except Exception as error:  # none of those that a command tells its user: it is ours, and shown whole
        traceback.print_exception(error, file=sys.stderr)
        told = "expected this command to work or to say why not; this is a defect of swdc, please report it"
        raise output.failed(error, told, DEFECT) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and logs of other packages, and send what they print to stderr."""
    level = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def check_folder(path: Path, option: str, holds_program: bool = True) -> None:
    """Raise ``CommandError`` if ``path``, which is to become a folder, is a file, or lies in a saved program.

    If the folder is not to hold a program, it may not be one either.
    """
    if path.exists() and not path.is_dir():
        raise CommandError(f"expected {option} to name a folder, got the file {path}; name another, or move the file")
    _check_outside(path.parent if holds_program else path, option)


def check_file(path: Path | None, option: str) -> None:
    """Raise ``CommandError`` if ``path``, which is to become a file, is a folder, a link or a device."""
    if path is None:
        return
    if path.is_dir():
        raise CommandError(f"expected {option} to name a file, got the folder {path}; add a file name")
    _check_outside(path.parent, option)
    try:
        need_plain_file(path)
    except OSError as error:
        raise CommandError(f"expected {option} to name a file to write, but {error}; name another") from error


def _check_outside(folder: Path, option: str) -> None:
    if is_saved(folder):
        raise CommandError(
            f"expected {option} outside of {folder}, because that folder holds a program and nothing else; name another"
        )


def check_beside(folder: Path, path: Path | None, option: str) -> None:
    """Raise ``CommandError`` if a file is to be written into the folder ``--out``, which holds a program alone."""
    if path is not None and folder.resolve() in path.resolve().parents:
        raise CommandError(
            f"expected {option} to name a file outside of --out, because that folder holds a program and nothing else, "
            f"got {path}; name another"
        )


def operations_title(convention: str) -> str:
    """Return what a table calls the operations of a convention."""
    return "multiply-adds (macs)" if convention == "macs" else f"operations ({convention})"
