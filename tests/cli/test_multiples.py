"""The hint at widths that are no multiples of 8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swdc.cli.slim.multiples import multiples_hint
from tests.cli.support_cli import run

MODEL = ("slim", "tests.cli.small_models:mlp", "--arg", "width=32", "--input", "1x4", "--budget", "parameters")


def layers(*widths: tuple[int | None, int | None]) -> list[dict[str, Any]]:
    return [{"width": {"before": before, "after": after}} for before, after in widths]


@pytest.mark.parametrize(
    ("widths", "told"),
    [
        ([(64, 33), (64, 16), (128, 7)], "2 of 3 widths that were cut are no multiple of 8: --round-to 8"),
        ([(16, 9)], "1 of 1 widths that were cut is no multiple of 8: --round-to 8"),
        ([(64, 32), (10, 10), (None, 3)], None),
        ([(10, 5), (12, 4)], None),
    ],
)
def test_cut_widths_are_counted(widths: list[tuple[int | None, int | None]], told: str | None) -> None:
    hint = multiples_hint(layers(*widths), 1)
    assert hint is None if told is None else str(hint).startswith(told)


def test_whoever_asks_for_multiples_gets_no_hint() -> None:
    assert multiples_hint(layers((64, 33)), 2) is None


@pytest.mark.parametrize(("unit", "told"), [("1", True), ("8", False)])
def test_slim_prints_the_hint(tmp_path: Path, unit: str, told: bool) -> None:
    result = run(*MODEL, "--sparsity", "0.3", "--round-to", unit, "--out", str(tmp_path / "slim"))
    assert result.exit_code == 0, result.stderr
    assert ("1 of 1 widths that were cut is no multiple of 8: --round-to 8 often runs faster" in result.stdout) is told
