"""``swdc.report``: one page, in one file, that shows what slimming did."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swdc.artifacts.onnx.export import OnnxReport
from swdc.artifacts.report.compression_document import check_compression
from swdc.artifacts.report.flow import widths_along_the_graph
from swdc.artifacts.report.page import page_of
from swdc.artifacts.report.slimming import Slimming
from swdc.artifacts.report.sweep_document import check_sweep
from swdc.costs.count import totals
from swdc.errors import ExportError
from swdc.ir.argument_types import check_type, checked
from swdc.ir.atomic_files import need_plain_file, why, write_whole, writing
from swdc.ir.plain_data import plain
from swdc.ir.program import Program
from swdc.rewriting.certificate import Certificate, check_certificate

SUFFIXES = (".html", ".htm")


@checked(ExportError, on_cpu=True)
def report(
    path: str | os.PathLike[str],
    program: Program | None = None,
    slim: Program | None = None,
    certificate: Certificate | None = None,
    deployed: Program | None = None,
    onnx: OnnxReport | None = None,
    measured: Mapping[str, Sequence[float]] | None = None,
    sweep: Mapping[str, Any] | None = None,
    compression: Mapping[str, Any] | None = None,
    title: str | None = None,
) -> Path:
    """Write one HTML file that shows what slimming did, and return its path.

    The page loads nothing from anywhere. It shows the widths before and after along the graph, the costs of each layer,
    the groups, what is frozen and why, with the lines of the model's code, and how the plan was made. It shows what is
    given besides, too:

    - ``program`` and ``slim``: the program before, and what ``swdc.slim`` (or ``swdc.load``) returned.
    - ``certificate``: what ``swdc.verify`` returned for ``slim``; without it, the page says that nothing was verified.
    - ``deployed``: what ``swdc.deploy`` returned for ``slim``. ``onnx``: what ``swdc.export_onnx`` returned.
    - ``measured``: numbers before and after by what they are, such as ``{"accuracy": (0.98, 0.97)}``.
    - ``sweep``: the document that ``swdc sweep --json`` prints; the page draws its trade-off. It may be given alone.
    - ``compression``: what ``swdc.compress(...).to_dict()`` returns and ``swdc compress --json`` prints; the page draws
      the trials and names the chosen one. It may be given alone.

    The numbers are those of ``swdc slim --json`` and ``swdc inspect --json``. They stand in the page as JSON, in the
    script element ``swdc-data``. Texts of yours (names of layers, lines of code) are escaped.

    For a slim program and its certificate::

        swdc.report("report.html", program, slim, certificate)

    Raises ``ExportError`` if the path does not end in ``.html`` or ``.htm``, if ``slim`` was not cut from ``program``,
    if the certificate is for other weights, or if there is nothing to show. Then nothing is written, and a file that
    was there stays as it was. So it does if the process is killed. Links, devices and folders are not replaced. The
    programs are not changed.
    """
    target = Path(path)
    check_report_place(target)
    data: dict[str, Any] = {"title": title or _title(slim, sweep)}
    beside = {"certificate": certificate, "deployed": deployed, "onnx": onnx, "measured": measured}
    if program is not None and slim is not None:
        check_certificate(slim, certificate, ExportError)
        data |= _slimmed(program, slim, certificate)
    elif program is not None or slim is not None or any(given is not None for given in beside.values()):
        raise ExportError(
            "expected the program before and the slim one, got one of them or none; give program and slim"
        )
    elif sweep is None and compression is None:
        raise ExportError(
            "expected something to show, got neither programs nor a sweep nor a compression; give program and slim"
        )
    if deployed is not None:
        data["deployment"] = _deployment(program, slim, deployed)
    if onnx is not None:
        data["onnx"] = onnx.to_dict()
    if measured is not None:
        data["measured"] = {name: _before_and_after(name, values) for name, values in measured.items()}
    if sweep is not None:
        check_sweep(sweep)
        data["sweep"] = sweep
    if compression is not None:
        check_compression(compression)
        data["compression"] = compression
    text = page_of(plain(data))
    with writing(target, ExportError):
        write_whole(target, text)
    return target


def _title(slim: Program | None, sweep: Mapping[str, Any] | None) -> str:
    if slim is not None:
        return "Slim program"
    return "Sweep" if sweep is not None else "Compression"


def check_report_place(target: Path) -> None:
    """Raise ``ExportError`` if a page would take the place of a folder, a link or a device, or has another suffix."""
    if target.suffix.lower() not in SUFFIXES:
        raise ExportError(f"expected a path that ends in .html, got {target}; a browser opens pages by that name")
    try:
        need_plain_file(target)
    except (OSError, ValueError) as error:
        reason = why(error) if isinstance(error, OSError) else str(error)
        raise ExportError(f"expected the path of a file to write, but {reason}; give another path") from error


def _slimmed(program: Program, slim: Program, certificate: Certificate | None) -> dict[str, Any]:
    """Return what ``swdc slim`` and ``swdc inspect`` say of the programs, and their widths along the graph."""
    origin = slim.facts.origin
    if origin is None or origin.dense is not None:
        raise ExportError("expected slim as what swdc.slim returned, got a program that was not cut; give the slim one")
    dense = program.under(origin.plan.policy)
    if dense.hash() != origin.plan.program_hash:
        raise ExportError(
            "expected the program that slim was cut from, got another; give the one that the plan was made for"
        )
    document = Slimming(dense, slim, origin.plan, certificate).to_dict()
    widths = widths_along_the_graph(dense, document["layers"])
    return {"slim": document, "inspect": dense.explanation.to_dict(), "widths": widths}


def _deployment(program: Program | None, slim: Program | None, deployed: Program) -> dict[str, Any]:
    origins = [None if one is None else one.facts.origin for one in (slim, deployed)]
    if origins[1] is None or origins[0] is None or origins[0].plan != origins[1].plan:
        raise ExportError("expected what swdc.deploy returned for slim, got another program; deploy the slim one")
    stages = {"before": program, "slim": slim, "deployed": deployed}
    return {
        "stages": [{"name": name, **_costs(one)} for name, one in stages.items() if one is not None],
        "notes": list(deployed.facts.notes),
    }


def _costs(program: Program) -> dict[str, int]:
    """Return the number of calls in the graph of a program, and its totals."""
    calls = sum(node.op in ("call_function", "call_module") for node in program.graph.nodes)
    return {"nodes": calls, **totals(program)}


def _before_and_after(name: str, values: Sequence[float]) -> dict[str, float]:
    check_type(ExportError, f"measured[{name!r}]", values, Sequence[float])
    if len(values) != 2:
        raise ExportError(f"expected two numbers for {name!r}, before and after, got {len(values)}; give a pair")
    before, after = values
    return {"before": before, "after": after}
