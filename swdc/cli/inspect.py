"""``swdc inspect``: which channels of a model can be removed, which cannot, and why."""

from __future__ import annotations

from collections.abc import Iterable

from swdc.artifacts.folder.save import load_certificate
from swdc.cli.terminal.models import Source, is_folder, load_program
from swdc.cli.terminal.on_model import on_model
from swdc.cli.terminal.output import Output
from swdc.ir.explanation import Explanation, Held
from swdc.ir.groups import READS, WRITES, Frozen, Member


@on_model
def inspect(output: Output, source: Source) -> None:
    """Show which channels of a model can be removed together, and which are frozen and why.

    A group is a set of channels that can only be removed together: removing channel 3 of it cuts index 3 of every
    tensor listed. Frozen channels are listed with the operator and the line of your code that hold them, the change
    to the model that would free them (if there is one), and the parameters that they hold.
    For a folder written by swdc slim, the certificate is shown, too.

    $ swdc inspect torchvision.models:resnet18 --input 1x3x224x224
    $ swdc inspect my_file:make_model --arg width=32 --input 1x16 --json
    """
    with output.step(f"loading and tracing {source.model}"):
        program = load_program(source)
    with output.step("looking for channels that go together"):
        explanation = program.explanation
    certificate = load_certificate(source.model) if is_folder(source.model) else None
    proof = None if certificate is None else certificate.to_dict()
    output.document({"model": source.model, **explanation.to_dict(), "certificate": proof})
    output.notes(program.facts.notes)
    _print(output, explanation)
    if certificate is not None:
        output.line(str(certificate))


def _print(output: Output, found: Explanation) -> None:
    output.line(found.summary())
    output.line()
    rows: list[list[str | int]] = [
        [g.name, g.width, _slots(g.with_role(WRITES)), _slots(g.with_role(READS))] for g in found.groups
    ]
    output.table("Groups of channels that can be removed", ["group", "channels", "written by", "read by"], rows)
    columns = ["tensor[dim]", "channels", "parameters", "why", "operator", "source", "to free them"]
    output.table("Frozen channels, and the parameters that each reason holds", columns, map(_row, found.held))
    if not rows:
        output.line("No channel of this model can be removed.")


def _row(held: Held) -> list[str | int]:
    reason = held.reason
    why = [reason.text, reason.operator, reason.source, reason.edit]
    return [_slots(held.frozen), held.channels, held.parameters, *why]


def _slots(slots: Iterable[Member | Frozen]) -> str:
    return ", ".join(f"{slot.tensor}[{slot.dim}]" for slot in slots)
