"""Random networks under random plans: whatever is built, the slim program computes what the masked one does."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swdc.costs.clock import one_thread
from swdc.errors import CommandError
from tests.fuzzing.blocks import TABLE
from tests.fuzzing.checking import Outcome, check, families_of
from tests.fuzzing.network import Spec, draw_spec
from tests.fuzzing.shrinking import reproduction, shrink
from tests.fuzzing.uses import USES

SHRUNK = 3
"""Failures of one kind that are made small and kept whole; of the others only the seeds."""
SAVE_EVERY = 20.0
"""Seconds between two writes of the report."""


@dataclass
class Report:
    """The results of networks ``seed`` to ``seed + done - 1``, as plain data."""

    seed: int
    blocks: int = len(TABLE)
    done: int = 0
    seconds: float = 0.0
    max_relative_error: float = 0.0
    removed_channels: int = 0
    results: Counter[str] = field(default_factory=Counter)
    families: Counter[str] = field(default_factory=Counter)
    used: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    cut: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    transplants: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Count one network."""
        self.done += 1
        self.results[outcome.result] += 1
        self.removed_channels += outcome.removed
        self.families.update(families_of(outcome.spec))
        self.used.update({step.block for step in outcome.spec.steps})
        self.operators.update(outcome.operators)
        self.cut.update(outcome.cut)
        self.stages.update(outcome.seconds)
        self.transplants.update([outcome.transplant] if outcome.transplant else [])
        self.types[outcome.spec.types] += 1
        if outcome.result != "failed":
            self.max_relative_error = max(self.max_relative_error, outcome.max_relative_error)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for JSON; counts with the most frequent first."""
        data = dict(vars(self))
        for name, value in data.items():
            if isinstance(value, Counter):
                data[name] = {k: round(v, 2) for k, v in value.most_common()}
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Report:
        """Return the report that ``to_dict`` wrote."""
        given: dict[str, Any] = {name: Counter(v) if isinstance(v, dict) else v for name, v in data.items()}
        return cls(**given)


def fuzz(
    number: int,
    seed: int = 0,
    path: Path | None = None,
    announce: Callable[[int, int], None] = lambda done, failed: None,
) -> Report:
    """Check the networks of the seeds ``seed`` to ``seed + number - 1``, and return the report.

    With a ``path`` the report is written there now and then, and a run that was interrupted resumes where it stopped.
    Failures are made small: blocks and groups of channels are left out while the network fails alike.

    Raises ``CommandError`` if the file at ``path`` is the report of other networks.
    """
    report = _begun(path, seed)
    with one_thread():
        written = time.perf_counter()
        while report.done < number:
            announce(report.done, report.results["failed"])
            start = time.process_time()
            _check_next(report)
            report.seconds += time.process_time() - start
            if time.perf_counter() - written > SAVE_EVERY:
                _write(report, path)
                written = time.perf_counter()
    _write(report, path)
    return report


def _check_next(report: Report) -> None:
    seed = report.seed + report.done
    outcome = _checked(seed)
    report.add(outcome)
    if outcome.result != "failed":
        return
    alike = sum(failure["kind"] == outcome.signature for failure in report.failures)
    failure: dict[str, Any] = {"seed": seed, "kind": outcome.signature}
    if alike < SHRUNK and outcome.spec.steps:
        failure.update(_made_small(outcome))
    report.failures.append(failure)


def _made_small(outcome: Outcome) -> dict[str, Any]:
    """Return a failure as small as it gets; if that fails, as it is, so that the run goes on after it."""
    try:
        return reproduction(shrink(outcome))
    except Exception as error:  # a graph that cannot be printed, for example
        return {"spec": outcome.spec.to_dict(), "error": outcome.error, "not made small": str(error)}


def _checked(seed: int) -> Outcome:
    """Return the result of a network; one that cannot even be drawn has failed, so that the run goes on after it."""
    try:
        spec = draw_spec(seed)
    except Exception as error:  # whatever a block or torch raises
        return Outcome(Spec("", seed, ()), "failed", "draw", f"{type(error).__name__}: {error}")
    return check(spec)


def _begun(path: Path | None, seed: int) -> Report:
    """Return the report that an interrupted run has left, or a new one."""
    if path is None or not path.exists():
        return Report(seed)
    try:
        report = Report.from_dict(json.loads(path.read_text()))
    except (ValueError, TypeError, AttributeError) as error:
        raise CommandError(
            f"expected a report of python -m tests.fuzzing in {path}, got another file; name a new one"
        ) from error
    if (report.seed, report.blocks) != (seed, len(TABLE)):
        raise CommandError(
            f"expected the report of seed {seed} with {len(TABLE)} blocks in {path}, got seed {report.seed} with "
            f"{report.blocks}; name a new file"
        )
    return report


def _write(report: Report, path: Path | None) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    os.replace(partial, path)


def summary(report: Report) -> Iterable[tuple[str, str]]:
    """Return a report as lines of a table."""
    yield "networks", f"{report.done:,} (seeds {report.seed} to {report.seed + report.done - 1})"
    for result in ("exact", "frozen", "no effect", "failed"):
        yield result, f"{report.results[result]:,}"
    yield "largest relative error", f"{report.max_relative_error:.1e}"
    yield "families of blocks", ", ".join(f"{name} {n:,}" for name, n in report.families.most_common())
    yield "types", ", ".join(f"{name} {n:,}" for name, n in report.types.most_common())
    yield "done with them", ", ".join(f"{name} {report.stages[name]:,}" for name in USES)
    yield "operators", f"{len(report.operators)}, of which {len(report.cut)} lost channels"
    yield "networks per second", f"{report.done / report.seconds:.1f}" if report.seconds else ""
