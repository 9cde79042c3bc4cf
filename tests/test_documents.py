"""Every block in the README, in CONTRIBUTING and in docs/ runs to its end, and prints what the page says it prints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from swdc.networks import resnet20
from tests.documents import Page

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
LONGEST_README = 150
EPOCHS, BATCH, TRAINED = 15, 64, 1437


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


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


def test_the_readme_is_short_and_has_blocks():
    page = Page(ROOT / "README.md")
    assert len(page.text.splitlines()) <= LONGEST_README
    assert len(page.examples) >= 4


@pytest.mark.filterwarnings("ignore:cache comes back as None")
@pytest.mark.parametrize("path", DOCUMENTS, ids=_name)
def test_every_block_runs_and_prints_what_the_page_says_and_loops_keep_their_accuracy(
    path, tmp_path, monkeypatch, request
):
    """The blocks of a page run one after the other, with what the sentences of older pages take for granted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where measured times are kept
    page = Page(path)
    loader = Digits(page.names)
    page.names |= {
        "model": resnet20(width=12, channels=1),
        "example_inputs": loader.images[:2],
        "epochs": EPOCHS,
        "loader": loader,
    }
    page.run(request.config.getoption("--regenerate-golden"))
    if loader.accuracies:  # the loop of the README
        best = max(loader.accuracies)
        assert len(loader.accuracies) == EPOCHS
        assert best > 0.9
        assert loader.accuracy(page.names["program"]) >= best - 0.01
        assert loader.accuracy(page.names["slim"]) >= best - 0.01


def test_the_readme_trains():
    assert "swd.step()" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [*DOCUMENTS, *sorted((ROOT / "examples").rglob("*.md"))], ids=_name)
def test_every_link_to_a_file_finds_it(path):
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}, which is not there"


def test_other_words_are_another_output_and_other_digits_are_not(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint('exact', 1.5e-7)\n```\n\n```text\nexact 2.25e-9\n```\n")
    Page(page).run(regenerate=False)
    page.write_text(page.read_text().replace("exact 2", "inexact 2"))
    with pytest.raises(AssertionError, match=r"exact 1\.5e-07"):
        Page(page).run(regenerate=False)
    Page(page).run(regenerate=True)
    assert page.read_text().endswith("```text\nexact 1.5e-07\n```\n")
