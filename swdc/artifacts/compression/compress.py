"""One call from a trained network to the smallest one that is good enough."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from swdc.artifacts.compression.cutting import NETWORK, RECOVERY, TRIALS, Cutter
from swdc.artifacts.compression.deployment import Deployed, deployed
from swdc.artifacts.compression.result import REPORT, Compression
from swdc.artifacts.compression.settings import Settings, first_of
from swdc.artifacts.compression.study import Claim, Study
from swdc.artifacts.compression.trials import best_of, cuts_of
from swdc.capture.trace import trace
from swdc.costs.count import totals
from swdc.costs.latency import MeasuredTable
from swdc.errors import PlanError
from swdc.ir.argument_types import checked
from swdc.ir.atomic_files import why, write_whole, writing
from swdc.ir.module_tensors import modes_kept, need_values
from swdc.ir.program import Program
from swdc.ir.progress import progress_bar
from swdc.ir.trial_owners import signs_of_life
from swdc.sparsity.arguments import check_count, check_positive
from swdc.sparsity.fingerprints import check_settings
from swdc.sparsity.metrics import Metric, measured
from swdc.sparsity.planning.criteria import Criterion
from swdc.sparsity.planning.latency import LATENCY
from swdc.sparsity.planning.plan import BUDGET_NAMES
from swdc.sparsity.planning.width_multiples import RoundTo

SETTINGS = "settings.json"
_WAIT = 1.0
"""Seconds between looks at trials that other processes run."""


@checked(PlanError)
def compress(
    model: nn.Module,
    example: Any,
    data: Any,
    metric: Metric,
    *,
    most_drop: float = 0.01,
    budget: str = "parameters",
    loss: Callable[..., Any] | None = None,
    inputs: Callable[..., Any] | None = None,
    epochs: int = 5,
    rate: float = 1e-3,
    trials: int = 8,
    criterion: str | Criterion = "l2",
    round_to: RoundTo = 1,
    ignore: str | Iterable[str] = (),
    folder: str | os.PathLike[str] | None = None,
    storage: str | None = None,
    onnx: bool = True,
    int8: bool = False,
    seed: int = 0,
    progress: bool = True,
) -> Compression:
    """Look for the smallest network whose metric falls by at most ``most_drop``, and return it with all that proves it.

    ``example`` are example inputs, as ``swdc.trace`` takes them. ``data`` are batches, such as a data loader. Of a pair
    (inputs, labels) the program takes the first; ``inputs`` returns the program's part of other batches. ``metric``
    takes a model in evaluation and returns a number, **higher is better**. It decides what is good enough, so measure
    it on data that are neither trained on nor reported.

    A trial removes a share of what ``budget`` counts (as in ``swdc.plan``). It cuts the smallest network so far that
    was good enough, and recovers it with ``swdc.recover`` for ``epochs``: the dense program teaches, at a ``rate`` that
    falls to zero, and ``loss(output, batch)`` is added if it is given. Of a plan by ``criterion`` alone and one that
    spares groups to which the metric is sensitive (``swdc.sensitivity``), the one is taken that is better after an
    epoch. A cut takes at most three quarters of a group. ``epochs=0`` trains nothing: layers are solved again by
    ``swdc.refit``. The first trial removes half. Each of the others lies in the middle between the largest share that
    was good and the smallest that was not. There are ``trials`` of them; each cut has a certificate, and one that is
    not exact is not good. ``round_to`` and ``ignore`` are those of ``swdc.plan``.

    In ``folder`` everything is kept: a run that was killed goes on there, and ends with the same network on a CPU if
    the data come in the same order under the same seed; more ``trials`` go on, too. In the end it holds ``slim`` (for
    ``swdc.load``), ``slim.onnx`` unless ``onnx`` is false, ``slim.int8.onnx`` if ``int8`` is true (no worse than
    ``most_drop`` allows either), and ``report.json``. Several machines that see the folder share the trials if all run
    the same call with the URL of one database as ``storage``; trials of processes that are gone are run again.

    For a model and a loader::

        result = swdc.compress(model, images, loader, accuracy, most_drop=0.01, folder="small")

    The model is not changed, nor torch's random state. If no trial was good, the result says so (``found``), and its
    program is the dense one. Raises ``PlanError`` for arguments out of range, data or a metric that do not work, and a
    folder of another compression, ``TraceError`` if the model cannot be traced, and ``PackageError`` without optuna
    (``pip install 'swdc[compress]'``).
    """
    _check(most_drop, budget, epochs, trials, rate, seed, folder, storage)
    patterns = (ignore,) if isinstance(ignore, str) else tuple(ignore)
    settings = Settings(
        data, metric, budget, most_drop, loss, inputs or first_of, epochs, rate, criterion, round_to, patterns, seed
    )
    dense = _dense(model, example)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()) if folder is None else folder)
        name = _begin(place, settings, dense)
        study = Study(storage, place, name)
        bar = stack.enter_context(progress_bar(hidden=not progress))
        stack.enter_context(_given_up(study))
        stack.enter_context(signs_of_life(study.beat))

        def show(text: str) -> None:
            bar.show(text, len(study.trials()), trials)

        table = MeasuredTable(announce=bar.show) if budget == LATENCY else None
        cutter = Cutter(dense, settings, place, table, show)
        found = cutter.sensitivity
        bar.line(f"dense: metric {found.metric:.4g}")
        while (claim := _claimed(study, trials)) is not None:
            trial = cutter.run(claim.share, claim.base)
            study.finish(claim.number, trial)
            bar.line(str(trial))
        done = study.trials()
        program = cutter.network(best_of(done))
        cuts = tuple(cutter.cut_of(trial) for trial in cuts_of(done))
        made = Deployed()
        if folder is not None and cuts:
            made = deployed(program, settings, found.metric - most_drop, place, onnx, int8, show)
        after = measured(metric, program, seed)
        result = Compression(
            bool(cuts), program, budget, most_drop, found.metric, after, _costs(dense, cutter, budget),
            _costs(program, cutter, budget), cuts, tuple(done), found, made, None if folder is None else place,
        )  # fmt: skip
        _report(result, place)
    return result


def _check(
    most_drop: float, budget: str, epochs: int, trials: int, rate: float, seed: int, folder: Any, storage: str | None
) -> None:
    if not 0 <= most_drop < math.inf:
        raise PlanError(f"expected a most_drop that is not negative, got {most_drop}; 0.01 is the default")
    if budget not in BUDGET_NAMES:
        raise PlanError(f"expected a budget of {list(BUDGET_NAMES)}, got {budget!r}")
    check_count("epochs", epochs, least=0)
    check_count("trials", trials)
    check_count("seed", seed, least=0)
    check_positive("rate", rate)
    if storage is not None and folder is None:
        raise PlanError("expected a folder together with a storage, got none; give one that all machines see")


def _dense(model: nn.Module, example: Any) -> Program:
    """Return a program of its own in evaluation, so that nothing that is done to it reaches the model."""
    with modes_kept(model):
        program = trace(model.eval(), example).clone().eval()
    need_values(program, PlanError, "a compression")
    return program


def _begin(place: Path, settings: Settings, dense: Program) -> str:
    """Note the settings in a folder, and return a name for them; ``PlanError`` if it is that of other settings."""
    described, file = settings.described(dense), place / SETTINGS
    if place == Path():
        raise PlanError("expected a folder to work in, got an empty path; give one, or None")
    try:
        place.mkdir(parents=True, exist_ok=True)
        if file.exists():
            check_settings("compression", json.loads(file.read_text(encoding="utf-8")), described)
        else:
            write_whole(file, json.dumps(described, indent=1) + "\n")
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else str(error)
        raise PlanError(f"expected a folder to work in, got {place}, but {reason}; give another folder") from error
    return f"compress {described['program'][:12]}"


def _claimed(study: Study, trials: int) -> Claim | None:
    """Take a trial, or wait for those that other processes run; ``None`` if all are finished."""
    while (claim := study.claim(trials)) is None and study.is_running():
        time.sleep(_WAIT)
    return claim


@contextmanager
def _given_up(study: Study) -> Iterator[None]:
    """End the trials of this process if it fails, so that they are run again."""
    try:
        yield
    except BaseException:
        study.give_up()
        raise


def _costs(program: Program, cutter: Cutter, budget: str) -> dict[str, float]:
    return {**totals(program), budget: cutter.cost(program)}


def _report(result: Compression, place: Path) -> None:
    """Write the report, and remove what trials left that gave no network."""
    with writing(place / REPORT, PlanError):
        write_whole(place / REPORT, json.dumps(result.to_dict(), indent=1) + "\n")
    for trial in (place / TRIALS).glob("*"):
        shutil.rmtree(trial / RECOVERY if (trial / NETWORK).is_dir() else trial, ignore_errors=True)
