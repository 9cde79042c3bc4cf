"""``swdc slim``: cut channels out of a model, prove that the result computes the same, and save it."""

from __future__ import annotations

from functools import partial
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any

import typer

from swdc.artifacts.folder.save import save
from swdc.artifacts.onnx.export import OnnxReport, export_onnx
from swdc.artifacts.report.report import report as write_page
from swdc.artifacts.report.slimming import NOT_RUN, Slimming
from swdc.artifacts.storage.checkpoint_reader import Checkpoint, is_sharded
from swdc.artifacts.streaming.slim_checkpoint import slim_checkpoint
from swdc.cli.slim.latency import latency_report, latency_rows, measured_pairs
from swdc.cli.slim.multiples import multiples_hint
from swdc.cli.slim.pretrained import is_pretrained, slim_pretrained
from swdc.cli.terminal.models import Source, find_callable, load_program, load_skeleton
from swdc.cli.terminal.on_model import on_model
from swdc.cli.terminal.options import BudgetName, PolicyName, ScopeName
from swdc.cli.terminal.output import NOT_AS_ASKED, Output, check_beside, check_file, check_folder, operations_title
from swdc.cli.terminal.page import ReportOption, check_page
from swdc.costs.latency import MeasuredTable
from swdc.errors import CommandError
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ir.progress import progress_bar
from swdc.ir.trace_options import TIED
from swdc.ops import lookup
from swdc.rewriting.rewrites import insert_batchnorm, mask
from swdc.rewriting.rewrites import slim as cut
from swdc.rewriting.verify import verify
from swdc.sparsity.planning.criteria import CRITERIA, WITHOUT_DATA, Criterion
from swdc.sparsity.planning.latency import LATENCY
from swdc.sparsity.planning.plan import plan

PLAN_PANEL = "What is removed"
"""Where ``--help`` lists the options that make the plan."""
_plan_option = partial(typer.Option, rich_help_panel=PLAN_PANEL)
_FIRST_LINES = {name: cleandoc(CRITERIA[name].__doc__ or name).splitlines()[0] for name in WITHOUT_DATA}

OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to save the slim program in.")]
SparsityOption = Annotated[float, _plan_option("--sparsity", help="Share to remove, at least 0 and below 1.")]
_BUDGET = "What --sparsity is a share of; latency is the time in onnxruntime on this machine, on one thread."
BudgetOption = Annotated[BudgetName, _plan_option("--budget", help=_BUDGET)]
_CRITERION = "How channels are scored; the least are removed first. "
_CRITERION += " ".join(f"{name}: {line}" for name, line in _FIRST_LINES.items())
_CRITERION += " Or module:function of your own, which takes a program and its groups."
_CRITERIA = f"[{'|'.join((*WITHOUT_DATA, 'module:function'))}]"


def _known(name: str) -> str:
    if name in WITHOUT_DATA or ":" in name:
        return name
    raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, WITHOUT_DATA))}. It may be module:function")


CriterionOption = Annotated[str, _plan_option("--criterion", metavar=_CRITERIA, callback=_known, help=_CRITERION)]
_SCOPE = "Compare all channels (global), or remove the same share of every group."
ScopeOption = Annotated[ScopeName, _plan_option("--scope", help=_SCOPE)]
_ROUND = "Keep multiples of N channels; the budget is still met, from below."
RoundOption = Annotated[int, _plan_option("--round-to", metavar="N", help=_ROUND)]
_MOST = "The largest share of its channels that a group may lose."
AtMostOption = Annotated[float, _plan_option("--at-most", metavar="SHARE", help=_MOST)]
_EVEN = "Give groups that play the same part in repeated blocks the same width."
EvenOption = Annotated[bool, _plan_option("--even", help=_EVEN)]
_POLICY = (
    "Let both sides of a residual sum keep the same channels (tied), or each its own if a batch norm follows the sum "
    "(free)."
)
PolicyOption = Annotated[PolicyName, _plan_option("--policy", help=_POLICY)]
_IGNORE = "Module or tensor that keeps all its output channels, such as layer4 or 'layer4.*'; repeatable."
IgnoreOption = Annotated[
    list[str] | None, _plan_option("--ignore", metavar="PATTERN", show_default=False, help=_IGNORE)
]
_INSERT = "Put a batch norm after every residual sum before planning."
InsertOption = Annotated[bool, _plan_option("--insert-batchnorm", help=_INSERT)]
OnnxOption = Annotated[
    Path | None,
    typer.Option("--onnx", metavar="FILE", show_default=False, help="Also write an ONNX file, checked in onnxruntime."),
]

StreamOption = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Read, cut and write --weights tensor by tensor, for models larger than the memory; nothing is run, so "
        "there is no certificate. A folder of weights is always streamed.",
    ),
]


@on_model
def slim(
    output: Output,
    source: Source,
    out: OutOption,
    sparsity: SparsityOption = 0.5,
    budget: BudgetOption = BudgetName["channels"],
    criterion: CriterionOption = "l2",
    scope: ScopeOption = ScopeName["global"],
    round_to: RoundOption = 1,
    at_most: AtMostOption = 1.0,
    even: EvenOption = False,
    ignore: IgnoreOption = None,
    policy: PolicyOption = PolicyName[TIED],
    insert: InsertOption = False,
    onnx: OnnxOption = None,
    stream: StreamOption = False,
    page: ReportOption = None,
) -> None:
    """Remove channels from a model, prove the result equal to the masked model, and save it.

    The folder holds weights, graph, plan and certificate, and runs without your code: swdc.load("DIR").
    If the proof fails nothing is written, and the exit code is 1.

    Weights that are a folder of .safetensors files are read, cut and written tensor by tensor, so that the model
    need not fit into memory. The folder is then also a checkpoint of the same names, and nothing is run.

    With --budget latency the layers are first measured in onnxruntime, once per machine, which takes one or two
    minutes for a large network.

    $ swdc slim torchvision.models:resnet18 --input 1x3x224x224 --out slim \\
        --report slim.html
    $ swdc slim my_file:make_model --weights best.pt --input 1x16 --out slim
    $ swdc slim swdc.networks:resnet20 --input 1x3x32x32 --out slim \\
        --sparsity 0.9 --budget parameters --onnx slim.onnx
    $ swdc slim torchvision.models:resnet50 --input 1x3x224x224 --out slim \\
        --budget latency --round-to 8
    $ swdc slim my_file:make_model --weights checkpoint/ --input 1x16:int64 --out slim

    hf:FOLDER is a model of transformers (config.json and safetensors). The folder that comes out is one, too, which
    from_pretrained loads without swdc; groups that play the same part get the same width.

    $ swdc slim hf:llama/ --sparsity 0.25 --round-to 8 --out slim-llama
    """
    check_folder(out, "--out")
    check_file(onnx, "--onnx")
    check_page(page)
    check_beside(out, onnx, "--onnx")
    check_beside(out, page, "--report")
    settings = {
        "sparsity": sparsity, "budget": budget.value, "criterion": _criterion(criterion), "scope": scope.value,
        "round_to": round_to, "at_most": at_most, "even": even, "ignore": tuple(ignore or ()), "policy": policy.value,
        "seed": source.seed,
    }  # fmt: skip
    if is_pretrained(source.model):
        _check_pretrained(insert, onnx, stream)
        _finish(output, source, slim_pretrained(output, source, settings, out), {"out": str(out)}, budget, page)
        return
    streaming = stream or (source.weights is not None and is_sharded(source.weights))
    if streaming:
        _check_streamable(insert, onnx)
        done = _streamed(output, source, settings, out)
    else:
        done = _slimmed(output, source, insert, settings)
    written: dict[str, Any] = {"out": str(out) if streaming else None}
    if done.exact:
        written = _written(output, done, out, onnx)
    _finish(output, source, done, written, budget, page)


def _finish(
    output: Output, source: Source, done: Slimming, written: dict[str, Any], budget: str, page: Path | None
) -> None:
    """Report what was done; exit code 1 if it was not proven."""
    out, onnx = written["out"] if done.exact is not False else None, written.get("onnx")
    told = {"out": out, "onnx": None if onnx is None else onnx.to_dict(), "report": None if page is None else str(page)}
    report = {"model": source.model, **done.to_dict(), "latency": None, **told}
    if budget == LATENCY:
        with output.step("exporting both programs and timing them in onnxruntime"):
            report["latency"] = latency_report(done)
    if page is not None:
        with output.step(f"writing {page}"):
            _write_page(page, source, done, onnx, report["latency"])
    output.document(report)
    output.notes(done.dense.facts.notes)
    _print(output, done, report)
    if done.exact is False:
        kept = "nothing" if page is None else "nothing but the report"
        output.error(f"expected an exact certificate, but {report['reason']}; {kept} was written")
        raise typer.Exit(NOT_AS_ASKED)


def _write_page(
    page: Path, source: Source, done: Slimming, onnx: OnnxReport | None, latency: dict[str, Any] | None
) -> None:
    measured = None if latency is None else measured_pairs(latency)
    write_page(page, done.dense, done.slim, done.certificate, onnx=onnx, measured=measured, title=source.model)


def _criterion(name: str) -> str | Criterion:
    """Return a criterion by its name, or the function that ``module:function`` names."""
    return find_callable(name) if ":" in name else name


def _slimmed(output: Output, source: Source, insert: bool, settings: dict[str, Any]) -> Slimming:
    with output.step(f"loading and tracing {source.model}"):
        dense = load_program(source)
        if insert:
            dense = insert_batchnorm(dense)
    chosen = _planned(output, dense, settings)
    with output.step("cutting"):
        masked, slimmed = mask(dense, chosen), cut(dense, chosen)
    with output.step("comparing the slim program with the masked one"):
        certificate = verify(masked, slimmed, seed=source.seed)
    return Slimming(dense, slimmed, chosen, certificate)


def _planned(output: Output, dense: Program, settings: dict[str, Any], weights: Checkpoint | None = None) -> Plan:
    with progress_bar(hidden=output.json_only) as bar:
        bar.show("planning")
        return plan(dense, weights=weights, table=MeasuredTable(announce=bar.show), **settings)


def _check_pretrained(insert: bool, onnx: Path | None, stream: bool) -> None:
    given = {"--insert-batchnorm": insert, "--onnx": onnx is not None, "--stream": stream}
    extra = [name for name, value in given.items() if value]
    if extra:
        raise CommandError(f"expected no {' or '.join(extra)} with a model of transformers; leave it out")


def _check_streamable(insert: bool, onnx: Path | None) -> None:
    given = {"--insert-batchnorm": insert, "--onnx": onnx is not None}
    extra = [name for name, value in given.items() if value]
    if extra:
        raise CommandError(
            f"expected no {' or '.join(extra)} with weights that are streamed, because the model is never whole in "
            f"memory; leave it out, or give the weights as one file without --stream"
        )


def _streamed(output: Output, source: Source, settings: dict[str, Any], out: Path) -> Slimming:
    with output.step(f"tracing {source.model} without its weights"):
        dense, checkpoint = load_skeleton(source)
    chosen = _planned(output, dense, settings, checkpoint)
    with progress_bar(hidden=output.json_only) as bar:
        slimmed = slim_checkpoint(dense, chosen, checkpoint, out, announce=bar.show)
    return Slimming(dense, slimmed, chosen, None)


def _written(output: Output, done: Slimming, out: Path, onnx: Path | None) -> dict[str, Any]:
    """Write the folder and the ONNX file, and return their path and the report of the export."""
    with output.step(f"saving {out}"):
        save(done.slim, out, certificate=done.certificate)
    if onnx is None:
        return {"out": str(out)}
    with output.step(f"exporting {onnx} and running it in onnxruntime"):
        exported = export_onnx(done.slim, onnx)
    return {"out": str(out), "onnx": exported}


def _print(output: Output, done: Slimming, report: dict[str, Any]) -> None:
    _print_layers(output, report)
    _print_totals(output, report)
    if (hint := multiples_hint(report["layers"], report["settings"]["round_to"])) is not None:
        output.line(hint)
    if report["latency"] is not None:
        title, rows = latency_rows(report["latency"])
        output.table(title, ["milliseconds", "before", "after", "saved"], rows)
    output.line(f"not verified: {NOT_RUN}" if done.certificate is None else str(done.certificate))
    if report["out"] is not None:
        how = "from_pretrained" if is_pretrained(report["model"]) else "swdc.load"
        output.line(f"saved in {report['out']}; {how}({report['out']!r}) gives it back")
    if report["report"] is not None:
        output.line(f"wrote {report['report']}; a browser shows it")
    if report["onnx"] is not None:
        error = report["onnx"]["max_relative_error"]
        output.line(f"wrote {report['onnx']['path']}; onnxruntime runs it, relative error {error:.1e}")


def _print_layers(output: Output, report: dict[str, Any]) -> None:
    rows = []
    for layer in report["layers"]:
        width, parameters = layer["width"], layer["parameters"]
        if width["before"] is not None and not lookup(layer["operator"]).is_norm:
            rows.append([layer["name"], *width.values(), *parameters.values()])
    columns = ["layer", "width before", "after", "parameters before", "after"]
    output.table("Channels that each layer writes", columns, rows)


def _print_totals(output: Output, report: dict[str, Any]) -> None:
    numbers = {"parameters": report["parameters"]}
    numbers |= {operations_title(name): pair for name, pair in report["conventions"].items()}
    rows = [
        [what, pair["before"], pair["after"], f"{1 - pair['after'] / max(pair['before'], 1):.1%}"]
        for what, pair in numbers.items()
    ]
    output.table("In all, for one sample", ["what", "before", "after", "removed"], rows)
