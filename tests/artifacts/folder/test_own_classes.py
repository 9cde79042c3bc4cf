"""Arguments of a user's own classes in folders: dataclasses, members of enumerations, objects of plain data."""

from __future__ import annotations

import dataclasses
from enum import Enum
from pathlib import Path

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import ArtifactError, InputError, TraceError
from tests.support import image, random_plan, randomise


class Mode(Enum):
    DOUBLE, TRIPLE = "double", "triple"


class Settings:
    """An argument of plain data, which a program has built in."""

    def __init__(self, scale: float = 2.0) -> None:
        self.scale, self.names, self.inner = scale, ["a", ("b", None)], {"mode": Mode.DOUBLE}


@dataclasses.dataclass
class Sample:
    left: torch.Tensor
    right: torch.Tensor
    mask: torch.Tensor | None = None


def test_arguments_of_own_classes_come_back(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(3, 6), nn.Linear(6, 2)

        def forward(self, x: Sample, mode: Mode, settings: Settings) -> torch.Tensor:
            y = self.b(torch.relu(self.a(x.left) + self.a(x.right))) * settings.scale
            return y * 2 if mode is Mode.DOUBLE else y * 3

    example = (Sample(image(4, 3), image(4, 3, seed=2)), Mode.DOUBLE, Settings())
    program = swdc.trace(randomise(Net()).eval(), example)
    slim = swdc.slim(program, random_plan(program))
    swdc.save(slim, tmp_path / "slim")
    loaded = swdc.load(tmp_path / "slim")
    other = Sample(image(5, 3, seed=3), image(5, 3, seed=4))
    assert torch.equal(loaded(other, Mode.DOUBLE, Settings()), slim(other, *example[1:]))
    again = swdc.verify(swdc.mask(program, slim.facts.origin.plan), loaded)  # type: ignore[union-attr]
    assert again.exact
    assert type(loaded.facts.example[0][0]).__name__ == "Sample"
    for wrong in ((other, Mode.TRIPLE, Settings()), (other, Mode.DOUBLE, Settings(3.0)), (other, "double", Settings())):
        with pytest.raises(InputError, match="as in the example"):
            loaded(*wrong)
    with pytest.raises(InputError, match="structure"):
        loaded(Sample(other.left, other.right, other.left), Mode.DOUBLE, Settings())
    swdc.save(loaded, tmp_path / "again")
    assert swdc.load(tmp_path / "again").hash() == loaded.hash()


def test_an_argument_that_holds_more_than_plain_data_is_refused(tmp_path: Path) -> None:
    settings = Settings()
    settings.inner["mode"] = torch.ones(1)  # type: ignore[assignment]

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 6)

        def forward(self, x: torch.Tensor, settings: Settings) -> torch.Tensor:
            return self.a(x) * settings.scale

    program = swdc.trace(Net().eval(), (torch.randn(4, 3), settings))
    with pytest.raises(ArtifactError, match="of type Settings, which cannot be saved"):
        swdc.save(program, tmp_path / "net")
    with pytest.raises(TraceError, match=r"got tuple of Settings; .* or register Settings with"):
        swdc.trace(Net().eval(), (settings,))
