"""``python -m examples.bench``: measurements that print a table and write its rows as JSON."""

from __future__ import annotations

from collections.abc import Callable

import typer

from examples.bench.counts import bench_counts, bench_counts_table
from examples.bench.latency import bench_latency
from examples.bench.memory import bench_scale, bench_stream
from examples.bench.pretrained import bench_pretrained, bench_pretrained_table
from examples.bench.seconds import bench_compile, bench_scaling
from examples.bench.sizes import bench_sizes, bench_sizes_table
from examples.bench.subnormals import bench_subnormals
from examples.bench.sums import bench_sums
from examples.bench.swd import bench_swd
from examples.bench.zoo import bench_zoo, bench_zoo_table
from swdc.cli.terminal.on_model import help_of

COMMANDS: dict[str, Callable[..., None]] = {
    "zoo": bench_zoo, "zoo-table": bench_zoo_table, "compile": bench_compile, "scaling": bench_scaling,
    "scale": bench_scale, "stream": bench_stream, "latency": bench_latency, "subnormals": bench_subnormals,
    "sums": bench_sums, "swd": bench_swd, "counts": bench_counts, "counts-table": bench_counts_table,
    "sizes": bench_sizes, "sizes-table": bench_sizes_table, "pretrained": bench_pretrained,
    "pretrained-table": bench_pretrained_table,
}  # fmt: skip
"""The commands in the order of the help. A new one is added here."""

app = typer.Typer(
    help="Measure what works and how fast.", no_args_is_help=True, rich_markup_mode="rich", add_completion=False,
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
for name, command in COMMANDS.items():
    app.command(name, help=help_of(command))(command)

if __name__ == "__main__":
    app()
