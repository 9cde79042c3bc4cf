"""The pictures of a page: widths along the graph, scales, and numbers as they are shown."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.report.bars import draw_bars
from swdc.artifacts.report.flow import widths_along_the_graph
from swdc.artifacts.report.numbers import error, number, percent, removed, sentence
from swdc.artifacts.report.scales import Scale
from swdc.artifacts.report.slimming import Slimming
from tests.artifacts.report.networks import made


def test_widths_stand_in_the_order_of_the_graph_with_what_passes_over_them() -> None:
    found = made()
    assert found.slim.facts.origin is not None
    layers = Slimming(found.program, found.slim, found.slim.facts.origin.plan, None).to_dict()["layers"]
    widths = widths_along_the_graph(found.program, layers)
    assert widths["layers"] == [
        {"name": "stem", "before": 8, "after": 4, "frozen": 0},
        {"name": "first", "before": 12, "after": 6, "frozen": 0},
        {"name": "second", "before": 8, "after": 4, "frozen": 0},
        {"name": "head", "before": 5, "after": 5, "frozen": 5},
    ]
    assert widths["skips"] == [[1, 3]], "the sum passes over first and second"


class Branches(nn.Module):
    """Two layers read the same value, and their results are put side by side; a mask is no data."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.head = nn.Linear(4, 6), nn.Linear(4, 7), nn.Linear(13, 3)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        both = torch.cat([self.left(x), self.right(x)], -1)
        return self.head(both * mask.unsqueeze(-1))  # type: ignore[no-any-return]


def test_branches_pass_over_each_other() -> None:
    program = swdc.trace(Branches().eval(), (torch.randn(2, 4), torch.ones(2, dtype=torch.bool)))
    plan = swdc.plan(program, 0.5)
    layers = Slimming(program, swdc.slim(program, plan), plan, None).to_dict()["layers"]
    widths = widths_along_the_graph(program, layers)
    assert [layer["name"] for layer in widths["layers"]] == ["left", "right", "head"]
    assert widths["skips"] == [[0, 1], [1, 2]]


def layer(name: str, before: int, after: int, frozen: int | None = 0) -> dict[str, object]:
    return {"name": name, "before": before, "after": after, "frozen": frozen}


def test_heights_are_in_proportion_and_a_wide_layer_that_is_frozen_is_cut() -> None:
    drawn = draw_bars({"layers": [layer("a", 40, 10), layer("b", 20, 20, 5), layer("c", 900, 900, 900)], "skips": []})
    full = drawn.ground - drawn.summit
    a, b, c = drawn.bars
    assert (drawn.ground - a.top, drawn.ground - a.kept_top, drawn.ground - a.frozen_top) == (full, full / 4, 0)
    assert (drawn.ground - b.kept_top, drawn.ground - b.frozen_top) == (full / 2, full / 8)
    assert (a.cut, b.cut, c.cut) == (False, False, True)
    assert c.top == drawn.summit
    assert [label.text for label in drawn.names] == ["a", "b", "c"]


def test_many_layers_are_named_by_what_they_share() -> None:
    names = [f"net.stage{stage}.{block}.conv" for stage in range(4) for block in range(50)]
    drawn = draw_bars({"layers": [layer(name, 8, 4) for name in names], "skips": [[0, 3], [10, 200]]})
    assert drawn.names == ()
    assert [stage.text for stage in drawn.stages] == [f"net.stage{stage}" for stage in range(4)]
    assert drawn.arcs.count("M") == 2
    lines = [float(number) for path in drawn.arcs.split("M")[1:] for number in path.replace("C", " ").split()[1::2]]
    assert min(lines) > -20
    assert max(lines) < drawn.summit, "arcs stand above the bars"


def test_connections_beyond_count_are_left_out_and_counted() -> None:
    skips = [[start, end] for start in range(100) for end in range(start + 1, 100)]
    drawn = draw_bars({"layers": [layer(str(n), 4, 4) for n in range(100)], "skips": skips})
    assert (drawn.arcs, drawn.too_many) == ("", len(skips))


def test_a_program_without_layers_has_no_bars() -> None:
    drawn = draw_bars({"layers": [], "skips": []})
    assert (drawn.bars, drawn.arcs, drawn.names) == ((), "", ())


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [(0, 64, [0, 10, 20, 30, 40, 50, 60]), (0.5, 0.95, [0.5, 0.6, 0.7, 0.8, 0.9]), (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1])],
)
def test_ticks_are_round_numbers_within_the_scale(low: float, high: float, ticks: list[float]) -> None:
    scale = Scale(low, high, 100, 0)
    assert scale.ticks() == ticks
    assert (scale.at(low), scale.at(high)) == (100, 0)


@pytest.mark.parametrize("values", [[3.0], [0.0], [-1.0, 5.0], [1e-7, 2e-7]])
def test_a_scale_shows_all_values(values: list[float]) -> None:
    scale = Scale.over(values, 0, 100)
    assert all(0 < scale.at(value) < 100 for value in values)
    assert 2 <= len(scale.ticks()) <= 8


def test_numbers_as_they_are_shown() -> None:
    whole = [number(value) for value in (0, 1234567, 1234567.0, 12.0, None, "text", True)]
    assert whole == ["0", "1,234,567", "1,234,567", "12", "–", "text", "yes"]
    assert [number(value) for value in (0.98333, 1234.56, 3.2e-9, -0.5)] == ["0.9833", "1,234.6", "3.20e-09", "-0.5"]
    assert [percent(share) for share in (0, 0.5, 0.99999, 0.00001, 1)] == [
        "0.0 %", "50.0 %", "more than 99.9 %", "less than 0.1 %", "100.0 %",
    ]  # fmt: skip
    assert (error(None), error(1e-15)) == ("not finite", "1.00e-15")
    assert (removed({"before": 0, "after": 0}), removed({"before": 4, "after": 1})) == (0, 0.75)
    assert sentence("ReLU holds") == "ReLU holds"
