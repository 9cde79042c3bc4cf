"""The table: measures what it does not know, once, and again what was disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path

import pytest

from swdc.costs.latency import LatencyTable, MeasuredTable
from swdc.costs.latency.cache import Cache
from swdc.costs.latency.measuring import Probe
from swdc.costs.latency.operator_kinds import Layer
from swdc.errors import PlanError

LAYER = Layer("Gemm", (), (1, 32, 40), (1, 8, 8))


class Clock:
    """Measures by a formula: microseconds by the product of the sizes."""

    def __init__(self) -> None:
        self.taken: list[Probe] = []

    def __call__(self, probes: Sequence[Probe], threads: int) -> list[float]:
        self.taken += probes
        return [prod(sizes) / 1000 for _, sizes in probes]


def table(folder: Path, clock: Clock, said: list[tuple[str, int, int]] | None = None) -> MeasuredTable:
    announce = None if said is None else lambda *what: said.append(what)
    return MeasuredTable(announce=announce, cache=Cache(1, folder), measure=clock)


def test_what_is_measured_once_is_known(tmp_path: Path) -> None:
    clock, said = Clock(), list[tuple[str, int, int]]()
    made = table(tmp_path, clock, said)
    made.prepare([LAYER, LAYER])
    assert len(clock.taken) == len(set(clock.taken)) == 4 * 5
    assert said == [("measuring layers", 0, 20)]
    assert made.ms(LAYER, (1, 24, 40)) == pytest.approx(24 * 40 / 1000)
    again = table(tmp_path, clock)
    again.prepare([LAYER])
    assert again.ms(LAYER, (1, 24, 40)) == pytest.approx(24 * 40 / 1000)
    assert len(clock.taken) == 20


def test_a_wider_layer_adds_its_own_points_only(tmp_path: Path) -> None:
    clock = Clock()
    table(tmp_path, clock).prepare([LAYER])
    wider = Layer("Gemm", (), (1, 32, 64), (1, 8, 8))
    table(tmp_path, clock).prepare([LAYER, wider])
    assert {sizes[2] for _, sizes in clock.taken[20:]} == {48, 56, 64}


def test_other_options_are_another_layer(tmp_path: Path) -> None:
    clock = Clock()
    made = table(tmp_path, clock)
    sizes = (8,), (8,)
    pools = [Layer("GlobalAveragePool", (("batch", 1), ("size", (side, side))), *sizes) for side in (7, 14)]
    made.prepare(pools)
    assert [layer for layer, _ in sorted(clock.taken, key=lambda probe: probe[0].signature)] == pools[::-1]
    assert pools[0].signature == "GlobalAveragePool(batch=1, size=7x7)"


def test_a_layer_that_was_not_prepared_is_measured_when_asked_for(tmp_path: Path) -> None:
    clock = Clock()
    assert table(tmp_path, clock).ms(LAYER, (1, 9, 8)) == pytest.approx(16 * 8 / 1000)
    assert clock.taken


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(PlanError, match="expected threads as a whole number, got an object"):
        MeasuredTable(object())  # type: ignore[arg-type]
    with pytest.raises(PlanError, match="expected at least one thread, got 0"):
        MeasuredTable(0)


def test_a_damaged_cache_is_measured_again(tmp_path: Path) -> None:
    clock = Clock()
    table(tmp_path, clock).prepare([LAYER])
    Cache(1, tmp_path).path.write_text("{")
    made = table(tmp_path, clock)
    made.prepare([LAYER])
    assert len(clock.taken) == 40
    assert Cache(1, tmp_path).load()[LAYER.signature][1, 32, 40] == pytest.approx(32 * 40 / 1000)


def test_what_was_disturbed_is_measured_again_and_the_least_time_counts(tmp_path: Path) -> None:
    class Disturbed(Clock):
        def __call__(self, probes: Sequence[Probe], threads: int) -> list[float]:
            first = not self.taken
            times = super().__call__(probes, threads)
            slow = [5.0 if first and sizes == (1, 16, 16) else 1.0 for _, sizes in probes]
            return [ms * factor for ms, factor in zip(times, slow, strict=True)]

    clock = Disturbed()
    made = table(tmp_path, clock)
    made.prepare([LAYER])
    assert [sizes for _, sizes in clock.taken[20:]] == [(1, 16, 16)]
    assert made.ms(LAYER, (1, 16, 16)) == pytest.approx(16 * 16 / 1000)
    assert Cache(1, tmp_path).load()[LAYER.signature][1, 16, 16] == pytest.approx(16 * 16 / 1000)


def test_a_table_has_to_say_how_long_layers_take() -> None:
    LatencyTable().prepare([LAYER])
    with pytest.raises(TypeError, match="LatencyTable has to say how long a layer takes"):
        LatencyTable().ms(LAYER, (1, 8, 8))
