"""Functions as commands: the text of their help, and what all commands on a model share."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, cleandoc, signature
from typing import Any

from rich.markup import escape

from swdc.cli.terminal.models import Source
from swdc.cli.terminal.options import (
    ArgumentOption,
    InputOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    TracebackOption,
    WeightsOption,
)
from swdc.cli.terminal.output import reported


def on_model(run: Callable[..., None]) -> Callable[..., None]:
    """Return the command that calls ``run(output, source, **own)``; its own options stand after those of the source."""

    def command(
        *, model: ModelArgument, inputs: InputOption = None, arguments: ArgumentOption = None,
        weights: WeightsOption = None, seed: SeedOption = 0, as_json: JsonOption = False,
        show_traceback: TracebackOption = False, **own: Any,
    ) -> None:  # fmt: skip
        with reported(as_json, show_traceback) as output:
            run(output, Source(model, inputs or (), arguments or (), weights, seed), **own)

    *shared, _ = signature(command, eval_str=True).parameters.values()
    own = list(signature(run, eval_str=True).parameters.values())[2:]
    every = [each.replace(kind=Parameter.KEYWORD_ONLY) for each in (*shared[:4], *own, *shared[4:])]
    command.__doc__, command.__annotations__ = run.__doc__, {each.name: each.annotation for each in every}
    command.__signature__ = Signature(every)  # type: ignore[attr-defined]
    return command


def help_of(command: Callable[..., Any]) -> str:
    """Return the docstring of a command as its help: paragraphs are re-wrapped, examples (``$ swdc ...``) are not."""
    paragraphs = cleandoc(command.__doc__ or "").split("\n\n")
    flowing = [p if p.startswith("$ ") else p.replace("\n", " ") for p in paragraphs]
    return escape("\n\n".join(flowing))
