"""ImageNet in folders of its classes."""

from pathlib import Path

import pytest
import torch
from common import imagenet
from PIL import Image
from torch import nn


class Constant(nn.Module):
    """Takes every image for one of class 5, and then of classes 4 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == (3, 224, 224)
        return torch.arange(6.0).expand(len(x), 6) + self.shift


def test_top_1_and_top_5_are_counted_on_the_validation_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for split, count in (("train", 2), ("val", 1)):
        for label in range(6):
            folder = tmp_path / "imagenet" / split / f"n{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (40, 50), (40 * label, 10, 10)).save(folder / f"{number}.jpg")
    monkeypatch.setattr(imagenet, "WORKERS", 0)  # no processes that read images
    task = imagenet.ImageNetTask(tmp_path, 4, 9, "cpu")
    assert task.steps == 3
    assert len(list(task.losses(Constant()))) == 3
    assert task.accuracy(Constant()) == pytest.approx({"accuracy": 100 / 6, "top5": 500 / 6})


def test_what_is_missing_is_told(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="give another --data ROOT"):
        imagenet.ImageNetTask(tmp_path, 4, None, "cpu")
