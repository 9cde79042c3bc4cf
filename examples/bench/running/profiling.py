"""Which operators of ONNX files the time goes to, by the profiler of onnxruntime."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from swdc.artifacts.onnx.runtime import feed, open_session, run_session

RUNS = 10
TOP = 6


def compared(dense: Path, slim: Path, inputs: Any, threads: int = 1) -> list[dict[str, Any]]:
    """Return for the operators that take most of the slim file's time their milliseconds and shares in both.

    Operators are those that onnxruntime runs, its fusions included. Nodes are of the median of several runs.
    """
    before, after = (operators_ms(path, inputs, threads) for path in (dense, slim))
    totals = sum(before.values()), sum(after.values())
    return [
        {
            "operator": name, "dense_ms": before.get(name, 0.0), "slim_ms": after[name],
            "dense_share": before.get(name, 0.0) / totals[0], "slim_share": after[name] / totals[1],
        }
        for name in sorted(after, key=lambda name: -after[name])[:TOP]
    ]  # fmt: skip


def operators_ms(path: Path, inputs: Any, threads: int = 1, runs: int = RUNS) -> dict[str, float]:
    """Return the milliseconds of a run that nodes of each type of operator take. Writes beside the file.

    Convolutions are told apart by their kernels, and depthwise ones from the others: their costs differ.
    """
    session = open_session(path, threads, profile=path.with_suffix(".profile"))
    arrays = feed(session, inputs)
    for _ in range(runs):
        run_session(session, arrays)
    written = Path(session.end_profiling())
    events = json.loads(written.read_text())
    written.unlink()
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times.setdefault((_operator(event["args"]), event["name"]), []).append(event["dur"] / 1000)
    found: dict[str, float] = {}
    for (operator, _), each in times.items():
        found[operator] = found.get(operator, 0.0) + median(each)
    return found


def _operator(facts: Mapping[str, Any]) -> str:
    """Return the type of a node by what the profile says of it: ``Gemm``, ``Conv 1x1``, ``Conv 3x3 depthwise``."""
    name = str(facts["op_name"])
    if "Conv" not in name or len(facts.get("input_type_shape", ())) < 2:
        return name
    _, inputs, *kernel = next(iter(facts["input_type_shape"][1].values()))
    return f"{name} {'x'.join(map(str, kernel))}{' depthwise' if inputs == 1 else ''}"
