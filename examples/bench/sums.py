"""``python -m examples.bench sums``: residual sums whose sides keep channels of their own."""

from __future__ import annotations

from typing import Annotated

from examples.bench.measurements.sums import NETWORKS, WAYS, sums
from examples.bench.options import FileOption, RepeatsOption, network_option
from examples.bench.running.collect import collect
from examples.bench.running.row_files import Row
from swdc.cli.terminal.options import SeedOption, TracebackOption
from swdc.cli.terminal.output import reported

NetworkOption = Annotated[list[str] | None, network_option(NETWORKS)]


def bench_sums(
    network: NetworkOption = None,
    repeats: RepeatsOption = 30,
    json_file: FileOption = None,
    seed: SeedOption = 0,
    show_traceback: TracebackOption = False,
) -> None:
    """Zero 50 to 95 % of each inserted batch norm at random: how do the residual sums come out, and how fast?

    A network of tied sums with as many parameters is timed as well. In onnxruntime, one thread, one image, paired runs.

    $ python -m examples.bench sums --json sums.json
    $ python -m examples.bench sums --network resnet20-64
    """
    with reported(show_traceback=show_traceback) as output:
        names = network or list(NETWORKS)
        rows = collect(lambda announce: sums(names, repeats, seed, announce), len(names), json_file)
        columns = [
            "network", "exact", "ONNX error", *WAYS, "parameters", "free", "tied", "dense ms", "free ms", "tied ms",
            "free / tied",
        ]  # fmt: skip
        output.table("residual sums with sets of their own", columns, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str | int]:
    return [
        row["network"], f"{row['max_relative_error']:.1e}" if row["exact"] else "no",
        f"{row['onnx_max_relative_error']:.1e}", *(row["sums"][way] for way in WAYS), f"{row['parameters']:,}",
        f"{row['free_parameters']:,}", f"{row['tied_parameters']:,}",
        *(f"{row[f'{each}_ms']:.2f}" for each in ("dense", "free", "tied")), f"{row['free_over_tied']:.2f}",
    ]  # fmt: skip
