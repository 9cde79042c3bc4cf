"""The benches of large models, on small ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

import swdc
from examples.bench.measurements import memory as streaming
from examples.bench.measurements import scale as scale_module
from examples.bench.networks.decoder import Decoder
from examples.bench.running.process import run
from swdc.errors import CommandError
from tests.support import certified, randomise


def test_the_decoder_can_be_cut_in_every_width() -> None:
    ids = torch.randint(100, (2, 7), generator=torch.Generator().manual_seed(0))
    program = swdc.trace(randomise(Decoder()).eval(), ids)
    certified(program)
    assert program.explanation.share > 0.99
    assert {group.width for group in program.groups} == {64, 160, 2}  # the stream, inner layers, heads of keys


def test_a_function_runs_apart_and_its_memory_is_told() -> None:
    found, peak = run("tests.examples.bench.test_large:touched", 300)
    assert 250 < peak - found["before"] < 400
    with pytest.raises(CommandError, match="fails: ValueError: no such size"):
        run("tests.cli.small_models:broken")


def touched(megabytes: int) -> dict[str, float]:
    status = Path("/proc/self/status").read_text().splitlines()
    before = next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) * 1024 / 1e6
    torch.ones(megabytes * 10**6 // 4)
    return {"before": before}


@pytest.mark.parametrize("name", ["decoder"])
def test_a_model_is_planned_and_counted_without_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    small: dict[str, Callable[[], nn.Module]] = {name: lambda: Decoder(blocks=3)}
    monkeypatch.setattr(scale_module, "MODELS", small)
    row = scale_module.measure(name)
    assert row["parameters"] == sum(p.numel() for p in Decoder(blocks=3).parameters())
    assert 0.4 < row["parameters_after"] / row["parameters"] <= 0.5
    assert row["groups"] == 7
    assert row["branches_removed"] == 2
    assert row["seconds"] == pytest.approx(
        sum(row[step] for step in ("build", "capture", "analysis", "plan", "depth", "count", "slim"))
    )


def test_unknown_models_are_refused() -> None:
    with pytest.raises(CommandError, match="expected models of decoder, llama, got gpt"):
        list(scale_module.scale(["gpt"]))


def test_a_small_checkpoint_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "WIDTH", 64)
    monkeypatch.setattr(streaming, "INNER", 96)
    monkeypatch.setattr(streaming, "WORDS", 50)
    monkeypatch.setattr(streaming, "peak_of_torch", lambda: 500.0)
    (row,) = streaming.stream(0.001, tmp_path)
    assert 0.8 < row["checkpoint_mb"] < 1.2
    assert row["slim_mb"] < 0.6 * row["checkpoint_mb"]
    assert row["over_torch_mb"] == row["peak_mb"] - 500
    assert list(tmp_path.iterdir()) == []
