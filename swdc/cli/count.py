"""``swdc count``: parameters and operations of a model, by layer and in all."""

from __future__ import annotations

from typing import Annotated

import typer

from swdc.cli.terminal.models import Source, load_program
from swdc.cli.terminal.on_model import on_model
from swdc.cli.terminal.options import ConventionName
from swdc.cli.terminal.output import Output, operations_title
from swdc.costs.count import CONVENTIONS, Count, count
from swdc.ir.program import Program

ConventionOption = Annotated[
    ConventionName,
    typer.Option(
        "--convention",
        help="How operations of layers are counted. paper: by the feature map that a layer reads; reference: by the "
        "feature map that it writes; macs: multiply-adds of convolutions, dense layers and other products.",
    ),
]


@on_model
def count_model(output: Output, source: Source, convention: ConventionOption = ConventionName["paper"]) -> None:
    """Count the parameters and operations of a model for one sample, layer by layer and in all.

    For a folder written by swdc slim, the totals of the model before it was cut are shown as well.

    $ swdc count torchvision.models:resnet18 --input 1x3x224x224
    $ swdc count slim --convention macs
    """
    with output.step(f"loading and tracing {source.model}"):
        program = load_program(source)
    counted = count(program, convention.value)
    sums = totals_by_convention(program)
    output.document({"model": source.model, **counted.to_dict(), "totals": sums, "notes": list(program.facts.notes)})
    output.notes(program.facts.notes)
    _print(output, counted, sums)


def totals_by_convention(program: Program) -> dict[str, int]:
    """Return the operations of a program for one sample, by each convention."""
    return {name: count(program, name).operations for name in CONVENTIONS}


def _print(output: Output, counted: Count, sums: dict[str, int]) -> None:
    rows: list[list[str | int]] = [
        [layer.name, layer.operator, layer.parameters, layer.operations] for layer in counted.layers
    ]
    columns = ["layer", "operator", "parameters", "operations"]
    output.table(f"Layers, by the convention {counted.convention}", columns, rows)
    _print_totals(output, counted, sums)


def _print_totals(output: Output, counted: Count, sums: dict[str, int]) -> None:
    now = {"parameters": counted.parameters, **{operations_title(name): sums[name] for name in sums}}
    rows: list[list[str | int]]
    if counted.before is None:
        rows = [[what, number] for what, number in now.items()]
        output.table("In all, for one sample", ["what", "number"], rows)
        return
    before = counted.before
    known = {"parameters": before["parameters"], operations_title("paper"): before["operations"]}
    known[operations_title("macs")] = before["macs"]
    rows = [[what, known.get(what, ""), number] for what, number in now.items()]
    output.table("In all, for one sample", ["what", "before", "now"], rows)
