"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class BudgetName(StrEnum):
    """What ``--sparsity`` is a share of."""

    channels = "channels"
    parameters = "parameters"
    operations = "operations"
    macs = "macs"
    latency = "latency"


class CriterionName(StrEnum):
    """How channels are scored."""

    l2 = "l2"
    l1 = "l1"
    gamma = "gamma"
    uniform = "uniform"


class ScopeName(StrEnum):
    """What channels are compared with."""

    everything = "global"
    group = "group"


class PolicyName(StrEnum):
    """Whether the sides of residual sums keep the same channels."""

    tied = "tied"
    free = "free"


class ConventionName(StrEnum):
    """How operations are counted."""

    paper = "paper"
    reference = "reference"
    macs = "macs"


MODEL_PANEL = "The model"
"""Where ``--help`` lists the options that make the model and its inputs."""

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        show_default=False,
        help="module:callable that makes the model, such as torchvision.models:resnet18; or a folder written "
        "by swdc slim.",
    ),
]
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        rich_help_panel=MODEL_PANEL,
        metavar="SHAPE",
        show_default=False,
        help="Shape of an example input, such as 1x3x224x224 (batch first). Once for each positional input; "
        "name=SHAPE for inputs by keyword. Other types follow a colon: 1x16:int64 draws 0 and 1, "
        "'1x16:int64<1000' (quoted) draws 0 to 999. A graph: --input 34x34 --input '2x156:int64<34'.",
    ),
]
ArgumentOption = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        rich_help_panel=MODEL_PANEL,
        metavar="KEY=VALUE",
        show_default=False,
        help="Argument of the callable, such as num_classes=10; may be repeated. Values are read as Python "
        "literals where they are such, as text otherwise.",
    ),
]
WeightsOption = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        rich_help_panel=MODEL_PANEL,
        metavar="PATH",
        show_default=False,
        help="Trained weights: .safetensors, a folder of these with an index, or .pt/.pth of tensors only. "
        "Without it the model keeps those that the callable gave it.",
    ),
]
SeedOption = Annotated[
    int,
    typer.Option("--seed", min=0, help="Seed of random weights, of example inputs and of the verification."),
]
JsonOption = Annotated[
    bool,
    typer.Option("--json", help="Print a JSON document to stdout and nothing else; messages go to stderr."),
]
TracebackOption = Annotated[
    bool,
    typer.Option("--traceback", envvar="SWDC_TRACEBACK", help="Show where in the code an error was raised."),
]
