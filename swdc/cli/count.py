"""``swdc count``: parameters and operations of a model, by layer and in all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import typer

from swdc.cli.terminal.models import Source, load_program
from swdc.cli.terminal.on_model import on_model
from swdc.cli.terminal.options import ConventionName
from swdc.cli.terminal.output import Output, operations_title
from swdc.costs.count import CONVENTIONS, Count, count
from swdc.errors import CommandError
from swdc.ir.program import Program

ConventionOption = Annotated[
    ConventionName,
    typer.Option(
        "--convention",
        help="How operations of layers are counted. paper: by the feature map that a layer reads; reference: by the "
        "feature map that it writes; macs: multiply-adds of convolutions, dense layers and other products.",
    ),
]
SizeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        metavar="NAME=N",
        show_default=False,
        help="A dynamic size to count for, such as batch=4 or length=2048; may be repeated. By default one sample at "
        "the sizes of the input.",
    ),
]


@on_model
def count_model(
    output: Output, source: Source, convention: ConventionOption = ConventionName["paper"], size: SizeOption = None
) -> None:
    """Count the parameters and operations of a model for one sample, layer by layer and in all.

    The formula gives the operations for any dynamic sizes. For a folder written by swdc slim, the totals of the model
    before it was cut are shown as well, unless --size is given.

    $ swdc count torchvision.models:resnet18 --input 1x3x224x224
    $ swdc count slim --convention macs --size batch=8
    """
    sizes = parse_sizes(size or [])
    with output.step(f"loading and tracing {source.model}"):
        program = load_program(source)
    counted = count(program, convention.value, sizes=sizes)
    sums = totals_by_convention(program, sizes)
    document = {"model": source.model, **counted.to_dict(), "formula": str(counted.formula), "totals": sums}
    output.document({**document, "notes": list(program.facts.notes)})
    output.notes(program.facts.notes)
    _print(output, replace(counted, before=None) if sizes else counted, sums)


def parse_sizes(texts: Sequence[str]) -> dict[str, int]:
    """Return sizes by name from texts such as ``batch=4``; ``CommandError`` for others, and for a name given twice."""
    found: dict[str, int] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if not name or not number.isascii() or not number.isdigit() or name in found:
            raise CommandError(f"expected --size NAME=N with a whole number, each name once, got {text!r}")
        found[name] = int(number)
    return found


def totals_by_convention(program: Program, sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the operations of a program by each convention."""
    return {name: count(program, name, sizes=sizes).operations for name in CONVENTIONS}


def _print(output: Output, counted: Count, sums: dict[str, int]) -> None:
    rows: list[list[str | int]] = [
        [layer.name, layer.operator, layer.parameters, layer.operations] for layer in counted.layers
    ]
    columns = ["layer", "operator", "parameters", "operations"]
    output.table(f"Layers, by the convention {counted.convention}", columns, rows)
    output.line(f"operations by the convention {counted.convention}: {counted.formula}")
    _print_totals(output, counted, sums)


def _print_totals(output: Output, counted: Count, sums: dict[str, int]) -> None:
    now = {"parameters": counted.parameters, **{operations_title(name): sums[name] for name in sums}}
    rows: list[list[str | int]]
    title = f"In all, for {', '.join(f'{name} {size:,}' for name, size in counted.sizes.items()) or 'the example'}"
    if counted.before is None:
        rows = [[what, number] for what, number in now.items()]
        output.table(title, ["what", "number"], rows)
        return
    before = counted.before
    known = {"parameters": before["parameters"], operations_title("paper"): before["operations"]}
    known[operations_title("macs")] = before["macs"]
    rows = [[what, known.get(what, ""), number] for what, number in now.items()]
    output.table(title, ["what", "before", "now"], rows)
