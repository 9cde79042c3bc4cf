"""Settings of all tests: one thread, fixed seeds, golden files that can be written anew."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from swdc.ir.seeding import seed_all

GOLDEN = Path(__file__).parent / "passes" / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate-golden", action="store_true", help="write the files under tests/passes/golden anew")


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)  # the networks here are so small that threads only wait for each other


def pytest_collection_finish() -> None:
    gc.freeze()  # what torch, transformers and the tests hold stays, and need not be looked at again and again
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    seed_all(0)


@pytest.fixture(scope="session")
def gcn() -> Callable[..., torch.nn.Module]:
    """Return the graph network of PyG, which is slow to import and warns while it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch_geometric.nn.models import GCN
    network: Callable[..., torch.nn.Module] = GCN
    return network


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Return a function that compares text with the golden file of a name, or writes that file."""
    regenerate = request.config.getoption("--regenerate-golden")

    def compare(name: str, actual: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if regenerate:
            path.write_text(actual, encoding="utf-8")
        assert path.exists(), f"expected the golden file {path.name}; write it with --regenerate-golden"
        expected = path.read_text(encoding="utf-8")
        assert actual == expected, f"{path.name} differs; if the change is meant, run with --regenerate-golden"

    return compare
