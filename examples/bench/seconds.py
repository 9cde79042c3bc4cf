"""``python -m examples.bench compile`` and ``scaling``: how long analysis, planning and surgery take."""

from __future__ import annotations

from examples.bench.measurements.seconds import NETWORKS, compare, scaling
from examples.bench.options import FileOption, RepeatsOption
from examples.bench.running.collect import collect
from examples.bench.running.row_files import Row
from swdc.cli.terminal.options import TracebackOption
from swdc.cli.terminal.output import Output, reported


def bench_compile(
    repeats: RepeatsOption = 3, json_file: FileOption = None, show_traceback: TracebackOption = False
) -> None:
    """Time capture, analysis, planning and surgery beside Torch-Pruning's building and pruning, on one thread.

    $ python -m examples.bench compile --json compile.json
    """
    with reported(show_traceback=show_traceback) as output:
        rows = collect(lambda announce: compare(repeats, announce), len(NETWORKS), json_file)
        _print_compile(output, rows)


def bench_scaling(
    repeats: RepeatsOption = 5, json_file: FileOption = None, show_traceback: TracebackOption = False
) -> None:
    """Time the dependency analysis of residual networks of 100 and of 1,000 blocks.

    $ python -m examples.bench scaling
    """
    with reported(show_traceback=show_traceback) as output:
        rows = collect(lambda announce: scaling(repeats=repeats), 2, json_file)
        cells = [[f"{row['blocks']:,}", f"{row['seconds']:.3f}", f"{row['ratio']:.1f}"] for row in rows]
        output.table("analysis of a residual network", ["blocks", "seconds", "ratio to the first"], cells)


def _print_compile(output: Output, rows: list[Row]) -> None:
    columns = ("capture", "analysis", "plan", "slim", "ours", "peer_build", "peer_prune", "peer", "ratio")
    cells = [[row["network"], *(f"{row[column]:.3f}" for column in columns)] for row in rows]
    sums = {column: sum(row[column] for row in rows) for column in columns}
    sums["ratio"] = sums["ours"] / sums["peer"]
    cells.append(["sum", *(f"{sums[column]:.3f}" for column in columns)])
    titles = ["network", *(column.replace("_", " ") for column in columns)]
    output.table("seconds; ours = analysis + plan + slim, peer = Torch-Pruning's build + prune", titles, cells)
