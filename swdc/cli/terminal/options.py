"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from swdc.costs.count import CONVENTIONS
from swdc.ir.trace_options import POLICIES
from swdc.sparsity.planning.plan import BUDGET_NAMES
from swdc.sparsity.planning.widths import SCOPES

BudgetName = StrEnum("BudgetName", {name: name for name in BUDGET_NAMES})  # type: ignore[misc]
"""What ``--sparsity`` is a share of."""
ScopeName = StrEnum("ScopeName", {name: name for name in SCOPES})  # type: ignore[misc]
"""What channels are compared with."""
PolicyName = StrEnum("PolicyName", {name: name for name in POLICIES})  # type: ignore[misc]
"""Whether the sides of residual sums keep the same channels."""
ConventionName = StrEnum("ConventionName", {name: name for name in CONVENTIONS})  # type: ignore[misc]
"""How operations are counted."""

MODEL_PANEL = "The model"
"""Where ``--help`` lists the options that make the model and its inputs."""

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        show_default=False,
        help="module:callable that makes the model, such as torchvision.models:resnet18; or a folder written "
        "by swdc slim. For swdc slim also hf:FOLDER, a model of transformers.",
    ),
]
_model_option = partial(typer.Option, rich_help_panel=MODEL_PANEL, show_default=False)

_INPUT = (
    "Shape of an example input, such as 1x3x224x224 (batch first). Once for each positional input; name=SHAPE for "
    "inputs by keyword. Other types follow a colon: 1x16:int64 draws 0 and 1, '1x16:int64<1000' (quoted) draws 0 to "
    "999. A graph: --input 34x34 --input '2x156:int64<34'."
)
InputOption = Annotated[list[str] | None, _model_option("--input", metavar="SHAPE", help=_INPUT)]
_ARGUMENT = (
    "Argument of the callable, such as num_classes=10; may be repeated. Values are read as Python literals if "
    "possible, as text otherwise."
)
ArgumentOption = Annotated[list[str] | None, _model_option("--arg", metavar="KEY=VALUE", help=_ARGUMENT)]
_WEIGHTS = (
    "Trained weights: .safetensors, a folder of these with an index, or .pt/.pth of tensors only. Without it the model "
    "keeps those that the callable gave it."
)
WeightsOption = Annotated[Path | None, _model_option("--weights", metavar="PATH", help=_WEIGHTS)]
SeedOption = Annotated[
    int,
    typer.Option(
        "--seed", min=0, max=2**63 - 1, help="Seed of random weights, of example inputs and of the verification."
    ),
]
optional = partial(typer.Option, show_default=False)
"""The frame of an option that says nothing unless it is given."""
FunctionArgumentOption = Annotated[
    list[str] | None, optional("--arg", metavar="KEY=VALUE", help="Argument of the function; repeatable.")
]
"""An argument of the function in a file of the user's that a command calls."""
trials_option = partial(typer.Option, "--trials", min=1)
"""The frame of the option that says how many trials a search makes."""
JSON = "--json"
JsonOption = Annotated[
    bool, typer.Option(JSON, help="Print a JSON document to stdout and nothing else; messages go to stderr.")
]
TracebackOption = Annotated[
    bool, typer.Option("--traceback", envvar="SWDC_TRACEBACK", help="Show where in the code an error was raised.")
]
