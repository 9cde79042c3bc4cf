"""The short course of Table 3: the rate, the bounds, the order of cells, and rows from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import table3
import torch
from common import running, short
from common.options import Options
from common.training import one_cycle, thirds

OPTIONS = Options(
    Path(), Path(), None, None, 2, (), (), None, None, "cpu", torch.preserve_format, "python"
)  # fmt: skip


def test_the_rate_rises_to_its_peak_and_ends_where_thirds_end() -> None:
    rate, steps = one_cycle(0.1), [step / 1000 for step in range(1001)]
    rates = [rate(done) for done in steps]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) == pytest.approx(0.1, rel=1e-3)
    assert rates.index(max(rates)) == 250
    assert rates[:251] == sorted(rates[:251])
    assert rates[250:] == sorted(rates[250:], reverse=True)
    assert rates[-1] == pytest.approx(thirds(0.1)(1.0)) == pytest.approx(rate(1.4))


@pytest.mark.parametrize(("structure", "low", "high"), [("weights", 1.0, 1e4), ("channels", 1e2, 1e6)])
def test_the_pull_of_the_course_is_that_of_the_paper(structure: str, low: float, high: float) -> None:
    setting = next(s for s in short.settings_of(OPTIONS, [structure], ()) if s.method == "swd")
    assert setting.a_min is not None
    assert setting.a_max == pytest.approx(setting.a_min * high / low, rel=1e-3)
    short_steps, paper_steps = 30 * 391, 300 * 391
    own = sum(one_cycle(0.1)(s / short_steps) * setting.a_min * (high / low) ** (s / short_steps) for s in range(11730))
    rates = (0.1, 0.01, 0.001)
    paper = sum(rates[3 * s // paper_steps] * low * (high / low) ** (s / paper_steps) for s in range(paper_steps))
    assert own == pytest.approx(paper, rel=1e-3)


def test_headlines_come_first_and_cells_are_chosen_by_patterns() -> None:
    cells = [short.cell(s) for s in short.settings_of(OPTIONS, ["weights", "channels"], ())]
    headlines = [
        *(f"weights/98/{method}/{{}}" for method in ("magnitude", "swd", "swd-auto")),
        *(f"channels/90/{method}/{{}}" for method in ("slimming", "swd", "swd-auto")),
    ]
    first = [f"{structure}/0/dense/{seed}" for seed in (0, 1) for structure in ("weights", "channels")]
    assert cells[:16] == [*first, *(name.format(seed) for seed in (0, 1) for name in headlines)]
    assert len({*cells}) == len(cells) == 2 * (1 + 5 * 4 + 1 + 4 * 5)
    assert [short.cell(s) for s in short.settings_of(OPTIONS, ["weights", "channels"], ("*/98/swd*/1",))] == [
        "weights/98/swd/1", "weights/98/swd-auto/1"
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"expected cells such as .*, got none for weights/7/"):
        short.settings_of(OPTIONS, ["weights"], ("weights/7/*",))


def test_rows_of_chosen_cells_are_trained_once(
    cifar: Path, tmp_path: Path, run_script: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    asked = ("--data", cifar, "--out", out, "--short", "--epochs", 2, "--width", 4, "--batch", 10, "--seeds", 1)
    asked += ("--subset", 20, "--only", "weights/98/swd*/0", "channels/90/swd/0", "channels/0/dense/0")
    run_script(table3, *asked)
    rows = json.loads((out / "short.json").read_text())
    assert [(row["structure"], row["method"]) for row in rows] == [
        ("channels", "dense"), ("weights", "swd"), ("weights", "swd-auto"), ("channels", "swd")
    ]  # fmt: skip
    assert {row["rate"] for row in rows} == {"one-cycle"}
    assert [row["held_for"] for row in rows] == [None, "SGD", "SGD", "SGD"]
    assert rows[2]["change"] == 0
    assert rows[3]["accuracy"] == rows[3]["accuracy_slim"]
    assert (out / "table3-short.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(running, "training_of", None)  # nothing is trained again
    run_script(table3, *asked)


def test_cells_need_the_short_course(tmp_path: Path, run_script: Callable[..., None]) -> None:
    with pytest.raises(SystemExit):
        run_script(table3, "--data", tmp_path, "--only", "weights/*")
