"""The command line: ``swdc demo``, ``inspect``, ``count``, ``slim``, ``compress``, ``export``,
``quantize``, ``verify`` and ``sweep``.

Exit codes of all commands: 0 fine; 1 the result is not what was asked for (no exact certificate); 2 bad
usage, or input that swdc cannot use; 3 a defect of swdc itself.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import swdc
from swdc.cli.compress import compress_task as compress_command
from swdc.cli.count import count_model as count_command
from swdc.cli.demo.command import demo as demo_command
from swdc.cli.export import export as export_command
from swdc.cli.inspect import inspect as inspect_command
from swdc.cli.quantize import quantize as quantize_command
from swdc.cli.slim.command import slim as slim_command
from swdc.cli.sweep.command import sweep_bounds as sweep_command
from swdc.cli.terminal.on_model import help_of
from swdc.cli.terminal.options import JSON
from swdc.cli.terminal.output import UNUSABLE, Output
from swdc.cli.verify.command import verify_made as verify_command

_WrongUse: Any = typer.BadParameter.__mro__[1]  # typer has its own click, and shows of it only what derives from this
COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo_command, "inspect": inspect_command, "count": count_command,
    "slim": slim_command, "compress": compress_command, "export": export_command,
    "quantize": quantize_command, "verify": verify_command, "sweep": sweep_command,
}  # fmt: skip
"""The commands by name, in the order of the help. A new command is added here."""


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(swdc.__version__)
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Cut channels out of PyTorch models, and prove that the smaller model computes the same.

    Watch a demonstration, see which channels of your model can be removed, then remove them:

    $ swdc demo --out demo
    $ swdc inspect torchvision.models:resnet18 --input 1x3x224x224
    $ swdc slim torchvision.models:resnet18 --input 1x3x224x224 --out slim

    A model is named module:callable, such as torchvision.models:resnet18, or my_file:make_model for a
    my_file.py in the current folder.

    Exit codes: 0 fine; 1 the result is not what was asked for (no exact certificate); 2 bad usage or input; 3
    a defect of swdc.
    """


class _Commands(TyperGroup):
    """The commands; a wrong use of one that was asked for JSON is told in JSON, too."""

    def main(self, args: Sequence[str] | None = None, **settings: Any) -> Any:  # type: ignore[override]
        """Run the command that the arguments name."""
        given = sys.argv[1:] if args is None else [*args]
        if JSON not in given:
            return super().main(args, **settings)
        try:
            code = super().main(args, **{**settings, "standalone_mode": False})
        except _WrongUse as error:
            code = Output(json_only=True).failed(error, error.format_message(), UNUSABLE).exit_code
        sys.exit(code)


def _build() -> typer.Typer:
    built = typer.Typer(
        name="swdc", cls=_Commands, no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )  # fmt: skip
    built.callback(help=help_of(_root))(_root)
    for name, command in COMMANDS.items():
        built.command(name, help=help_of(command))(command)
    return built


app = _build()


def main() -> None:
    """Run the command line on the arguments of the process."""
    app()
