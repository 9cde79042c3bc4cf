"""The picture of the widths along the graph: a bar for each layer, and arcs over those that a connection passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from swdc.artifacts.report.scales import Scale

_LEFT, _RIGHT, _ROOM = 56, 16, 1040
"""Space beside the bars, and what the bars share; a picture of many layers is wider, and scrolls."""
_HEIGHT, _NARROWEST, _WIDEST = 200, 4, 48
_MOST_NAMES, _MOST_STAGES = 60, 40
_LETTER = 7.0
"""About how wide a letter of a label is."""
_MOST_SKIPS = 4000


@dataclass(frozen=True)
class Bar:
    """The bar of one layer: heights from the ground up, of the kept channels that are frozen, of all kept, and before.

    ``cut`` says that the layer is wider than the picture is high.
    """

    name: str
    before: int
    after: int
    frozen: int | None
    x: float
    width: float
    top: float
    kept_top: float
    frozen_top: float
    cut: bool


@dataclass(frozen=True)
class Label:
    """A name under the picture, in the middle of what it names."""

    text: str
    x: float
    start: float
    end: float


@dataclass(frozen=True)
class Bars:
    """The whole picture. ``arcs`` is the path of all connections that pass over layers."""

    width: float
    height: float
    left: float
    ground: float
    summit: float
    step: float
    bars: tuple[Bar, ...]
    ticks: tuple[tuple[int, float], ...]
    names: tuple[Label, ...]
    stages: tuple[Label, ...]
    arcs: str
    too_many: int
    """How many connections are left out, because they would cover the picture."""


def draw_bars(widths: Mapping[str, Any]) -> Bars:
    """Return the picture of what ``widths_along_the_graph`` returned."""
    layers, skips = widths["layers"], widths["skips"]
    step = max(_NARROWEST, min(_WIDEST, _ROOM // max(len(layers), 1)))
    drawn = skips if len(skips) <= _MOST_SKIPS else []
    reach = max((end - start for start, end in drawn), default=0)
    summit = 16 + _rise(reach, step)
    ground = summit + _HEIGHT
    scale = Scale(0, _highest(layers), ground, summit)
    beside = step * 0.14 if step > 6 else 0.5
    bars = tuple(
        _bar(layer, _LEFT + index * step + beside, step - 2 * beside, scale) for index, layer in enumerate(layers)
    )
    names = [str(layer["name"]) for layer in layers]
    few = len(names) <= _MOST_NAMES
    below = 12 + _LETTER * max(map(len, names), default=0) if few else 30
    return Bars(
        width=_LEFT + step * len(layers) + _RIGHT,
        height=round(ground + below, 1),
        left=_LEFT,
        ground=ground,
        summit=summit,
        step=step,
        bars=bars,
        ticks=tuple((round(tick), scale.at(tick)) for tick in scale.ticks() if tick == round(tick)),
        names=tuple(_label(name, n, n + 1, step) for n, name in enumerate(names)) if few else (),
        stages=() if few else _stages(names, step),
        arcs="".join(_arc(start, end, step, summit) for start, end in drawn),
        too_many=len(skips) - len(drawn),
    )


def _highest(layers: Sequence[Mapping[str, Any]]) -> int:
    """Return the width that is as high as the picture: a layer that can lose nothing must not make the others flat."""
    changing = [layer["before"] for layer in layers if layer["frozen"] != layer["before"]]
    return max(changing or [layer["before"] for layer in layers], default=1)


def _bar(layer: Mapping[str, Any], x: float, width: float, scale: Scale) -> Bar:
    before, after = layer["before"], layer["after"] or 0
    frozen = min(layer["frozen"] or 0, after)
    top, kept_top, frozen_top = (scale.at(min(height, scale.high)) for height in (before, after, frozen))
    return Bar(
        layer["name"], before, after, layer["frozen"], round(x, 1), round(width, 1), top, kept_top, frozen_top,
        cut=before > scale.high,
    )  # fmt: skip


def _rise(reach: int, step: float) -> float:
    """Return how high an arc over some layers is: it grows ever more slowly, so that long ones stay in the picture."""
    return round(min(72.0, 7 * (reach**0.5) + 0.2 * step), 1) if reach else 0.0


def _arc(start: int, end: int, step: float, summit: float) -> str:
    left, right, foot = _LEFT + start * step, _LEFT + end * step, summit - 6
    peak = round(foot - _rise(end - start, step) * 4 / 3, 1)  # a cubic curve reaches 3/4 of the way to its handles
    return f"M{left:g} {foot:g}C{left:g} {peak:g} {right:g} {peak:g} {right:g} {foot:g}"


def _label(text: str, start: int, end: int, step: float) -> Label:
    left, right = _LEFT + start * step, _LEFT + end * step
    return Label(text, (left + right) / 2, left, right)


def _stages(names: Sequence[str], step: float) -> tuple[Label, ...]:
    """Return names that runs of layers share, as deep as there is room for them."""
    for depth in range(max(name.count(".") for name in names), -1, -1):
        runs = _runs(names, depth)
        if len(runs) <= _MOST_STAGES:
            break
    found, start = [], 0
    for prefix, length in runs:
        label = _label(prefix, start, start + length, step)
        fits = int((label.end - label.start - 6) / _LETTER)
        text = prefix if len(prefix) <= fits else f"{prefix[: fits - 1]}…" if fits > 3 else ""
        found.append(Label(text, label.x, label.start, label.end))
        start += length
    return tuple(found)


def _runs(names: Sequence[str], depth: int) -> list[tuple[str, int]]:
    prefixes = (".".join(name.split(".")[: depth + 1]) for name in names)
    return [(prefix, len(list(run))) for prefix, run in groupby(prefixes)]
