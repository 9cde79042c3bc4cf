"""The rows of the zoo as Markdown: for each library a summary beside the peer, every network, and where time goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from examples.bench.peer.pace import OURS, PEERS, total
from examples.bench.peer.peer import PASS
from examples.bench.running.row_files import Row, summary

SLOWEST = 10


def tables(rows: Iterable[Row]) -> str:
    """Return the tables of all libraries that there are rows of, in the order of the rows."""
    by_library: dict[str, list[Row]] = {}
    for row in rows:
        by_library.setdefault(row["library"], []).append(row)
    parts = [_library(library, found) for library, found in by_library.items()]
    return "\n".join([_all_libraries(by_library), *parts] if len(by_library) > 1 else parts)


def _all_libraries(by_library: Mapping[str, list[Row]]) -> str:
    """Return how long both take, on the networks that both slim, library by library and together."""
    cells = []
    every = [row for rows in by_library.values() for row in rows]
    for name, rows in [*by_library.items(), ("all", every)]:
        both = _both(rows)
        ours, theirs = map(sum, _times(both))
        ratios = [f"{ours / theirs:.2f}", f"{median(_ratios(both)):.2f}"] if both else ["", ""]
        cells.append([name, str(len(rows)), str(len(both)), f"{ours:.1f}", f"{theirs:.1f}", *ratios])
    titles = ["", "networks", "that both slim", "swdc", "Torch-Pruning", "ratio of the sums", "median of the ratios"]
    return f"## Seconds from the module to the slim network\n\n{markdown(titles, cells)}\n"


def _both(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if _passes(row) and _peer(row).get("passes")]


def _library(library: str, rows: list[Row]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in rows[0]["versions"].items())
    parts = [f"## {library}", f"{len(rows)} networks; {versions}; seed {rows[0]['seed']}.", _summary(rows)]
    parts += [_unmet(rows), _networks(rows), f"Slowest of {library}, in seconds:", _slowest(rows)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _summary(rows: list[Row]) -> str:
    both = _both(rows)
    cells = [
        [
            f"runs with at least {PASS:.0%} fewer parameters", _count(rows, _passes),
            _count(rows, lambda row: _peer(row)["passes"]),
        ],
        [
            "computes what the masked network computes (1e-9 in float64)", _count(rows, lambda row: row["exact"]),
            _count(rows, lambda row: _peer(row)["passes"] and _peer(row)["exact"]),
        ],
        ["onnxruntime agrees (1e-3 in float32)", _count(rows, lambda row: row["onnx"] == "ok"), ""],
        ["the dense network cannot be exported either", _count(rows, _dense_impossible), ""],
        ["transplanted into the user's class", _count(rows, lambda row: row["transplant"] == "ok"), ""],
        ["median share of the parameters gone", *_medians(rows)],
        [
            f"seconds to the slim network, on the {len(both)} that both slim: sum",
            *(f"{sum(s):.1f}" for s in _times(both)),
        ],
        ["median of the ratios", f"{median(_ratios(both)):.2f}" if both else "", ""],
    ]  # fmt: skip
    return markdown(["", "swdc", "Torch-Pruning"], cells)


def _count(rows: list[Row], holds: Any) -> str:
    try:
        return str(sum(bool(holds(row)) for row in rows))
    except KeyError:  # the peer was not measured
        return ""


def _medians(rows: list[Row]) -> list[str]:
    ours = [row["reduction"] for row in rows if row["exact"]]
    theirs = [_peer(row)["reduction"] for row in rows if _peer(row).get("passes")]
    return [f"{median(shares):.0%}" if shares else "" for shares in (ours, theirs)]


def _times(rows: list[Row]) -> tuple[list[float], list[float]]:
    return [seconds(row) for row in rows], [_peer_seconds(row) for row in rows]


def _ratios(rows: list[Row]) -> list[float]:
    return [ours / theirs for ours, theirs in zip(*_times(rows), strict=True)]


def _unmet(rows: list[Row]) -> str:
    found = {kind: number for kind, number in summary(rows).items() if kind}
    return "Not met: " + ", ".join(f"{kind} {number}" for kind, number in found.items()) + "." if found else ""


def _networks(rows: list[Row]) -> str:
    titles = [
        "network", "captured by", "prunable", "parameters", "operations", "error", "ONNX", "transplant", "seconds",
        "peer: parameters", "error", "seconds", "not met",
    ]  # fmt: skip
    return markdown(titles, [_network(row) for row in rows])


def _network(row: Row) -> list[str]:
    peer = _peer(row)
    theirs = ["", "", ""] if not peer else [_share(peer["reduction"]), _error(peer), f"{_peer_seconds(row):.1f}"]
    if peer and not peer["passes"]:
        theirs = [peer["kind"] or "no", "", ""]
    return [
        f"`{row['name']}`", row["captured_by"] or "", _share(row["prunable_share"], ""), _share(row["reduction"]),
        _share(_operations(row)), _error(row), _onnx(row), _transplant(row), f"{seconds(row):.1f}", *theirs,
        _short(row["reason"]),
    ]  # fmt: skip


def _slowest(rows: list[Row]) -> str:
    cells = []
    for row in sorted(rows, key=seconds, reverse=True)[:SLOWEST]:
        phases = [f"{_our_seconds(row).get(phase, 0):.1f}" for phase in OURS]
        cells.append([f"`{row['name']}`", *phases, f"{seconds(row):.1f}"])
    return markdown(["network", *OURS, "capture to slim"], cells)


def seconds(row: Mapping[str, Any]) -> float:
    """Return the seconds from the module to the slim program: medians of paired runs where there are any."""
    return total({phase: _our_seconds(row).get(phase, 0.0) for phase in OURS})


def _our_seconds(row: Mapping[str, Any]) -> Mapping[str, float]:
    paired = _peer(row).get("paired")
    found: Mapping[str, float] = paired["ours"] if paired else row["seconds"]
    return found


def _peer_seconds(row: Mapping[str, Any]) -> float:
    found = (_peer(row).get("paired") or {}).get("peer") or _peer(row)["seconds"]
    return total({phase: found.get(phase, 0.0) for phase in PEERS})


def _peer(row: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = row.get("peer") or {}
    return found


def _passes(row: Row) -> bool:
    return bool(row["exact"]) and (row["reduction"] or 0.0) >= PASS


def _dense_impossible(row: Row) -> bool:
    return bool((row["onnx"] or "").startswith("dense"))


def _operations(row: Row) -> float | None:
    before, after = row["operations_before"], row["operations_after"]
    return 1 - after / before if before else None


def _share(share: float | None, sign: str = "-") -> str:
    return "" if share is None else f"{sign}{share:.0%}"


def _error(row: Mapping[str, Any]) -> str:
    error = row["max_relative_error"]
    return "" if error is None else f"{error:.0e}" if row["exact"] else f"**{error:.0e}**"


def _onnx(row: Row) -> str:
    if row["onnx"] == "ok":
        return f"{row['onnx_max_relative_error']:.0e}"
    return "dense fails" if _dense_impossible(row) else (row["onnx"] or "").partition(":")[0]


def _transplant(row: Row) -> str:
    return (row["transplant"] or "").partition(":")[0]


def _short(reason: str, length: int = 120) -> str:
    return reason if len(reason) <= length else reason[: length - 1] + "…"


def markdown(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [list(titles), ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
