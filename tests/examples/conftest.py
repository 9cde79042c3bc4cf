"""The scripts in ``examples/paper`` import what they share from the folder that they lie in."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

PAPER = Path(__file__).parent.parent.parent / "examples" / "paper"
sys.path.insert(0, str(PAPER))


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    """Return a folder with 24 images to train on and 8 to test on, as torchvision keeps MNIST."""
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name, count in (("train", 24), ("t10k", 8)):
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = np.array([0x800 + array.ndim, *array.shape], dtype=">i4").tobytes()
            (raw / f"{name}-{kind}-ubyte").write_bytes(head + array.tobytes())
    return tmp_path / "data"


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """Return a folder with 20 images to train on and 10 to test on, as JPEGs in folders of their class."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 2), ("test", 1)):
        for label in range(10):
            folder = tmp_path / "data" / "cifar10" / split / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.jpg")
    return tmp_path / "data"


@pytest.fixture
def run_script(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that runs the ``main`` of a script with the given command line."""

    def run(script: ModuleType, *arguments: object) -> None:
        monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *map(str, arguments)])
        script.main()

    threads = torch.get_num_threads()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    return run
