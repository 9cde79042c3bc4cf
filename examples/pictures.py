"""Draw the pictures of the documentation from traced networks: labels, groups, dead values, before and after.

python examples/pictures.py            # writes docs/pictures/*.svg
"""

import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import torch
from torch import fx, nn

import swdc

matplotlib.use("svg")
matplotlib.rcParams |= {"svg.hashsalt": "swdc", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
from matplotlib import pyplot  # noqa: E402

COLOURS, FROZEN, EDGE = ("#4c72b0", "#dd8452", "#55a868", "#8172b3"), "#9a9a9a", "#333333"
Cell = tuple[str, str, bool]
"""The colour of a channel, what is written into it, and whether it stays."""


class Residual(nn.Module):
    """A residual block, a gate whose dead value is one half, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.down = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 8, 3, padding=2)
        self.gate, self.head = nn.Conv2d(8, 6, 1), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return four numbers for each image."""
        x = torch.relu(self.stem(x))
        x = x + self.down(torch.relu(self.up(x)))
        return self.head(torch.sigmoid(self.gate(x)).mean((2, 3)))


class Joined(nn.Module):
    """Two layers side by side, whose results are joined, shuffled and added to a third."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.both = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return two numbers for each sample."""
        joined = torch.cat([self.left(x), self.right(x)], 1)
        shuffled = joined.view(-1, 2, 3).transpose(1, 2).flatten(1)
        return self.head(torch.relu(shuffled) * self.both(x))


def rows(program: swdc.Program, cell: Callable[[fx.Node, int, int], Cell]) -> list[tuple[str, list[Cell]]]:
    """Return what a program computes, from top to bottom, with a cell for each channel of it."""
    found = []
    for node in program.graph.nodes:
        labels = program.coupling.nodes.get(node.name)
        ids = labels[1] if node.op.startswith("call") and labels and len(labels) > 1 else None
        if ids is not None:
            name = node.name if node.op == "call_module" else str(node.target).split(".")[1]
            found.append((name, [cell(node, index, int(label)) for index, label in enumerate(ids)]))
    return found


def draw(path: Path, columns: list[tuple[str, list[tuple[str, list[Cell]]]]]) -> None:
    """Write rows of channels, one column beside the other, into an SVG file."""
    widths = [max(len(cells) for _, cells in lines) + 4 for _, lines in columns]
    height = max(len(lines) for _, lines in columns) + 1
    figure, axes = pyplot.subplots(figsize=(0.33 * sum(widths), 0.36 * height), facecolor="white")
    start = 0.0
    for width, (title, lines) in zip(widths, columns, strict=True):
        axes.text(start, 0, title, va="center", weight="bold", color=EDGE)
        for line, (name, cells) in enumerate(lines, 1):
            axes.text(start + 2.9, -line, name, ha="right", va="center", color=EDGE)
            for index, (colour, text, stays) in enumerate(cells):
                corner = (start + 3.1 + index, -line - 0.36)
                face = colour if stays else "white"
                axes.add_patch(pyplot.Rectangle(corner, 0.84, 0.72, facecolor=face, edgecolor=colour, linewidth=1.2))
                ink = "white" if stays else EDGE
                axes.text(corner[0] + 0.42, -line, text, ha="center", va="center", fontsize=7, color=ink)
        start += width
    axes.set_xlim(-0.2, start)
    axes.set_ylim(-height + 0.3, 0.6)
    axes.axis("off")
    figure.savefig(path, bbox_inches="tight", pad_inches=0.12, metadata={"Date": None})
    pyplot.close(figure)
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")


def colour(program: swdc.Program, label: int) -> str:
    """Return the colour of a label's group; channels in no group are frozen."""
    group = int(program.coupling.group_of[label])
    return COLOURS[group % len(COLOURS)] if group >= 0 else FROZEN


def _number(program: swdc.Program, label: int) -> str:
    """Return the number of a label's channel in its group, or nothing for a frozen one."""
    return str(program.coupling.channel_of[label]) if program.coupling.group_of[label] >= 0 else ""


class Observed(fx.Interpreter):
    """What a masked program computes, node by node."""

    def __init__(self, program: swdc.Program) -> None:
        super().__init__(program)
        self.values: dict[str, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        """Run a node, and keep its result."""
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.values[n.name] = result
        return result

    def constant(self, node: fx.Node, index: int) -> str:
        """Return the number that a channel carries everywhere, or nothing if it carries several."""
        values = self.values[node.name].select(1, index)
        first = float(values.flatten()[0])
        return f"{first:.1f}".removesuffix(".0") if bool((values == first).all()) else ""


def main(folder: Path) -> None:
    """Write all pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    joined = swdc.trace(Joined().eval(), torch.randn(2, 3))
    labels = rows(joined, lambda _, __, label: (colour(joined, label), _number(joined, label), True))
    draw(folder / "labels.svg", [("each number is a channel of the one group", labels)])

    example = torch.randn(2, 3, 8, 8)
    program = swdc.trace(Residual().eval(), example)
    groups = rows(program, lambda _, __, label: (colour(program, label), "", True))
    draw(folder / "groups.svg", [("one colour for each group, grey is frozen", groups)])

    plan = swdc.plan(program, 0.5, scope="group")
    stays = program.coupling.keep(plan.kept)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    assert swdc.verify(masked, slim).exact
    observed = Observed(masked)
    with torch.no_grad():
        observed.run(example)
    dead = rows(
        program,
        lambda node, index, label: (
            colour(program, label), "" if stays[label] else observed.constant(node, index), bool(stays[label]),
        ),
    )  # fmt: skip
    draw(folder / "dead.svg", [("what removed channels carry in the masked network", dead)])

    before = rows(program, lambda _, __, label: (colour(program, label), "", bool(stays[label])))
    after = rows(slim, lambda _, __, label: (colour(slim, label), "", True))
    titles = (f"{swdc.count(found).parameters:,} parameters" for found in (program, slim))
    draw(folder / "rewriting.svg", list(zip(titles, (before, after), strict=True)))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "pictures")
