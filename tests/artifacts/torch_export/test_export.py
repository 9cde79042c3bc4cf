"""Files of torch.export compute what the program computes, and refuse what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.torch_export import export as module
from swdc.errors import ExportError
from tests.support import Function, image, traced


def _loaded(path: Path) -> Any:
    return torch.export.load(path).module()


def _small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3))


def test_a_slim_program_runs_without_swdc_at_other_sizes(tmp_path: Path) -> None:
    program = traced(_small(), image(2, 3, 8, 8))
    plan = swdc.plan(program, 0.5)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    before = {name: tensor.clone() for name, tensor in slim.state_dict().items()}
    certificate = swdc.verify(masked, slim)
    report = swdc.export(slim, tmp_path / "net.pt2", certificate=certificate)
    assert (report.batches, report.fixed) == ((1, 3), ())
    assert report.max_relative_error <= 1e-12  # float64
    assert report.file_bytes == report.path.stat().st_size == report.to_dict()["file_bytes"]
    loaded = _loaded(report.path)
    for shape in ((1, 3, 8, 8), (4, 3, 11, 6)):
        x = image(*shape, seed=7)
        assert torch.allclose(loaded(x), masked(x), rtol=1e-9, atol=1e-12)
    assert all(torch.equal(before[name], tensor) for name, tensor in slim.state_dict().items())
    facts = {"swdc.json": ""}
    torch.export.load(report.path, extra_files=facts)
    told = json.loads(facts["swdc.json"])
    assert told["swdc.plan.sha256"] == plan.sha256()
    assert (told["swdc.certificate.exact"], told["swdc.sizes"]) == (
        "true", json.dumps({"batch": 2, "height": 8, "width": 8}),
    )  # fmt: skip


def test_for_deployment(tmp_path: Path) -> None:
    program = traced(_small(), image(2, 3, 8, 8))
    swdc.export(program, tmp_path / "net.pt2", deploy=True)
    exported = torch.export.load(tmp_path / "net.pt2")
    assert not any("batch_norm" in str(node.target) for node in exported.graph.nodes)
    x = image(3, 3, 9, 9)
    assert torch.allclose(exported.module()(x), program(x), rtol=1e-9, atol=1e-12)


def _by_height(m: Any, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    y = m.conv(x * 2 if x.shape[2] > 20 else x)
    return y.reshape(len(y), 4, -1, x.shape[3] // 4).mean((2, 3)) * weights[:, None]


def test_sizes_at_which_the_model_does_something_else_are_refused(tmp_path: Path) -> None:
    model = Function(_by_height, conv=nn.Conv2d(3, 4, 3, padding=1))
    program = traced(model, (image(2, 3, 32, 32), image(2)))
    swdc.export(program, tmp_path / "net.pt2")
    loaded = _loaded(tmp_path / "net.pt2")
    x = image(3, 3, 21, 8)
    assert torch.allclose(loaded(x, image(3)), model(x, image(3)))
    for inputs in (
        (image(3, 3, 20, 8), image(3)),  # another branch
        (image(3, 3, 21, 7), image(3)),  # no multiple of four
        (image(3, 3, 21, 8), image(1)),  # sizes of one name
    ):
        with pytest.raises(AssertionError, match="Guard failed"):
            loaded(*inputs)


def test_a_size_that_follows_from_others(tmp_path: Path) -> None:
    model = Function(lambda m, x, y: torch.cat([m.one(x), m.one(x)], 1) + y, one=nn.Linear(4, 6))
    program = traced(model, (image(2, 5, 4), image(2, 10, 6)))
    swdc.export(program, tmp_path / "net.pt2")
    loaded = _loaded(tmp_path / "net.pt2")
    x, y = image(3, 7, 4), image(3, 14, 6)
    assert torch.allclose(loaded(x, y), model(x, y))
    with pytest.raises(Exception, match=r"Guard failed|Expected input|must match"):
        loaded(x, image(3, 1, 6))


class Structured(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor, *, masks: dict[str, torch.Tensor], flag: bool = True) -> dict[str, Any]:
        self.calls += 1
        hidden = self.one(x) * masks["rows"][:, None]
        return {"pair": (hidden + 1, hidden), "calls": self.calls.clone()}


def test_arguments_results_and_buffers_are_the_model_s(tmp_path: Path) -> None:
    given = {"x": torch.randn(2, 4), "masks": {"rows": torch.rand(2)}, "flag": True}
    program = swdc.trace(Structured().eval(), given)
    swdc.export(program, tmp_path / "net.pt2")
    loaded, model = _loaded(tmp_path / "net.pt2"), Structured().eval()
    model.load_state_dict(program.state_dict())
    x, masks = torch.randn(5, 4), {"rows": torch.rand(5)}
    for _ in range(2):
        got, wanted = loaded(x=x, masks=masks, flag=True), model(x, masks=masks)
        assert torch.allclose(got["pair"][0], wanted["pair"][0])
        assert torch.equal(got["calls"], wanted["calls"])


class Pair(NamedTuple):
    logits: torch.Tensor
    hidden: torch.Tensor


def test_a_class_that_torch_does_not_write_is_named(tmp_path: Path) -> None:
    program = traced(Function(lambda m, x: Pair(m.one(x), x), one=nn.Linear(4, 3)), image(2, 4))
    with pytest.raises(ExportError, match=r"torch.export can write, but it fails: .*class .*Pair.* register"):
        swdc.export(program, tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())


def test_half_precision_in_its_own_type(tmp_path: Path) -> None:
    program = swdc.trace(nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 2)).bfloat16().eval(),
                         torch.randn(2, 8, dtype=torch.bfloat16))  # fmt: skip
    swdc.export(program, tmp_path / "net.pt2")
    assert _loaded(tmp_path / "net.pt2")(torch.randn(3, 8, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_a_program_that_torch_cannot_export_with_free_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = module._exported

    def only_fixed(source: Any, fixed: Any) -> Any:
        if not fixed:
            raise ExportError("expected a program that torch.export can export, but it fails")
        return made(source, fixed)

    monkeypatch.setattr(module, "_exported", only_fixed)
    program = traced(Function(lambda m, x: m.one(x).sum(1), one=nn.Linear(4, 2)), image(2, 8, 4))
    with pytest.warns(UserWarning, match="takes length as in the example alone; .* but it fails"):
        report = swdc.export(program, tmp_path / "net.pt2")
    assert report.fixed == ("length",)
    loaded = _loaded(report.path)
    assert loaded(image(5, 8, 4)).shape == (5, 2)
    with pytest.raises(AssertionError, match="Guard failed"):
        loaded(image(5, 9, 4))


def test_a_wrong_file_is_not_handed_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, path = traced(_small(), image(2, 3, 8, 8)), tmp_path / "net.pt2"
    path.write_bytes(b"earlier")
    made = module._exported
    other = traced(_small(), image(2, 3, 8, 8), seed=1)
    monkeypatch.setattr(module, "_exported", lambda source, fixed: made(other, fixed))
    with pytest.raises(ExportError, match=r"within a relative error of 1\.8e-12 in torch.export, got .* at batch 1"):
        swdc.export(program, path)
    assert path.read_bytes() == b"earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt2"]


@pytest.mark.parametrize("larger", [False, True])
def test_a_file_that_is_wrong_at_other_sizes_takes_the_example_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, larger: bool
) -> None:
    made = module._running

    def running(file: Path) -> Any:
        run = made(file)

        def changed(given: Any) -> list[torch.Tensor]:
            length = given[0][0].shape[1]
            if larger and length < 8:
                raise ExportError("refused, as torch does where a size on the way becomes one")
            return [t * (2 if length != 8 else 1) for t in run(given)]

        return changed

    monkeypatch.setattr(module, "_running", running)
    program = traced(Function(lambda m, x: m.one(x).sum(1), one=nn.Linear(4, 2)), image(2, 8, 4))
    with pytest.warns(UserWarning, match="takes length as in the example alone; .*relative error"):
        assert swdc.export(program, tmp_path / "net.pt2").fixed == ("length",)


def test_what_is_refused(tmp_path: Path) -> None:
    program = traced(_small(), image(2, 3, 8, 8))
    with pytest.raises(ExportError, match=re.escape("ends in .pt2, got net.onnx; swdc.export_onnx writes ONNX")):
        swdc.export(program, "net.onnx")
    with pytest.raises(ExportError, match="a path holds no null character"):
        swdc.export(program, "a\0b.pt2")
    (tmp_path / "net.pt2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExportError, match="expected the path of a file to write"):
        swdc.export(program, tmp_path / "net.pt2")
    with pytest.raises(ExportError, match="positive batch sizes"):
        swdc.export(program, tmp_path / "other.pt2", batches=())
    with pytest.raises(ExportError, match="tolerance that is positive"):
        swdc.export(program, tmp_path / "other.pt2", tolerance=0.0)
