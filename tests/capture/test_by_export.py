"""Capture by ``torch.export``: what is dynamic, and that it gives the program that following gives."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import swdc
from swdc.capture.by_export import Export
from tests.support import Function, assert_equal, assert_same, certified, conv, image, randomise


def test_inputs_without_a_shared_batch() -> None:
    model = randomise(Function(lambda m, x, e: m.a(x)[e[0]] + m.a(x)[e[1]], a=nn.Linear(6, 4))).eval()
    program = swdc.trace(model, (image(5, 6), torch.tensor([[0, 1, 2], [2, 3, 4]])))
    given = (image(7, 6), torch.tensor([[0, 1, 6, 5], [2, 3, 4, 6]]))
    assert program.facts.batch is None
    assert_equal(model(*given), program(*given))


def test_export_gives_the_program_that_following_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = (conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 4), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 3))
    model = randomise(nn.Sequential(*layers)).eval()
    followed = swdc.trace(model, image(2, 3, 8, 8))
    monkeypatch.setattr("swdc.capture.trace.WAYS", (Export(),))
    exported = swdc.trace(model, image(2, 3, 8, 8))
    assert (followed.facts.captured_by, exported.facts.captured_by) == ("follow", "export")
    assert str(replace(exported.explanation, sizes=())) == str(replace(followed.explanation, sizes=()))
    assert exported.groups[0].width == 8
    for batch in (1, 2, 5):
        assert_equal(exported(image(batch, 3, 8, 8)), followed(image(batch, 3, 8, 8)))


def _graphs(nodes: int, graphs: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(nodes)
    features = torch.randn(nodes, 8, generator=generator, dtype=torch.float64)
    edges = torch.randint(nodes, (2, 3 * nodes), generator=generator)
    return features, edges, torch.arange(nodes) * graphs // nodes


@pytest.mark.parametrize("pool", ["mean", "max", "add"])
def test_a_classifier_of_graphs_takes_any_number_of_graphs(pool: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch_geometric uses of torch is deprecated
        import torch_geometric.nn as geometric

    pooled = getattr(geometric, f"global_{pool}_pool")
    parts = {"a": geometric.SAGEConv(8, 16), "b": geometric.GCNConv(16, 12), "head": nn.Linear(12, 3)}
    model = Function(lambda m, x, e, g: m.head(pooled(m.b(m.a(x, e).relu(), e).relu(), g)), **parts)
    model = randomise(model).eval()
    program = swdc.trace(model, _graphs(40, 4))
    masked, slim = certified(program)
    swdc.save(slim, tmp_path / "slim")
    swdc.export_onnx(slim, tmp_path / "slim.onnx")  # compared at other sizes
    mine, loaded = swdc.transplant(slim, model), swdc.load(tmp_path / "slim")
    for given in (_graphs(50, 5), _graphs(33, 2), _graphs(10, 1)):
        assert_equal(model(*given), program(*given))
        assert_same(masked(*given), slim(*given))
        assert_same(masked(*given), mine(*given))
        assert_equal(slim(*given), loaded(*given))
