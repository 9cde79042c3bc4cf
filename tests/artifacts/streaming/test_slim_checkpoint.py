"""Slimming a checkpoint tensor by tensor: the same tensors, bit by bit, as in memory."""

from __future__ import annotations

import json
from collections import ChainMap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import swdc
from swdc.capture.meta_model import trace_skeleton
from swdc.errors import ArtifactError, PlanError
from swdc.ir import weight_sources as values
from tests.support import assert_equal, image, randomise


class Tied(nn.Module):
    """An embedding that is also the head, and a buffer that no checkpoint holds."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden, self.out = nn.Embedding(11, 6), nn.Linear(6, 20), nn.Linear(20, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("scale", torch.tensor([2]), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids) + torch.arange(6, device=ids.device)
        result: torch.Tensor = self.head(x + self.scale * self.out(torch.relu(self.hidden(x))))
        return result


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.Conv2d(12, 12, 3, groups=3), nn.ReLU(),
        nn.Conv2d(12, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5),
    )  # fmt: skip


def folding() -> nn.Module:
    """Sigmoids, whose constants are folded into a bias that is there, and into one that is not."""
    layers = [nn.Linear(5, 9), nn.Sigmoid(), nn.Linear(9, 7), nn.Sigmoid(), nn.Linear(7, 4, bias=False)]
    return nn.Sequential(*layers)


def ids() -> torch.Tensor:
    return torch.randint(11, (2, 4), generator=torch.Generator().manual_seed(0))


CASES: dict[str, tuple[Callable[[], nn.Module], torch.Tensor]] = {
    "convolutions": (convolutions, image(2, 3, 8, 8)),
    "folding": (folding, image(2, 5)),
    "tied": (Tied, ids()),
}


def sharded(model: nn.Module, folder: Path) -> Path:
    """Write a model as a checkpoint of two files with an index, each tied tensor once."""
    folder.mkdir()
    unique = {id(t): name for name, t in reversed(model.state_dict(keep_vars=True).items())}
    tensors = {
        name: t.detach().clone() for name, t in model.state_dict(keep_vars=True).items() if unique[id(t)] == name
    }
    names = sorted(tensors)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, own in files.items():
        save_file({name: tensors[name] for name in own}, folder / file)
    where = {name: file for file, own in files.items() for name in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def empty(make: Callable[[], nn.Module], example: torch.Tensor, weights: swdc.Checkpoint) -> swdc.Program:
    """Return the program of a model on the meta device, in the types of a checkpoint."""
    return trace_skeleton(make, example, {name: weights.entry(name).dtype for name in weights})


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[Callable[[], nn.Module], torch.Tensor]:
    return CASES[request.param]


@pytest.mark.parametrize("part", [1 << 22, 8], ids=["whole", "parts"])
def test_the_streamed_tensors_are_those_of_the_slim_program(
    case: tuple[Callable[[], nn.Module], torch.Tensor], part: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, example = case
    monkeypatch.setattr(values, "PART", part)
    model = randomise(make()).eval()
    weights = swdc.Checkpoint(sharded(model, tmp_path / "dense"))
    program = swdc.trace(model, example)
    chosen = swdc.plan(program, 0.5)
    expected = swdc.slim(program, chosen)
    blank = empty(make, example, weights)
    assert blank.hash() == program.hash()
    plan = swdc.plan(blank, 0.5, weights=weights)
    assert plan.kept == chosen.kept
    described = swdc.slim_checkpoint(blank, plan, weights, tmp_path / "slim", shard_bytes=600)
    loaded = swdc.load(tmp_path / "slim")
    assert loaded.hash() == described.hash() == expected.hash()
    assert list(loaded.tensors) == list(expected.tensors)
    for name, tensor in expected.tensors.items():
        assert torch.equal(loaded.tensors[name], tensor), name
    assert_equal(expected(example), loaded(example))
    assert swdc.verify(swdc.mask(program, chosen), loaded).exact


def test_the_folder_is_a_sharded_checkpoint_under_the_names_of_the_model(tmp_path: Path) -> None:
    model = randomise(Tied()).eval()
    weights = swdc.Checkpoint(sharded(model, tmp_path / "dense"))
    blank = empty(Tied, ids(), weights)
    swdc.slim_checkpoint(blank, swdc.plan(blank, 0.5, weights=weights), weights, tmp_path / "slim", shard_bytes=600)
    index = json.loads((tmp_path / "slim" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(weights)
    assert len(set(index["weight_map"].values())) > 1
    total = 0
    for name, file in index["weight_map"].items():
        tensor = load_file(tmp_path / "slim" / file)[name]
        total += tensor.numel() * tensor.element_size()
    assert index["metadata"]["total_size"] == total
    assert swdc.Checkpoint(tmp_path / "slim")["hidden.weight"].shape[0] < 20


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    model = randomise(folding()).eval()
    dense = sharded(model, tmp_path / "dense")
    weights = swdc.Checkpoint(dense)
    blank = empty(folding, image(2, 5), weights)
    plan = swdc.plan(blank, 0.5, criterion="uniform")
    swdc.slim_checkpoint(blank, plan, weights, tmp_path / "slim")
    before = {file.name: file.read_bytes() for file in (tmp_path / "slim").iterdir()}
    for file in dense.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ArtifactError, match="ends early"):
        swdc.slim_checkpoint(blank, plan, weights, tmp_path / "slim")
    assert {file.name: file.read_bytes() for file in (tmp_path / "slim").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense", "slim"]


def test_an_altered_shard_is_refused(tmp_path: Path) -> None:
    model = randomise(folding()).eval()
    weights = swdc.Checkpoint(sharded(model, tmp_path / "dense"))
    blank = empty(folding, image(2, 5), weights)
    swdc.slim_checkpoint(blank, swdc.plan(blank, 0.5, weights=weights), weights, tmp_path / "slim")
    shard = next((tmp_path / "slim").glob("model-*"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ArtifactError, match="truncated or altered"):
        swdc.load(tmp_path / "slim")


def test_weights_that_do_not_fit_are_told_before_anything_is_written(tmp_path: Path) -> None:
    model = randomise(folding()).eval()
    state = {name: t.detach().clone() for name, t in model.state_dict().items()}
    weights = swdc.Checkpoint(sharded(model, tmp_path / "dense"))
    blank = empty(folding, image(2, 5), weights)
    plan = swdc.plan(blank, 0.5, criterion="uniform")
    with pytest.raises(PlanError, match=r"expected values for 0\.weight, which is on the meta device"):
        swdc.slim_checkpoint(blank, plan, {}, tmp_path / "slim")
    with pytest.raises(PlanError, match=r"expected 0\.bias of shape \(9,\), got \(3,\) in the weights"):
        swdc.slim_checkpoint(blank, plan, {**state, "0.bias": torch.zeros(3)}, tmp_path / "slim")
    program = swdc.trace(randomise(folding()).eval(), image(2, 5))
    with pytest.raises(PlanError, match=r"expected a program on the meta device, got one with values of its own"):
        swdc.slim_checkpoint(program, swdc.plan(program, 0.5), state, tmp_path / "slim")
    assert not (tmp_path / "slim").exists()


class Scaled(nn.Module):
    """Computes a buffer when it is made, and does not store it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)
        self.register_buffer("scale", torch.arange(1.0, 9.0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x * self.scale)))  # type: ignore[operator]


def test_a_buffer_that_was_lost_on_the_meta_device_comes_from_a_model_or_from_the_caller(tmp_path: Path) -> None:
    save_file(Scaled().state_dict(), tmp_path / "model.safetensors")
    weights = swdc.Checkpoint(tmp_path)
    with torch.device("meta"):
        lost = swdc.trace(Scaled().eval(), torch.zeros(2, 8))
    plan = swdc.plan(lost, 0.5, criterion="uniform")
    match = r"values for scale.*trace with swdc\.trace_skeleton.*weights=collections\.ChainMap\(\{'scale': tensor\}"
    with pytest.raises(PlanError, match=match):
        swdc.slim_checkpoint(lost, plan, weights, tmp_path / "slim")
    assert not (tmp_path / "slim").exists()

    swdc.slim_checkpoint(lost, plan, ChainMap({"scale": torch.arange(1.0, 9.0)}, weights), tmp_path / "given")
    kept = swdc.trace_skeleton(Scaled, torch.zeros(2, 8), weights)
    swdc.slim_checkpoint(kept, swdc.plan(kept, 0.5, criterion="uniform"), weights, tmp_path / "kept")
    whole = Scaled().eval()
    whole.load_state_dict(load_file(tmp_path / "model.safetensors"))
    program = swdc.trace(whole, torch.zeros(2, 8))
    x = torch.randn(3, 8)
    expected = swdc.slim(program, swdc.plan(program, 0.5, criterion="uniform"))(x)
    assert_equal(expected, swdc.load(tmp_path / "given")(x))
    assert_equal(expected, swdc.load(tmp_path / "kept")(x))


def test_a_parameter_that_the_weights_lack_is_told(tmp_path: Path) -> None:
    state = Scaled().state_dict()
    del state["last.bias"]
    save_file(state, tmp_path / "model.safetensors")
    weights = swdc.Checkpoint(tmp_path)
    skeleton = swdc.trace_skeleton(Scaled, torch.zeros(2, 8), weights)
    with pytest.raises(PlanError, match=r"values for last\.bias.*lack this parameter.*ChainMap\(\{'last\.bias'"):
        swdc.slim_checkpoint(skeleton, swdc.plan(skeleton, 0.5, criterion="uniform"), weights, tmp_path / "slim")
