"""The training loop: schedules, interruptions, shared beginnings, and what is not a number."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from common.training import DivergenceError, Rate, Training, constant, thirds
from torch import nn

from swdc.sparsity.baselines import LRRewinding, MagnitudePruning
from swdc.sparsity.method import Method

TENTH = constant(0.1)


class Noise:
    """Random batches, so that every number drawn counts."""

    steps = 3

    def losses(self, model: nn.Module) -> Iterator[torch.Tensor]:
        for _ in range(self.steps):
            yield model(torch.randn(4, 6)).square().mean()


def training(path: Path, epochs: int = 6, name: str = "own", rate: Rate = TENTH, **options: object) -> Training:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    method: Method | None = None
    if options.pop("pruned", False):
        method = MagnitudePruning(
            model, options.pop("target", 0.5), steps=18, start=9, every=3, rounds=2, optimizer=optimizer
        )
    if options.pop("rewound", False):
        method = LRRewinding(model, 0.5, steps=18, start=9, optimizer=optimizer)
    task = Noise()
    return Training(task, model, optimizer, method, epochs, 3, rate, path / f"{name}.pt", **options)  # type: ignore


def weights(trained: Training) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trained.model.parameters()])


def quiet(text: str) -> None:
    pass


def test_the_rate_falls_by_thirds():
    assert [thirds(0.1)(done / 300) for done in (0, 99, 100, 199, 200, 299, 300, 400)] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.001, 0.001]
    )


def test_the_schedule_and_momentum_begin_anew_at_restarts(tmp_path: Path):
    rates = []
    rewound = training(tmp_path, rate=lambda done: rates.append(done) or 0.1, rewound=True)
    rewound.run(quiet)
    assert rates == pytest.approx([step / 9 for step in range(9)] * 2)
    assert rewound.method is not None
    assert rewound.method.restarts == (9,)


def test_an_interrupted_training_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = training(tmp_path, name="whole", pruned=True)
    whole.run(quiet)
    monkeypatch.setattr("common.training.SECONDS_BETWEEN_SAVES", 0.0)
    for stop in (2, 4):  # before and between the removals

        def interrupt(text: str, stop: int = stop) -> None:
            if text.startswith(f"epoch {stop + 1} "):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            training(tmp_path, pruned=True).run(interrupt)
        assert (tmp_path / "own.pt").exists()
    resumed = training(tmp_path, pruned=True)
    resumed.run(quiet)
    assert torch.equal(weights(resumed), weights(whole))
    resumed.forget()
    assert not (tmp_path / "own.pt").exists()


def test_trainings_that_share_their_beginning_end_as_if_alone(tmp_path: Path):
    shared = {"shared": tmp_path / "shared.pt", "shared_epochs": 2}
    first = training(tmp_path, name="first", pruned=True, target=0.8, **shared)
    first.run(quiet)
    told: list[str] = []
    second = training(tmp_path, name="second", pruned=True, **shared)
    second.run(told.append)
    alone = training(tmp_path, pruned=True)
    alone.run(quiet)
    assert len(told) == 4
    assert torch.equal(weights(second), weights(alone))
    assert not torch.equal(weights(first), weights(alone))


def test_weights_that_are_no_numbers_are_told(tmp_path: Path):
    with pytest.raises(DivergenceError, match="in epoch 1"):
        training(tmp_path, rate=constant(1e30)).run(quiet)
