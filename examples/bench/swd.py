"""``python -m examples.bench swd``: what a step of Selective Weight Decay costs."""

from __future__ import annotations

from typing import Annotated

import typer

from examples.bench.measurements.swd_step import STRUCTURES, steps
from examples.bench.networks.trained import NETWORKS
from examples.bench.options import FileOption, RepeatsOption, batch_option, network_option
from examples.bench.running.collect import collect
from examples.bench.running.row_files import Row
from swdc.cli.terminal.options import SeedOption, TracebackOption
from swdc.cli.terminal.output import reported

BATCHES = (16, 128)
NetworkOption = Annotated[list[str] | None, network_option(NETWORKS)]
BatchOption = Annotated[list[int] | None, batch_option(BATCHES, least=2)]
TargetOption = Annotated[float, typer.Option("--target", metavar="SHARE", help="The share that is targeted.")]


def bench_swd(
    network: NetworkOption = None,
    batch: BatchOption = None,
    target: TargetOption = 0.9,
    repeats: RepeatsOption = 30,
    json_file: FileOption = None,
    seed: SeedOption = 0,
    show_traceback: TracebackOption = False,
) -> None:
    """What does a step of SWD cost, beside a step of training and beside Algorithm 1 of the paper written naively?

    Naively means: all weights sorted, or a bisection that walks over the modules; then a penalty and autograd. The step
    of SWD is timed alone, in runs that take turns with the others, with bounds and with a="auto". Both must find the
    same set. A graph network trains on its whole graph, whatever the batch. Long steps have fewer runs, at least five.

    $ python -m examples.bench swd --json swd.json
    $ python -m examples.bench swd --network resnet20-64 --batch 128
    """
    with reported(show_traceback=show_traceback) as output:
        names, batches = network or list(NETWORKS), batch or BATCHES
        total = len(STRUCTURES) * len(names) * len(batches)
        rows = collect(lambda announce: steps(names, batches, target, repeats, seed, announce), total, json_file)
        columns = [
            "network", "structure", "batch", "same set", "plain ms", "naive ms", "ours ms", "auto ms", "ours / plain",
            "naive / ours", "auto / plain",
        ]  # fmt: skip
        output.table("a step of training, and of SWD alone", columns, [_cells(row) for row in rows])


def _cells(row: Row) -> list[str | int]:
    return [
        row["network"], row["structure"], row["batch"], "yes" if row["same_set"] else "no",
        f"{1000 * row['plain']:.1f}", f"{1000 * row['naive']:.2f}", f"{1000 * row['ours']:.2f}",
        f"{1000 * row['auto']:.2f}", f"{100 * row['ours_over_plain']:.2f} %", f"{1 / row['ours_over_naive']:.1f}",
        f"{100 * row['auto_over_plain']:.2f} %",
    ]  # fmt: skip
