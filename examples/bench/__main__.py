"""``swdc bench``: measurements that print a table and write it as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from examples.bench.coverage.rows import Settings, zoo
from examples.bench.coverage.table import tables
from examples.bench.latency import bench_latency
from examples.bench.measurements.memory import stream
from examples.bench.measurements.scale import MODELS, scale
from examples.bench.measurements.seconds import NETWORKS, compare, scaling
from examples.bench.measurements.subnormals import subnormals
from examples.bench.networks.catalogue import entry, names
from examples.bench.options import AgainOption, FileOption, RepeatsOption
from examples.bench.running.apart import Limits
from examples.bench.running.row_files import read_rows, summary, write_rows
from examples.bench.sums import bench_sums
from examples.bench.swd import bench_swd
from swdc.cli.terminal.help import help_of
from swdc.cli.terminal.options import SeedOption, TracebackOption
from swdc.cli.terminal.output import NOT_AS_ASKED, Output, reported
from swdc.cli.terminal.progress import progress_bar
from tests.fuzzing.__main__ import bench_fuzz

Row = dict[str, Any]


class LibraryName(StrEnum):
    """Where the networks of the zoo come from."""

    core = "core"
    torchvision = "torchvision"
    timm = "timm"
    transformers = "transformers"
    pyg = "pyg"


OnlyOption = Annotated[
    str | None,
    typer.Option("--only", metavar="NAME,NAME", show_default=False, help="Measure these networks only."),
]
SizeOption = Annotated[float, typer.Option("--gigabytes", min=0.0, help="Size of the checkpoint.")]
FolderOption = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", show_default=False, help="Where to make room for the checkpoints."),
]
LibraryOption = Annotated[LibraryName, typer.Option("--library", help="Which networks.")]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=1.0, metavar="SECONDS", help="Time for each network.")]
MemoryOption = Annotated[float, typer.Option("--memory", min=0.5, metavar="GB", help="Memory for each network.")]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, help="Networks measured at the same time.")]
NetworkOption = Annotated[str, typer.Option("--network", metavar="NAME", help="One of torchvision's for images.")]
SideOption = Annotated[int, typer.Option("--side", min=1, help="Height and width of the image.")]
ShareOption = Annotated[float, typer.Option("--share", min=0.0, max=1.0, help="How much of each layer has decayed.")]
PeerOption = Annotated[bool, typer.Option("--peer", help="Measure Torch-Pruning on the same networks, too.")]


def register(parent: typer.Typer) -> None:
    """Add the command and its subcommands."""
    app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
    commands: dict[str, Callable[..., None]] = {
        "zoo": bench_zoo, "zoo-table": bench_zoo_table, "compile": bench_compile, "scaling": bench_scaling,
        "scale": bench_scale, "stream": bench_stream, "fuzz": bench_fuzz, "latency": bench_latency,
        "subnormals": bench_subnormals, "sums": bench_sums, "swd": bench_swd,
    }  # fmt: skip
    for name, command in commands.items():
        app.command(name, help=help_of(command))(command)
    parent.add_typer(app, name="bench", help="Measure what works and how fast.")


def bench_zoo(
    library: LibraryOption = LibraryName.core,
    only: OnlyOption = None,
    timeout: TimeoutOption = 300.0,
    memory: MemoryOption = 16.0,
    peer: PeerOption = False,
    jobs: JobsOption = 1,
    again: AgainOption = False,
    json_file: FileOption = None,
    seed: SeedOption = 0,
    show_traceback: TracebackOption = False,
) -> None:
    """Cut half of each group's channels of many networks with random weights: exact, smaller, and alike in ONNX?

    Each network is measured in a process of its own; what fails there is a row. A file that has rows of the same
    settings and versions is gone on with.

    $ swdc bench zoo --library core --json zoo.json
    $ swdc bench zoo --library timm --timeout 120 --json timm.json
    $ swdc bench zoo --only resnet18,gat
    """
    with reported(show_traceback=show_traceback) as output:
        settings = Settings(library.value, seed, Limits(timeout, memory), peer)
        wanted = _names(settings.library, only)
        kept = [row for row in read_rows(json_file) if settings.same(row) and not (again and row["name"] in wanted)]
        rows = _measured_zoo(settings, wanted, kept, jobs, json_file)
        rows = [row for row in rows if row["name"] in wanted]
        _print_zoo(output, settings.library, rows)
        if any(row["kind"] for row in rows):
            raise typer.Exit(NOT_AS_ASKED)


def bench_zoo_table(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Written by swdc bench zoo --json.")],
    show_traceback: TracebackOption = False,
) -> None:
    """Print the rows of swdc bench zoo as tables in Markdown, side by side with the peer.

    $ swdc bench zoo-table torchvision.json timm.json
    """
    with reported(show_traceback=show_traceback) as output:
        output.line(tables(row for file in files for row in read_rows(file)))


def _measured_zoo(
    settings: Settings, wanted: list[str], known: list[Row], jobs: int, json_file: Path | None
) -> list[Row]:
    """Measure what no row is of, under a progress bar; the file is written after every row."""
    order = {name: place for place, name in enumerate(names(settings.library))}
    found = {row["name"]: row for row in known}
    done = {name for name, row in found.items() if settings.complete(row)}
    missing = [name for name in wanted if name not in done]
    total = len(done) + len(missing)
    with progress_bar() as bar:
        for row in zoo(missing, settings, found.copy(), jobs, lambda name: bar.show(name, len(done), total)):
            found[row["name"]] = row
            done.add(row["name"])
            write_rows(json_file, sorted(found.values(), key=lambda row: order.get(row["name"], len(order))))
    return list(found.values())


def _names(library: str, only: str | None) -> list[str]:
    if only is None:
        return list(names(library))
    chosen = [name.strip() for name in only.split(",")]
    for name in chosen:
        entry(name, library)  # refuses unknown names
    return chosen


def bench_compile(
    repeats: RepeatsOption = 3, json_file: FileOption = None, show_traceback: TracebackOption = False
) -> None:
    """Time capture, analysis, planning and surgery beside Torch-Pruning's building and pruning, on one thread.

    $ swdc bench compile --json compile.json
    """
    with reported(show_traceback=show_traceback) as output:
        rows = _measured(lambda announce: compare(repeats, announce), len(NETWORKS), json_file)
        _print_compile(output, rows)


def bench_scaling(
    repeats: RepeatsOption = 5, json_file: FileOption = None, show_traceback: TracebackOption = False
) -> None:
    """Time the dependency analysis of residual networks of 100 and of 1,000 blocks.

    $ swdc bench scaling
    """
    with reported(show_traceback=show_traceback) as output:
        rows = _measured(lambda announce: scaling(repeats=repeats), 2, json_file)
        cells = [[f"{row['blocks']:,}", f"{row['seconds']:.3f}", f"{row['ratio']:.1f}"] for row in rows]
        output.table("analysis of a residual network", ["blocks", "seconds", "ratio to the first"], cells)


def bench_scale(only: OnlyOption = None, json_file: FileOption = None, show_traceback: TracebackOption = False) -> None:
    """Trace, plan and count language models of the shape of Llama 70B, without weights, on one thread.

    $ swdc bench scale --json scale.json
    $ swdc bench scale --only llama
    """
    with reported(show_traceback=show_traceback) as output:
        names = [name.strip() for name in only.split(",")] if only else list(MODELS)
        rows = _measured(lambda announce: scale(names, announce), len(names), json_file)
        steps = (
            "build",
            "capture",
            "analysis",
            "plan",
            "count",
            "slim",
            "seconds",
            "cpu_seconds",
            "torch_mb",
            "peak_mb",
        )
        cells = [
            [
                r["model"],
                r["parameters"],
                r["parameters_after"],
                f"{r['prunable']:.2%}",
                *(f"{r[s]:,.1f}" for s in steps),
            ]
            for r in rows
        ]
        columns = ["model", "parameters", "after", "prunable", *(step.replace("_", " ") for step in steps)]
        output.table("on the meta device; seconds, and megabytes of the process", columns, cells)


def bench_stream(
    gigabytes: SizeOption = 1.5,
    folder: FolderOption = None,
    json_file: FileOption = None,
    show_traceback: TracebackOption = False,
) -> None:
    """Slim a sharded checkpoint of random weights tensor by tensor, and tell the memory that it takes.

    $ swdc bench stream --gigabytes 1.5
    """
    with reported(show_traceback=show_traceback) as output:
        rows = _measured(lambda announce: stream(gigabytes, folder, announce), 1, json_file)
        columns = ["checkpoint_mb", "slim_mb", "seconds", "torch_mb", "swdc_mb", "peak_mb", "over_torch_mb"]
        titles = ["checkpoint", "slim", "seconds", "import torch", "import swdc", "peak", "peak over import torch"]
        output.table("megabytes", titles, [[f"{row[column]:,.0f}" for column in columns] for row in rows])


def bench_subnormals(
    network: NetworkOption = "vgg16",
    side: SideOption = 64,
    share: ShareOption = 0.9,
    repeats: RepeatsOption = 5,
    json_file: FileOption = None,
    seed: SeedOption = 0,
    show_traceback: TracebackOption = False,
) -> None:
    """Time a network whose smallest weights have decayed to 1e-40, before and after these are flushed to zero.

    In onnxruntime and in eager PyTorch, on one thread and one image, in runs that take turns.

    $ swdc bench subnormals --json subnormals.json
    $ swdc bench subnormals --network resnet18 --side 224
    """
    with reported(show_traceback=show_traceback) as output:
        rows = _measured(lambda tell: subnormals(network, side, share, repeats, seed, tell), 2, json_file)
        cells = [
            [
                row["runtime"],
                *(f"{row[column]:,.1f}" for column in ("before_ms", "after_ms", "speedup")),
                f"{row['max_difference']:.1e}",
            ]
            for row in rows
        ]
        columns = ["runtime", "subnormal ms", "flushed ms", "speed-up", "largest difference of the logits"]
        title = f"{network} at {side} x {side}, {rows[0]['subnormal_weights']:,} weights of 1e-40"
        output.table(title, columns, cells)


def _measured(
    measure: Callable[[Callable[[str], None]], Iterator[Row]], total: int, json_file: Path | None
) -> list[Row]:
    """Collect rows under a progress bar; the file is written after every row, so that an interrupted run leaves it."""
    rows: list[Row] = []
    with progress_bar() as bar:
        for row in measure(lambda name: bar.show(name, len(rows), total)):
            rows.append(row)
            write_rows(json_file, rows)
    return rows


def _print_zoo(output: Output, library: str, rows: list[Row]) -> None:
    columns = ["network", "exact", "error in float64", "parameters", "operations", "onnx", "seconds", "not met"]
    output.table(f"zoo: {library}", columns, [_zoo_row(row) for row in rows])
    exact = sum(row["exact"] for row in rows)
    kinds = ", ".join(f"{kind or 'all holds'}: {number}" for kind, number in summary(rows).items())
    output.line(f"{exact} of {len(rows)} exact; {kinds}")


def _zoo_row(row: Row) -> list[str]:
    def ratio(name: str) -> str:
        before, after = row[f"{name}_before"], row[f"{name}_after"]
        return f"{before:,} -> {after:,} (-{1 - after / before:.0%})" if before else ""

    error = "" if row["max_relative_error"] is None else f"{row['max_relative_error']:.1e}"
    onnx = f"{row['onnx_max_relative_error']:.1e}" if row["onnx"] == "ok" else row["onnx"] or "no"
    exact = "yes" if row["exact"] else "NO"
    counts = [ratio("parameters"), ratio("operations")]
    seconds = f"{sum(row['seconds'].values()):.1f}"
    return [row["name"], exact, error, *counts, onnx, seconds, row["reason"]]


def _print_compile(output: Output, rows: list[Row]) -> None:
    columns = ("capture", "analysis", "plan", "slim", "ours", "peer_build", "peer_prune", "peer", "ratio")
    cells = [[row["network"], *(f"{row[column]:.3f}" for column in columns)] for row in rows]
    sums = {column: sum(row[column] for row in rows) for column in columns}
    sums["ratio"] = sums["ours"] / sums["peer"]
    cells.append(["sum", *(f"{sums[column]:.3f}" for column in columns)])
    titles = ["network", *(column.replace("_", " ") for column in columns)]
    output.table("seconds; ours = analysis + plan + slim, peer = Torch-Pruning's build + prune", titles, cells)
