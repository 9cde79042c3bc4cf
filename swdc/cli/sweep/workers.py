"""Where cells are run: in this process, or in several others."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from swdc.cli.sweep.cells import Cell
from swdc.cli.sweep.experiments import Experiment, Results
from swdc.errors import CommandError, brief


@dataclass(frozen=True)
class Outcome:
    """How the trial of a number ended: with results, or with the reason why there are none."""

    number: int
    results: Results
    reason: str = ""


class Workers(Protocol):
    """Runs cells."""

    def is_free(self) -> bool:
        """Whether another cell can be started."""

    def start(self, number: int, cell: Cell) -> None:
        """Start the trial of a number."""

    def running(self) -> list[int]:
        """Return the numbers of the trials that are under way."""

    def outcomes(self) -> Iterator[Outcome]:
        """Wait until a trial ends, and yield how."""

    def stop(self) -> None:
        """End whatever is under way."""


class Here:
    """Runs one cell at a time in this process."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment, self._function = experiment, experiment.function()
        self._waiting: list[tuple[int, Cell]] = []

    def is_free(self) -> bool:
        """Whether there is no cell."""
        return not self._waiting

    def start(self, number: int, cell: Cell) -> None:
        """Take a cell, which is run when its outcome is asked for."""
        self._waiting.append((number, cell))

    def running(self) -> list[int]:
        """Return the number of the trial."""
        return [number for number, _ in self._waiting]

    def outcomes(self) -> Iterator[Outcome]:
        """Run the cell."""
        number, cell = self._waiting[0]
        outcome = Outcome(number, *_attempt(self._experiment, self._function, cell))
        self._waiting.clear()
        yield outcome

    def stop(self) -> None:
        """Do nothing: an interruption has ended the cell."""


@dataclass
class _Worker:
    process: Any
    pipe: Connection
    number: int | None = None


class Elsewhere:
    """Runs cells in as many processes; if one dies, its cell fails and the process is replaced."""

    def __init__(self, experiment: Experiment, count: int) -> None:
        experiment.function()  # fails here rather than in every process
        self._experiment, self._count = experiment.elsewhere(), count
        self._context = get_context("forkserver")
        self._context.set_forkserver_preload(["swdc.cli.sweep.workers"])
        self._workers = [self._new() for _ in range(count)]

    def _new(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._experiment, self._count), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def is_free(self) -> bool:
        """Whether a process waits for a cell."""
        return any(worker.number is None for worker in self._workers)

    def start(self, number: int, cell: Cell) -> None:
        """Give a cell to a process that waits for one."""
        worker = next(worker for worker in self._workers if worker.number is None)
        worker.number = number
        try:
            worker.pipe.send(cell)
        except OSError:  # it died while it waited: its end is found by ``outcomes``
            return

    def running(self) -> list[int]:
        """Return the numbers of the trials that are under way."""
        return [worker.number for worker in self._workers if worker.number is not None]

    def outcomes(self) -> Iterator[Outcome]:
        """Wait for processes that are done with their cell, or dead."""
        busy = {worker.pipe: worker for worker in self._workers if worker.number is not None}
        for pipe in wait(list(busy)):
            worker = busy[pipe]  # type: ignore[index]
            number = worker.number
            assert number is not None
            try:
                results, reason = worker.pipe.recv()
                worker.number = None
            except (EOFError, OSError):
                worker.process.join()
                results, reason = {}, f"the process ended with code {worker.process.exitcode}"
                worker.pipe.close()
                self._workers[self._workers.index(worker)] = self._new()
            yield Outcome(number, results, reason)

    def stop(self) -> None:
        """End all processes."""
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(5.0)
            worker.process.kill()
            worker.pipe.close()


def workers(experiment: Experiment, count: int) -> Workers:
    """Return what runs ``count`` cells at a time; ``CommandError`` if the experiment cannot be run."""
    return Here(experiment) if count == 1 else Elsewhere(experiment, count)


def _serve(pipe: Connection, experiment: Experiment, count: int) -> None:
    """Run cells, on a share of the cores, until the other side closes."""
    from swdc.costs.clock import on_threads

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that reads the keyboard ends this one
    with on_threads(max(1, (os.cpu_count() or 1) // count)):
        _run_cells(pipe, experiment)


def _run_cells(pipe: Connection, experiment: Experiment) -> None:
    function = experiment.function()
    while True:
        try:
            cell = pipe.recv()
        except EOFError:
            return
        pipe.send(_attempt(experiment, function, cell))


def _attempt(experiment: Experiment, function: Any, cell: Cell) -> tuple[Results, str]:
    try:
        return experiment.results(function, cell), ""
    except CommandError as error:
        return {}, str(error)
    except Exception as error:  # whatever the user's function raises costs its cell only
        return {}, brief(error)
