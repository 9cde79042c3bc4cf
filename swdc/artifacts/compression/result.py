"""What comes out of a compression."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swdc.artifacts.compression.cutting import Cut
from swdc.artifacts.compression.deployment import INT8, ONNX, SLIM, Deployed
from swdc.artifacts.compression.trials import Trial
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.rewriting.certificate import Certificate
from swdc.sparsity.planning.sensitivity import Sensitivity

REPORT = "report.json"


@dataclass(frozen=True)
class Compression:
    """The smallest network that was found whose metric falls by no more than asked.

    ``program`` is that network in evaluation, and can be trained on; if none was ``found`` it is the dense program.
    ``metric_before`` and ``metric`` are those of the dense program and of this one. ``costs_before`` and ``costs`` hold
    ``parameters``, ``operations``, ``macs`` and what the budget counts. ``cuts`` lead from the one to the other: the
    plan of each is one of the network before it, and its certificate is that of the cut, before recovery. ``trials``
    are all that was tried, and ``sensitivity`` is that of the dense program. ``deployed`` says what was written to
    ``folder``.
    """

    found: bool
    program: Program
    budget: str
    most_drop: float
    metric_before: float
    metric: float
    costs_before: dict[str, float]
    costs: dict[str, float]
    cuts: tuple[Cut, ...]
    trials: tuple[Trial, ...]
    sensitivity: Sensitivity
    deployed: Deployed
    folder: Path | None

    @property
    def plans(self) -> tuple[Plan, ...]:
        """The plan of each cut."""
        return tuple(cut.plan for cut in self.cuts)

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """The certificate of each cut."""
        return tuple(cut.certificate for cut in self.cuts)

    @property
    def files(self) -> dict[str, Path]:
        """What was written, by name: ``slim`` (a folder for ``swdc.load``), ``onnx``, ``int8`` and ``report``."""
        if self.folder is None:
            return {}
        there = {"slim": self.found, "onnx": self.deployed.onnx is not None, "int8": self.deployed.int8 is not None}
        names = {"slim": SLIM, "onnx": ONNX, "int8": INT8}
        return {
            **{name: self.folder / names[name] for name in names if there[name]}, "report": self.folder / REPORT
        }  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        """Return all but the program as plain data, ready for JSON."""
        made = self.deployed
        return {
            "found": self.found, "budget": self.budget, "most_drop": self.most_drop,
            "metric_before": self.metric_before, "metric": self.metric, "metric_deployed": made.metric,
            "costs_before": self.costs_before, "costs": self.costs,
            "cuts": [cut.to_dict() for cut in self.cuts], "trials": [trial.to_dict() for trial in self.trials],
            "sensitivity": self.sensitivity.to_dict(), "onnx": None if made.onnx is None else made.onnx.to_dict(),
            "int8": None if made.int8 is None else made.int8.to_dict(), "notes": list(made.notes),
            "files": {name: str(path) for name, path in self.files.items()},
        }  # fmt: skip

    def rows(self) -> list[list[str]]:
        """Return the rows of a table: what is counted, before and after, and which share is gone."""
        return [
            [name, _number(before), _number(self.costs[name]),
             f"{1 - self.costs[name] / before:.1%} gone" if before else ""]
            for name, before in self.costs_before.items()
        ]  # fmt: skip

    def summary(self) -> list[str]:
        """Return what came out, in a few lines."""
        allowed = f"it may fall by {self.most_drop:g}"
        if not self.found:
            tried = f"none of {len(self.trials)} trials gave a smaller network whose metric falls by no more"
            return [f"metric {self.metric_before:.4g}; {allowed}: {tried}; the program is the dense one"]
        lines = [f"metric {self.metric_before:.4g}, {self.metric:.4g} after {len(self.cuts)} cuts; {allowed}"]
        lines += [
            f"cut {number}: {cut.trial.removed:.1%} gone, metric {cut.trial.cut_metric:.4g}, recovered "
            f"{cut.trial.metric:.4g}; certificate exact, {cut.certificate.max_relative_error:.1e} in float64"
            for number, cut in enumerate(self.cuts, 1)
        ]
        if self.deployed.metric is not None:
            lines.append(f"deployed: metric {self.deployed.metric:.4g}")
        if self.deployed.int8 is not None:
            int8 = self.deployed.int8
            lines.append(f"int8: metric {int8.score:.4g}, {int8.file_bytes:,} of {int8.float_bytes:,} bytes")
        return [*lines, *(f"{name}: {path}" for name, path in self.files.items()), *self.deployed.notes]

    def __str__(self) -> str:
        table = [["", "before", "after", ""], *self.rows()]
        widths = [max(len(row[column]) for row in table) for column in range(4)]
        lines = [
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
        ]
        return "\n".join([*lines, *self.summary()])


def _number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:,.6g}"
