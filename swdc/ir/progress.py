"""A progress bar on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Bar:
    """A bar that shows what is being done and how much of it is done."""

    def __init__(self, progress: Progress, hidden: bool) -> None:
        self._progress, self._hidden = progress, hidden
        self._task = progress.add_task("", total=None)

    def show(self, text: str, done: int = 0, total: int | None = None) -> None:
        """Say what is being done now."""
        self._progress.update(self._task, description=text, completed=done, total=total)

    def line(self, text: str) -> None:
        """Print a line above the bar, also where no bar is shown because stderr is a file."""
        if not self._hidden:
            self._progress.console.print(text, markup=False, soft_wrap=True)


@contextmanager
def progress_bar(hidden: bool = False) -> Iterator[Bar]:
    """Show a bar on stderr while something is done; none if stderr is not a terminal, or with ``hidden``."""
    console = Console(file=sys.stderr, highlight=False)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=hidden or not console.is_terminal) as progress:
        yield Bar(progress, hidden)
