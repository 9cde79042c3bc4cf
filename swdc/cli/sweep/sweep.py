"""The sweep itself: cells are taken from the study, run by workers, and their results kept."""

from __future__ import annotations

from collections.abc import Callable

from swdc.cli.sweep.optuna_study import Study
from swdc.cli.sweep.workers import Workers
from swdc.ir.trial_owners import signs_of_life

Progress = Callable[[str, int, int], None]
"""Called with what was found last, how many cells are finished, and how many there are."""


def sweep(study: Study, workers: Workers, progress: Progress = lambda text, done, total: None) -> None:
    """Run every cell of a study that is neither finished nor under way elsewhere.

    A cell that fails is left for the next sweep, with its reason. An interruption (Ctrl-C) ends the cells that are
    under way, and is raised again; the next sweep runs these cells.
    """
    study.free_interrupted()
    try:
        with signs_of_life(study.beat):
            progress("", study.done(), study.total)
            _run(study, workers, progress)
    finally:
        for number in workers.running():
            study.give_up(number)
        workers.stop()


def _run(study: Study, workers: Workers, progress: Progress) -> None:
    while True:
        while workers.is_free() and (claimed := study.claim()) is not None:
            workers.start(*claimed)
        if not workers.running():
            return
        for outcome in workers.outcomes():
            if outcome.reason:
                study.fail(outcome.number, outcome.reason)
            else:
                study.finish(outcome.number, outcome.results)
            found = outcome.reason or ", ".join(f"{name} {value:.4g}" for name, value in outcome.results.items())
            progress(found, study.done(), study.total)
