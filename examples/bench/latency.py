"""``python -m examples.bench latency``: how much faster the slim network runs than the dense one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from examples.bench.measurements.latency import BATCHES, METHODS, NETWORKS, Settings, key, latency
from examples.bench.options import AgainOption, FileOption, RepeatsOption, batch_option, network_option
from examples.bench.running.row_files import Row, read_rows, write_rows
from examples.bench.running.runtimes import SETUPS
from swdc.cli.terminal.options import SeedOption, TracebackOption
from swdc.cli.terminal.output import Output, reported
from swdc.ir.progress import progress_bar

NetworkOption = Annotated[list[str] | None, network_option(NETWORKS)]
BatchOption = Annotated[list[int] | None, batch_option(BATCHES)]
ShareOption = Annotated[float, typer.Option("--share", min=0.01, max=0.99, help="Share of the multiply-adds left.")]
RoundOption = Annotated[int, typer.Option("--round-to", min=1, metavar="N", help="Widths are multiples of this.")]


def bench_latency(
    network: NetworkOption = None,
    batch: BatchOption = None,
    share: ShareOption = 0.25,
    round_to: RoundOption = 8,
    repeats: RepeatsOption = 30,
    again: AgainOption = False,
    json_file: FileOption = None,
    seed: SeedOption = 0,
    show_traceback: TracebackOption = False,
) -> None:
    """Time dense networks, slim ones and Torch-Pruning's at the same multiply-adds: as fast as their ratio promises?

    They run in onnxruntime (one and two threads), and in PyTorch eager and compiled (one thread), in paired runs. All
    are deployed first, with batch norms folded. A file that has rows of the same settings and versions is resumed.

    $ python -m examples.bench latency --network resnet50 --batch 1 --json resnet50.json
    $ python -m examples.bench latency --json latency.json
    """
    with reported(show_traceback=show_traceback) as output:
        settings = Settings(share, round_to, repeats, seed)
        names, batches = network or list(NETWORKS), batch or list(BATCHES)
        kept = [row for row in read_rows(json_file) if settings.same(row)]
        if again:
            kept = [row for row in kept if row["network"] not in names or row["batch"] not in batches]
        found = {key(row): row for row in kept}
        wanted = [
            (name, number, setup.runtime, setup.threads, method)
            for name in names for number in batches for setup in SETUPS for method in METHODS
        ]  # fmt: skip
        with progress_bar() as bar:

            def announce(text: str) -> None:
                bar.show(text, sum(each in found for each in wanted), len(wanted))

            for row in latency(names, batches, settings, kept, announce):
                found[key(row)] = row
                write_rows(json_file, found.values())
        _print(output, [found[each] for each in wanted])


def _print(output: Output, rows: list[Row]) -> None:
    columns = [
        "network", "batch", "runtime", "threads", "method", "MACs", "dense ms", "slim ms", "speed-up", "of the ratio",
        "not measured",
    ]  # fmt: skip
    output.table("medians of paired runs; MACs and speed-up: dense over slim", columns, [_cells(row) for row in rows])
    for row in rows:
        if row["profile"]:
            output.line(f"{row['network']}, batch {row['batch']}, {row['threads']} threads, {row['method']}: time by")
            output.line("  " + "; ".join(_operator(each) for each in row["profile"]))


def _cells(row: Row) -> list[str | int]:
    def shown(name: str, sign: str = "") -> str:
        return "" if row[name] is None else f"{row[name]:.2f}{sign}"

    reached = "" if row["speedup"] is None else f"{row['speedup'] / row['mac_ratio']:.2f}"
    return [
        row["network"], row["batch"], row["runtime"], row["threads"], row["method"], shown("mac_ratio", "x"),
        shown("dense_ms"), shown("slim_ms"), shown("speedup", "x"), reached, row["reason"],
    ]  # fmt: skip


def _operator(each: dict[str, Any]) -> str:
    return f"{each['operator']} {each['dense_ms']:.2f} -> {each['slim_ms']:.2f} ms ({each['slim_share']:.0%})"
