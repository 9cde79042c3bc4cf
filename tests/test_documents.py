"""Every block of Python in the README and in docs/ runs to its end, on handwritten digits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from swdc.networks import resnet20

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(?:python|py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
EPOCHS, BATCH, TRAINED = 30, 64, 1437


class Digits:
    """A loader of the digits that notes the accuracy on held-out ones before each epoch."""

    def __init__(self, names: dict[str, object]) -> None:
        digits = load_digits()
        self.images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
        self.labels = torch.tensor(digits.target)
        self.names, self.accuracies = names, list[float]()

    def __len__(self) -> int:
        return -(-TRAINED // BATCH)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        self.accuracies.append(self.accuracy(self.names["program"]))
        for rows in torch.randperm(TRAINED).split(BATCH):
            yield self.images[rows], self.labels[rows]

    @torch.no_grad()
    def accuracy(self, model: object) -> float:
        assert isinstance(model, nn.Module)
        training = model.training
        found = model.eval()(self.images[TRAINED:]).argmax(1) == self.labels[TRAINED:]
        model.train(training)
        return float(found.double().mean())


def blocks(path: Path) -> list[str]:
    return BLOCK.findall(path.read_text(encoding="utf-8"))


def test_there_are_blocks_in_the_readme():
    assert len(blocks(ROOT / "README.md")) >= 7


@pytest.mark.filterwarnings("ignore:cache comes back as None")
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_runs_to_its_end_and_the_loop_keeps_its_accuracy(path, tmp_path, monkeypatch):
    """The blocks of a document run one after the other, with what its first sentences take for granted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where measured times are kept
    names: dict[str, object] = {"__name__": "document"}
    loader = Digits(names)
    model = resnet20(width=16, channels=1)
    names |= {"model": model, "example_inputs": loader.images[:2], "epochs": EPOCHS, "loader": loader}
    for number, block in enumerate(blocks(path)):
        code = compile(block, f"{path.name}, block {number + 1}", "exec")
        exec(code, names)
        if "swd.step()" in block:
            best = max(loader.accuracies)
            assert len(loader.accuracies) == EPOCHS
            assert best > 0.9
            assert loader.accuracy(names["program"]) >= best - 0.01
            assert loader.accuracy(names["slim"]) >= best - 0.01
