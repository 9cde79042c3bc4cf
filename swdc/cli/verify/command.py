"""``swdc verify``: tell whether a saved slim program, or an ONNX file, is the model with channels removed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from swdc.cli.terminal.models import Source
from swdc.cli.terminal.options import (
    MODEL_PANEL,
    ArgumentOption,
    InputOption,
    JsonOption,
    SeedOption,
    TracebackOption,
    WeightsOption,
)
from swdc.cli.terminal.output import NOT_AS_ASKED, reported
from swdc.cli.verify.folder import check_saved
from swdc.cli.verify.onnx_file import check_onnx

MadeArgument = Annotated[
    Path,
    typer.Argument(metavar="FOLDER|FILE.onnx", show_default=False, help="What was made from the model."),
]
OriginalOption = Annotated[
    str,
    typer.Option(
        "--model",
        rich_help_panel=MODEL_PANEL,
        metavar="MODULE:CALLABLE",
        show_default=False,
        help="What makes the model that it is said to be made from, such as torchvision.models:resnet18.",
    ),
]


def verify_made(
    made: MadeArgument,
    model: OriginalOption,
    inputs: InputOption = None,
    arguments: ArgumentOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    show_traceback: TracebackOption = False,
) -> None:
    """Check that a folder or an ONNX file is your model with channels removed, without trusting what it says.

    Your model is traced, and masked and slimmed by the plan that the folder or the file names; that the two agree is
    proven anew. The program in a folder must then be the slim one, or the deployed one: its graph, and every weight. It
    is not run. An ONNX file is run in onnxruntime beside the masked model. Without --input the shapes of the inputs are
    those that the folder or the file names.

    Exit codes: 0 exact; 1 not exact; 2 bad usage or input, such as a plan of another model.

    $ swdc verify slim --model torchvision.models:resnet18 --weights best.pt
    $ swdc verify slim.onnx --model my_file:make_model --weights best.pt --input 1x16
    """
    with reported(as_json, show_traceback) as output:
        source = Source(model, inputs or (), arguments or (), weights, seed)
        check = check_onnx if made.is_file() else check_saved
        with output.step(f"tracing {model}, and comparing it with {made}"):
            result = check(made, source)
        output.document({"made": str(made), "model": model, **result.to_dict()})
        output.line(str(result.certificate))
        output.line(f"{made}: {'exact' if result.exact else 'NOT exact'}, {result.finding}")
        if not result.exact:
            raise typer.Exit(NOT_AS_ASKED)
