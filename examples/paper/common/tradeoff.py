"""ResNet-20 on CIFAR-10 over the targets of Table 3: what Table 3 and Figures 2, 3 and 6 are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from common.options import Options, options_of, parser
from common.pictures import curve, draw_curves
from common.rows import Row, Setting
from common.running import run
from common.settings import DENSE, base, points
from examples.bench.running.row_files import read_rows

FILE = "tradeoff.json"
TARGETS = (
    0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.96, 0.97, 0.975, 0.98, 0.985, 0.99, 0.995,
    0.998, 0.999,
)  # fmt: skip
PAPER = ("magnitude", "slimming", "lr_rewinding", "swd")
STRUCTURES = {"weights": "Unstructured pruning", "channels": "Structured pruning"}
LABELS = {
    "magnitude": "Magnitude pruning (Han et al.)", "slimming": "Magnitude pruning (Liu et al.)",
    "lr_rewinding": "LR-rewinding", "swd": "SWD", "swd-proximal": "SWD, proximal", "swd-auto": 'SWD, a = "auto"',
    "growing_l2": "Growing L2 (GReg-1)", "uniform_decay": "Growing weight decay", "decay": "Weight decay",
    "thin": "Thin dense network",
}  # fmt: skip
BOUNDS = {
    (64, "weights"): (1e-1, 1e5), (64, "channels"): (1e2, 1e7),
    (16, "weights"): (1.0, 1e4), (16, "channels"): (1e2, 1e6),
}  # fmt: skip
"""a_min and a_max of section 4.5, by width and structure."""


def bounds(setting: Setting) -> tuple[float, float]:
    """Return the paper's bounds; if it has none for the width, those of the nearer width."""
    width = 64 if (setting.width or 64) > 32 else 16
    return BOUNDS[width, setting.structure]


def tradeoff(options: Options, width: int, structures: Sequence[str], methods: Sequence[str] = PAPER) -> list[Row]:
    """Train what has no row yet of a width, and return what is to be drawn: also rows at targets not asked for now."""
    dense = [base("tradeoff", "resnet20", "cifar10", structure, options, width) for structure in structures]
    settings = [setting for each in dense for setting in points(each, options, methods, TARGETS, bounds)]
    run(settings, options.out / FILE, options)
    wanted = {setting.method for setting in settings}
    return [row for row in read_rows(options.out / FILE) if row["method"] in wanted and _is_like(row, dense)]


def _is_like(row: Row, dense: Sequence[Setting]) -> bool:
    """Whether a row was trained as the dense networks are, with the paper's bounds where it has some."""
    own = {"method": row["method"], "target": row["target"], "seed": row["seed"]}
    return any(
        replace(each, **own, a_min=low, a_max=high).matches(row)
        for each in dense
        for low, high in ((None, None), bounds(each))
    )


def figure(
    description: str | None, name: str, width: int, structures: Sequence[str], methods: Sequence[str] = PAPER
) -> None:
    """Train what has no row yet of one width, and draw the figure."""
    options = options_of(parser(description, width=width).parse_args())
    assert options.width is not None
    draw(options.out / f"{name}.png", tradeoff(options, options.width, structures, methods), options.width)


def draw(path: Path, rows: Sequence[Row], width: int) -> None:
    """Draw accuracy over the target, a panel for each structure."""
    panels = {}
    for structure, title in STRUCTURES.items():
        own = [row for row in rows if row["structure"] == structure and row["method"] != DENSE]
        methods = dict.fromkeys(row["method"] for row in own)
        lines = {LABELS.get(m, m): curve([row for row in own if row["method"] == m]) for m in methods}
        if lines:
            panels[title] = lines
    dense = curve([row for row in rows if row["method"] == DENSE])
    if panels:
        draw_curves(path, f"ResNet-20-{width} on CIFAR-10", panels, dense[0.0][0] if dense else None)
