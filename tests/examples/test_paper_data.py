"""The data of the paper's experiments."""

from pathlib import Path

import pytest
import torch
from common.data import load_graph, load_images
from common.tasks import ImageTask, augmented
from torch import nn


def test_digits_are_padded_and_a_subset_is_the_same_every_time(mnist: Path):
    whole, some, again = load_images("mnist", mnist), load_images("mnist", mnist, 5), load_images("mnist", mnist, 5)
    assert whole.train.shape == (24, 1, 32, 32)
    assert whole.test.shape == (8, 1, 32, 32)
    assert not whole.train[..., :2].any()
    assert whole.train[..., 2:30, 2:30].float().mean() > 100
    assert torch.equal(some.train, again.train)
    assert torch.equal(some.train, whole.train[:5])
    assert whole.test_labels.tolist() == list(range(8))


def test_pictures_in_folders_of_their_class_are_read(cifar: Path):
    images = load_images("cifar10", cifar)
    assert (images.classes, images.train.shape, images.test.shape) == (10, (20, 3, 32, 32), (10, 3, 32, 32))
    assert sorted(images.train_labels.tolist()) == sorted([*range(10), *range(10)])
    with pytest.raises(ValueError, match="a subset of 1 to 20 images"):
        load_images("cifar10", cifar, 21)


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("mnist", ["MNIST/raw"]),
        ("cifar10", ["cifar-10-batches-py", "cifar10"]),
        ("cifar100", ["cifar-100-python"]),
        ("Cora", ["Cora/raw"]),
    ],
)
def test_what_is_missing_is_told_with_the_places_that_were_looked_at(tmp_path: Path, name: str, places: list[str]):
    with pytest.raises(FileNotFoundError, match="give another --data ROOT") as error:
        load_graph(name, tmp_path) if name == "Cora" else load_images(name, tmp_path)
    assert all(str(tmp_path / place) in str(error.value) for place in places)


def test_augmented_images_are_crops_of_the_padded_ones_mirrored_or_not():
    images = torch.randint(1, 256, (12, 3, 32, 32), dtype=torch.uint8)
    padded = nn.functional.pad(images, [4] * 4)
    found = set()
    for image, source in zip(augmented(images), padded, strict=True):
        (place,) = [
            (down, right, mirrored)
            for down in range(9)
            for right in range(9)
            for mirrored in (False, True)
            if torch.equal(image.flip(2) if mirrored else image, source[:, down : down + 32, right : right + 32])
        ]
        found.add(place)
    assert len(found) > 8
    assert {mirrored for _, _, mirrored in found} == {False, True}


def test_a_task_normalises_and_scores(mnist: Path):
    task = ImageTask(load_images("mnist", mnist), batch=10, augment=False)
    assert task.steps == 3
    seen: list[torch.Tensor] = []

    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return nn.functional.one_hot(torch.full((len(x),), 3), 10).float()

    assert task.accuracy(Constant()) == {"accuracy": 12.5}  # one of eight is a 3
    assert len(list(task.losses(Constant()))) == 3
    pixels = torch.cat(seen[1:]) * 0.3081 + 0.1307
    assert pixels.min().item() == pytest.approx(0, abs=1e-6)
    assert pixels.max().item() == pytest.approx(1)
