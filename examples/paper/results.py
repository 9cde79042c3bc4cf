"""Writes RESULTS.md from the rows of the experiments, with the paper's values (paper.json) in brackets beside ours."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from common.markdown import beside, mean, pivot, table
from common.recipes import RECIPES
from common.rows import Row
from common.running import guarded
from common.tradeoff import LABELS, STRUCTURES

from examples.bench.running.row_files import read_rows

HERE = Path(__file__).parent
PAPER = json.loads((HERE / "paper.json").read_text())
IDENTITY = ("network", "dataset", "structure", "method", "target", "width", "a_min", "a_max")
FULL_WIDTH = {"resnet18": 64, "resnet20": 64, "resnet34": 64, "gcn": 16}
DENSE = "dense"


def paper(row: Row, *experiments: str) -> list[Row]:
    """Return the paper's rows of the same setting; bounds are compared only if the paper's row has them."""
    found = [p for p in PAPER if p["experiment"] in experiments]
    return [p for p in found if all(p[name] == row.get(name) for name in IDENTITY if name in p)][:1]


def ours_and_papers(*experiments: str, name: str = "accuracy") -> Callable[[Sequence[Row]], str]:
    """Return a function that writes a cell: our mean, and the paper's value of the same setting."""
    return lambda rows: beside(mean(rows, name), paper(rows[0], *experiments), name) if rows else ""


def targets(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the targets of rows, as titles of lines, each with the share of the parameters that is left."""
    return {f"{100 * t:g} %{_left(rows, t)}": {"target": t} for t in sorted({row["target"] for row in rows})}


def _left(rows: Sequence[Row], target: float) -> str:
    """Say which share of all parameters is left at a target, in the rows that tell; a range if they differ."""
    own = [row for row in rows if row["target"] == target and row.get("parameters_left")]
    shares = [f"{100 * row['parameters_left'] / row['parameters']:.3g}" for row in own]
    least, most = min(shares, key=float, default=""), max(shares, key=float, default="")
    return f" (left: {least if least == most else f'{least} to {most}'} %)" if shares else ""


def figure5(rows: Sequence[Row]) -> list[str]:
    """Return the table of Figure 5, for which the paper gives no numbers."""
    methods = {LABELS.get(m, m): {"method": m} for m in dict.fromkeys(r["method"] for r in rows) if m != DENSE}
    pruned = [row for row in rows if row["method"] != DENSE]
    return [_dense(rows), pivot(pruned, "target", targets(pruned), methods, mean)]


def tradeoff(rows: Sequence[Row]) -> list[str]:
    """Return the tables of Table 3, Table 9, Figures 2, 3, 4 and 6: accuracies, and the slim networks."""
    parts = []
    for width in sorted({row["width"] for row in rows}, reverse=True):
        for structure, title in STRUCTURES.items():
            own = [row for row in rows if (row["width"], row["structure"]) == (width, structure)]
            if own:
                parts += [f"### ResNet-20-{width}, {title.lower()}", _dense(own), _by_method(own)]
            slim = [row for row in own if "accuracy_slim" in row]
            if slim:
                thin = [row for row in own if row["method"] == "thin"]
                parts += ["The networks that are left:", _slim(slim, thin)]
    return parts


def _by_method(rows: Sequence[Row]) -> str:
    pruned = [row for row in rows if row["method"] != DENSE]
    columns: dict[str, Any] = {}
    for row in pruned:
        several = len({(r["a_min"], r["a_max"]) for r in pruned if r["method"] == row["method"]}) > 1
        bounds = f", a {row['a_min']:g} to {row['a_max']:g}" if several else ""
        columns[LABELS.get(row["method"], row["method"]) + bounds] = {n: row[n] for n in ("method", "a_min", "a_max")}
    return pivot(pruned, "target", targets(pruned), columns, ours_and_papers("tradeoff", "table9"))


def _slim(rows: Sequence[Row], thin: Sequence[Row]) -> str:
    """Return the table of slim networks, and of thin dense ones of the same size."""

    def line(row: Row) -> list[str]:
        operations = f"{100 * row['operations_left'] / row['operations']:.2f}"
        exact = f"{row['max_relative_error']:.0e}" if row["exact"] else "; ".join(row["certificate_notes"]) or "no"
        return [
            _named(row), f"{row['accuracy']:.2f}", f"{row['accuracy_slim']:.2f}", exact,
            f"{100 * row['parameters_left'] / row['parameters']:.2f}",
            beside(operations, paper(row, "tradeoff"), "operations"),
        ]  # fmt: skip

    head = ["", "masked, %", "slim, %", "certificate: error", "parameters left, %", "operations left, %"]
    dense = rows[0]
    lines = [
        [_named(row), "", mean([row]), "", *(f"{100 * row[n] / dense[n]:.2f}" for n in ("parameters", "operations"))]
        for row in thin
    ]
    return table(head, [*map(line, rows), *lines])


def _named(row: Row) -> str:
    return f"{LABELS.get(row['method'], row['method'])}, {100 * row['target']:g} %, seed {row['seed']}"


def grids(rows: Sequence[Row]) -> list[str]:
    """Return the tables of a grid of bounds: Tables 4 to 8."""
    parts = []
    for network, dataset, structure, target in dict.fromkeys(
        (row["network"], row["dataset"], row["structure"], row["target"]) for row in rows
    ):
        own = [row for row in rows if (row["network"], row["structure"], row["target"]) == (network, structure, target)]
        cells = [row for row in own if row["method"] == "swd" and row["dataset"] == dataset]
        down = {f"a_max {a:g}": {"a_max": a} for a in sorted({row["a_max"] for row in cells})}
        across = {f"a_min {a:g}": {"a_min": a} for a in sorted({row["a_min"] for row in cells}, reverse=True)}
        known = ("table4", "table5", "table6", "table7", "table8")
        parts.append(
            f"### {network} on {dataset}, {STRUCTURES[structure].lower()}, {100 * target:g} %{_left(own, target)}"
        )
        for name, title in (("accuracy", "Top-1 accuracy after removal"), ("change", "Change through removal")):
            parts += [f"{title}, %:", pivot(cells, "", down, across, ours_and_papers(*known, name=name))]
        parts += _auto(own, cells)
    return parts


def _auto(rows: Sequence[Row], cells: Sequence[Row]) -> list[str]:
    """Say how the bounds that SWD finds by itself compare with the best cell."""
    means: dict[tuple[float, float], list[float]] = {}
    for row in cells:
        if row["accuracy"] is not None:
            means.setdefault((row["a_min"], row["a_max"]), []).append(row["accuracy"])
    auto = [row for row in rows if row["method"] == "swd-auto"]
    if not auto or not means:
        return []
    (low, high), best = max(means.items(), key=lambda each: fmean(each[1]))
    return [f'Best cell: {fmean(best):.2f} (a_min {low:g}, a_max {high:g}). `a="auto"`: {mean(auto)}.']


def table2(rows: Sequence[Row]) -> list[str]:
    """Return the tables of Table 2."""
    parts = []
    for structure, title in STRUCTURES.items():
        own = [row for row in rows if row["structure"] == structure and row["method"] != DENSE]
        methods = {LABELS.get(m, m): {"method": m} for m in dict.fromkeys(row["method"] for row in own)}
        for name, kind in (("accuracy", "top-1"), ("top5", "top-5")) if own else ():
            cells = ours_and_papers("table2", name=name)
            parts += [f"{title}, {kind}, %:", pivot(own, "target", targets(own), methods, cells)]
    return parts


def table10(rows: Sequence[Row]) -> list[str]:
    """Return the table of Table 10."""
    lines = []
    for row in rows:
        kind = "none" if row["method"] == DENSE else STRUCTURES[row["structure"]]
        theirs = paper({**row, "width": None}, "table10")
        lines.append(
            [f"{row['network']}, {kind}", beside(f"{row['seconds_per_epoch']:.1f}", theirs, "seconds_per_epoch"),
             f"{row['increase']:+.1f}"]
        )  # fmt: skip
    return [table(["", "seconds per epoch", "increase, %"], lines)]


def _dense(rows: Sequence[Row]) -> str:
    dense = [row for row in rows if row["method"] == DENSE]
    return f"The dense network: {mean(dense)} %." if dense else ""


def conditions(rows: Sequence[Row]) -> list[str]:
    """Return the commands that made the rows, their settings, the time taken, and what is less than in the paper."""
    commands = "\n".join(dict.fromkeys(row["command"] for row in rows))
    datasets = dict.fromkeys(row["dataset"] for row in rows)
    own = {name: [row for row in rows if row["dataset"] == name] for name in datasets}
    told = [f"{name}: {_scale(found)}" if len(own) > 1 else _scale(found) for name, found in own.items()]
    return [f"```bash\n{commands}\n```", *told]


def _scale(rows: Sequence[Row]) -> str:
    """Return the settings that the rows of one data set were made with."""
    recipe = RECIPES[rows[0]["dataset"]]
    epochs, seeds = sorted({row["epochs"] for row in rows}), sorted({row["seed"] for row in rows})
    scaled = [f"{e} epochs instead of {recipe.epochs}" for e in epochs if e < recipe.epochs]
    scaled += [f"{n:,} training images" for n in sorted({row["subset"] for row in rows if row["subset"]})]
    full = FULL_WIDTH.get(rows[0]["network"])
    scaled += [f"width {w} (the paper also has {full})" for w in {r["width"] for r in rows} if full and w != full]
    scaled += [f"batches of {n} instead of {recipe.batch}" for n in {r["batch"] for r in rows} if n != recipe.batch]
    hours = sum(row.get("seconds", 0.0) for row in rows) / 3600
    made = ", ".join(sorted({f"torch {row['torch']}, {row['threads']} threads, {row['device']}" for row in rows}))
    return (
        f"Seeds: {', '.join(map(str, seeds))}. Epochs: {', '.join(map(str, epochs))}. "
        f"{'Scaled down: ' + '; '.join(scaled) if scaled else 'The settings of the paper'}. "
        f"Training took {hours:.1f} hours in all ({made}), beginnings that rows share counted in each.{_held(rows)}"
    )


def _held(rows: Sequence[Row]) -> str:
    """Say in which rows the pull was held below what the optimizer can bear. Older rows do not tell: all were held."""
    pulled = [row for row in rows if row["method"] in ("swd", "uniform_decay")]
    held = [row for row in pulled if row.get("held_for", "none" if RECIPES[row["dataset"]].adam else "SGD") != "none"]
    if not pulled:
        return ""
    if len(held) == len(pulled):
        return f" All {len(pulled)} rows of SWD by the gradient and of growing decay were held (`lr a mu` at most 1)."
    which = "; ".join(map(_named, held)) or "none"
    return (
        f" Of the {len(pulled)} rows of SWD by the gradient and of growing decay, these were held (`lr a mu` at most "
        f"1): {which}. The others follow the letter of the paper."
    )


SECTIONS: dict[str, tuple[str, Callable[[Sequence[Row]], list[str]]]] = {
    "table2": ("Table 2: ResNet-50 on ImageNet", table2),
    "tradeoff": ("Tables 3 and 9, Figures 2, 3, 4 and 6: ResNet-20 on CIFAR-10", tradeoff),
    "table4": ("Table 4: LeNet-5 on MNIST", grids),
    "grids": ("Grids of bounds: Tables 5 to 8, and a graph network", grids),
    "figure5": ("Figure 5: a graph network", figure5),
    "table10": ("Table 10: the cost of SWD", table10),
}
"""The file of rows of each section, its title, and the function that writes its tables."""


def document(folder: Path, notes: Path, out: Path) -> str:
    """Return the text: a section for every file of rows in ``folder``, with the remarks that ``notes`` has on it."""
    parts = [
        "# Results",
        "Top-1 accuracies in percent on test data at the end of training, means and deviations over the seeds; the "
        "paper's values in brackets. `python examples/paper/results.py` writes this file from the rows in "
        f"`{os.path.relpath(folder, out.parent)}`; what is said of disagreements is in `{notes.name}`.",
    ]
    said = _notes(notes)
    for name, (title, tables) in SECTIONS.items():
        rows = read_rows(folder / f"{name}.json")
        if not rows:
            continue
        parts += [f"## {title}", *conditions(rows), *tables(rows)]
        pictures = sorted(p for p in folder.glob("*.png") if p.stem.split("-")[0] in PICTURES[name])
        parts += [f"![{p.stem}]({os.path.relpath(p, out.parent)})" for p in pictures]
        parts += [said[name]] if name in said else []
    return "\n\n".join(part for part in parts if part) + "\n"


PICTURES = {
    "table2": (), "tradeoff": ("table3", "table9", "figure2", "figure3", "figure4", "figure6"), "table4": ("table4",),
    "grids": ("table5", "table6", "table7", "table8", "grid"), "figure5": ("figure5",), "table10": (),
}  # fmt: skip


def _notes(path: Path) -> dict[str, str]:
    """Return the notes by section; each begins with a line ``## file of rows``."""
    if not path.exists():
        return {}
    sections = path.read_text(encoding="utf-8").split("\n## ")[1:]
    return {name.strip(): text.strip() for name, _, text in (section.partition("\n") for section in sections)}


def main() -> None:
    """Write the file."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--rows", type=Path, default=HERE / "results", metavar="DIR", help="the --out of the scripts")
    made.add_argument("--notes", type=Path, default=HERE / "notes.md", metavar="FILE", help="what is said beside them")
    made.add_argument("--out", type=Path, default=HERE / "RESULTS.md", metavar="FILE", help="the file to write")
    found = made.parse_args()
    if not any((found.rows / f"{name}.json").exists() for name in SECTIONS):
        raise FileNotFoundError(f"expected rows of the experiments, found none in {found.rows}; run them with --out")
    partial = found.out.with_name(found.out.name + ".partial")
    partial.write_text(document(found.rows, found.notes, found.out), encoding="utf-8")
    os.replace(partial, found.out)


if __name__ == "__main__":
    guarded(main)
