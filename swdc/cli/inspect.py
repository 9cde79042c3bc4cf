"""``swdc inspect``: what of a model can be removed, and what cannot, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import typer

from swdc.artifact import load_certificate
from swdc.cli.help import help_of
from swdc.cli.models import Source, is_folder, load_program
from swdc.cli.options import (
    ArgumentOption,
    InputOption,
    JsonOption,
    ModelArgument,
    SeedOption,
    TracebackOption,
    WeightsOption,
)
from swdc.cli.output import Output, reported
from swdc.groups import READS, WRITES, ChannelGroup, Frozen, Reason
from swdc.program import Program
from swdc.sparsity.budgets import Budget


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inspect", help=help_of(inspect))(inspect)


def inspect(
    model: ModelArgument,
    inputs: InputOption = None,
    arguments: ArgumentOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    show_traceback: TracebackOption = False,
) -> None:
    """Show which channels of a model can be removed together, and which are frozen and why.

    A group is a set of channels that stand or fall together: removing channel 3 of it cuts index 3 of every
    tensor listed. Frozen channels come with the operator and the line of your code that holds them.
    For a folder written by swdc slim the certificate is shown, too.

    $ swdc inspect torchvision.models:resnet18 --input 1x3x224x224
    $ swdc inspect my_file:make_model --arg width=32 --input 1x16 --json
    """
    with reported(as_json, show_traceback) as output:
        with output.step(f"loading and tracing {model}"):
            program = load_program(Source(model, inputs or (), arguments or (), weights, seed))
        with output.step("looking for channels that go together"):
            found = findings(program)
        certificate = load_certificate(model) if is_folder(model) else None
        found["certificate"] = None if certificate is None else certificate.to_dict()
        output.document({"model": model, **found})
        output.notes(program.facts.notes)
        _print(output, found)
        if certificate is not None:
            output.line(str(certificate))


def findings(program: Program) -> dict[str, Any]:
    """Return groups, frozen channels, notes, and the most that can be removed, as plain data."""
    costs = Budget(program, "parameters")
    least = costs.cost(np.ones(len(program.groups), dtype=np.int64))
    removable = costs.full - least
    return {
        "parameters": costs.full,
        "removable_parameters": removable,
        "removable_share": removable / max(costs.full, 1),
        "groups": [_group(group) for group in program.groups],
        "frozen": [_frozen(frozen) for frozen in program.frozen],
        "notes": list(program.facts.notes),
    }


def _group(group: ChannelGroup) -> dict[str, Any]:
    slots = {role: [{"tensor": m.tensor, "dim": m.dim} for m in group.with_role(role)] for role in (WRITES, READS)}
    return {"name": group.name, "width": group.width, **slots}


def _frozen(frozen: Frozen) -> dict[str, Any]:
    reason: Reason = frozen.reason
    return {
        "tensor": frozen.tensor, "dim": frozen.dim, "channels": len(frozen.indices), "reason": reason.text,
        "operator": reason.operator, "node": reason.node, "source": reason.source,
    }  # fmt: skip


def _print(output: Output, found: dict[str, Any]) -> None:
    rows = [[g["name"], g["width"], _slots(g[WRITES]), _slots(g[READS])] for g in found["groups"]]
    output.table("Groups of channels that can be removed", ["group", "channels", "written by", "read by"], rows)
    output.table("Frozen channels", ["tensor[dim]", "channels", "why", "operator", "source"], _by_reason(found))
    if not rows:
        output.line("No channel of this model can be removed.")
    output.line(
        f"{found['removable_parameters']:,} of {found['parameters']:,} parameters "
        f"({found['removable_share']:.2%}) can go at most, when every group keeps one channel."
    )


def _slots(slots: list[dict[str, Any]]) -> str:
    return ", ".join(f"{slot['tensor']}[{slot['dim']}]" for slot in slots)


def _by_reason(found: dict[str, Any]) -> list[list[str | int]]:
    """Return one row for each reason, with the dimensions that it holds."""
    held: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for entry in found["frozen"]:
        held.setdefault((entry["reason"], entry["operator"], entry["source"]), []).append(entry)
    return [
        [_slots(entries), sum(e["channels"] for e in entries), reason, operator, source]
        for (reason, operator, source), entries in held.items()
    ]
