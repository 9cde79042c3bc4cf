"""Saving and loading: what comes back is what was saved, and what cannot be trusted is refused."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import subprocess
import sys
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import fx, nn
from torch.nn import functional
from torch.utils import _pytree as pytree

import swdc
from swdc.artifacts.folder.json_values import (
    decode,
    decode_target,
    encode,
    encode_target,
)
from swdc.artifacts.folder.save import _read, load_certificate
from swdc.artifacts.folder.structures import decode_structure, encode_structure
from swdc.artifacts.storage.folders import _hash_of
from swdc.artifacts.storage.plain_json import read_json
from swdc.errors import ArtifactError, ExportError, InputError
from swdc.ir.atomic_files import _aside
from swdc.ir.call import Ref
from swdc.ir.program import Program
from swdc.ir.sizes import parse
from tests.support import certified, image, random_plan, randomise, traced

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torch_geometric uses of torch is deprecated
    from torch_geometric.datasets import KarateClub
    from torch_geometric.nn.models import GCN


class Residual(nn.Module):
    """A residual block with dropout, and a sigmoid whose constants are folded."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.one, self.two = nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 8, 3, padding=1)
        self.drop, self.hidden, self.head = nn.Dropout(0.3), nn.Linear(8, 10), nn.Linear(10, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.norm(self.stem(x)))
        x = functional.relu(x + self.two(functional.relu(self.one(x))))
        hidden: torch.Tensor = self.head(torch.sigmoid(self.hidden(self.drop(x.mean((2, 3))))))
        return hidden


class Nested(nn.Module):
    """Two inputs, one by name, options that are not tensors; nested results with constants and a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.other = nn.Linear(4, 6), nn.Linear(4, 6)

    def forward(self, xs: list[torch.Tensor], scale: float, *, named: dict[str, torch.Tensor], flag: bool) -> Any:
        y = self.dense(xs[0]) * scale + self.other(named["a"])
        return {
            "y": y,
            "pair": (functional.relu(y), [y.argmax(1), None]),
            "bias": self.dense.bias,
            "flag": flag,
        }


class Tied(nn.Module):
    """One table for two layers, and one buffer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(11, 6, padding_idx=2), nn.Linear(6, 11, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("offset", torch.randn(6))
        self.register_buffer("again", self.offset)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.table(ids) + self.offset * self.again)
        return result


class EveryLeaf(nn.Module):
    """One of each kind of leaf module, with options other than the defaults."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding="same", groups=1, bias=False),
            nn.BatchNorm2d(8, eps=1e-3, momentum=None),
            nn.PReLU(8),
            nn.Conv2d(8, 8, (3, 1), stride=(2, 1), padding=(1, 0), dilation=(2, 1), groups=4),
            nn.BatchNorm2d(8, affine=False),
            nn.Dropout2d(0.2),
            nn.BatchNorm2d(8, track_running_stats=False),
            nn.InstanceNorm2d(8, affine=True, eps=1e-4),
            nn.GroupNorm(2, 8, eps=1e-4),
            nn.Flatten(2),
            nn.Conv1d(8, 4, 2, stride=2),
            nn.LayerNorm(12, eps=1e-4, bias=False),
            nn.Unflatten(2, (3, 2, 2)),
            nn.Conv3d(4, 2, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.layers(x)
        return result


class Literals(nn.Module):
    """Operators with arguments of every type."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Linear(4, 4)
        self.register_buffer("mask", torch.tensor([True, False, False, True]))
        self.register_buffer("scratch", torch.randn(4), persistent=False)
        self.register_buffer("steps", torch.tensor(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.dense(x).masked_fill(self.mask, float("-inf")).softmax(1) + self.scratch * self.steps
        ones = torch.ones(4, dtype=x.dtype, device="cpu", layout=torch.strided)
        y = y.clone(memory_format=torch.contiguous_format).to(torch.float64) + ones.clamp(max=float("inf"))
        return functional.gelu(y[:, 1:], approximate="tanh") * (x.shape[0] + 1)


def described(program: Program) -> list[Any]:
    """Return the groups of a program as plain data."""
    return [
        (g.name, g.width, [(m.tensor, m.dim, m.indices.tolist(), sorted(m.roles)) for m in g.members])
        for g in program.groups
    ]


def outputs(program: Program, seed: int = 5) -> list[Any]:
    """Return the flat results of a program on its example, with the same random numbers each time."""
    args, kwargs = program.facts.example
    torch.manual_seed(seed)
    with torch.no_grad():
        return pytree.tree_leaves(program.clone()(*args, **kwargs))


def assert_equal(saved: list[Any], loaded: list[Any]) -> None:
    """Assert that two lists of tensors and other values are equal bit for bit."""
    assert len(saved) == len(loaded)
    for one, other in zip(saved, loaded, strict=True):
        if not isinstance(one, torch.Tensor):
            assert one == other
            continue
        assert one.dtype == other.dtype
        assert torch.equal(one.nan_to_num(), other.nan_to_num())


def assert_same(program: Program, loaded: Program) -> None:
    """Assert that a program came back as it was saved."""
    assert loaded is not program
    assert loaded.hash() == program.hash()
    assert loaded.code == program.code
    assert list(loaded.state_dict()) == list(program.state_dict())
    mine, theirs = program.tensors, loaded.tensors
    assert list(theirs) == list(mine)
    assert_equal(list(mine.values()), list(theirs.values()))
    assert [t.stride() for t in theirs.values()] == [t.stride() for t in mine.values()]
    assert [type(t) for t in theirs.values()] == [type(t) for t in mine.values()]
    assert [t.requires_grad for t in theirs.values()] == [t.requires_grad for t in mine.values()]
    assert loaded.transient == program.transient
    modes = [{n: m.training for n, m in p.named_modules(remove_duplicate=False)} for p in (program, loaded)]
    assert modes[0] == modes[1]
    assert_equal(pytree.tree_leaves(program.facts.example), pytree.tree_leaves(loaded.facts.example))
    assert (loaded.facts.symbols, loaded.facts.batch) == (program.facts.symbols, program.facts.batch)
    assert loaded.facts.notes == program.facts.notes
    assert described(loaded) == described(program)
    assert loaded.explain() == program.explain()
    assert_equal(outputs(program), outputs(loaded))


def saved_and_loaded(program: Program, tmp_path: Path) -> Program:
    assert swdc.save(program, tmp_path / "saved") == tmp_path / "saved"
    loaded = swdc.load(tmp_path / "saved")
    assert_same(program, loaded)
    return loaded


@pytest.fixture(scope="module")
def program() -> Program:
    return traced(Residual()).train()


@pytest.fixture
def folder(program: Program, tmp_path: Path) -> Path:
    return swdc.save(program, tmp_path / "saved")


# -- what comes back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_a_program_comes_back(training: bool, tmp_path: Path) -> None:
    program = saved_and_loaded(traced(Residual()).train(training), tmp_path)
    assert program.training is training
    assert program(image(5, 3, 8, 8)).shape == (5, 4)


def test_a_folder_holds_plain_files_and_their_hashes(program: Program, folder: Path) -> None:
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["example.safetensors", "graph.json", "manifest.json", "weights.safetensors"]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["format"] == "swdc-program"
    assert manifest["version"] == 2
    assert manifest["swdc"] == swdc.__version__
    assert manifest["program_hash"] == program.hash()
    hashes = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    del hashes["manifest.json"]
    assert manifest["files"] == hashes


def test_a_slim_program_comes_back_with_its_origin(tmp_path: Path) -> None:
    dense = swdc.insert_batchnorm(traced(Residual()))
    plan = random_plan(dense)
    masked, slim = certified(dense, plan)
    certificate = swdc.verify(masked, slim)
    swdc.save(slim, tmp_path / "slim", certificate)
    loaded = swdc.load(tmp_path / "slim")
    assert_same(slim, loaded)
    mine, theirs = slim.facts.origin, loaded.facts.origin
    assert mine is not None
    assert theirs is not None
    assert theirs.plan == plan
    assert theirs.before == mine.before
    assert theirs.folded.keys() == mine.folded.keys() != set()
    assert_equal(list(mine.folded.values()), list(theirs.folded.values()))
    assert swdc.count(loaded) == swdc.count(slim)
    assert load_certificate(tmp_path / "slim") == certificate
    assert swdc.verify(masked, loaded).exact


def test_a_certificate_is_optional(folder: Path) -> None:
    assert load_certificate(folder) is None


def test_a_masked_program_comes_back_without_the_dense_one(program: Program, tmp_path: Path) -> None:
    masked = swdc.mask(program, random_plan(program))
    loaded = saved_and_loaded(masked, tmp_path)
    assert loaded.facts.origin is not None
    assert loaded.facts.origin.plan == random_plan(program)
    assert loaded.facts.origin.dense is None


def test_a_loaded_program_takes_the_plans_of_the_saved_one(program: Program, folder: Path) -> None:
    plan = random_plan(program)
    certified(swdc.load(folder).eval(), plan)


def test_a_loaded_program_trains(folder: Path) -> None:
    loaded = swdc.load(folder)
    before = loaded.stem.weight.clone()
    loaded(image(4, 3, 8, 8)).square().mean().backward()
    torch.optim.SGD(loaded.parameters(), lr=0.1).step()
    assert not torch.equal(loaded.stem.weight, before)


def test_inputs_and_outputs_of_any_structure_come_back(tmp_path: Path) -> None:
    model = randomise(Nested()).float()
    given = {"xs": [torch.randn(1, 4)], "scale": 0.5, "named": {"a": torch.randn(1, 4)}, "flag": True}
    loaded = saved_and_loaded(swdc.trace(model, given), tmp_path)
    result = loaded(**given)
    assert list(result) == ["y", "pair", "bias", "flag"]
    assert isinstance(result["pair"], tuple)
    assert isinstance(result["pair"][1], list)
    assert result["bias"] is loaded.dense.bias
    assert result["flag"] is True
    assert result["pair"][1][1] is None


class Pair(NamedTuple):
    left: torch.Tensor
    right: Any = None


@dataclass
class Result:
    pair: Pair
    name: str


class Joining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, given: Pair) -> Any:
        hidden = self.two(self.one(given.left).relu())
        found = defaultdict(list, {(1, "a"): [hidden]})
        return Result(Pair(hidden + given.right, {0: hidden}), "x"), found, OrderedDict({(2,): hidden})


def test_classes_of_results_and_inputs_come_back_by_name_and_fields(tmp_path: Path) -> None:
    given = Pair(torch.randn(2, 4), torch.randn(2, 3))
    program = swdc.trace(randomise(Joining()).float(), (given,))
    expected, found, keyed = program(given)
    loaded = swdc.load(swdc.save(swdc.load(swdc.save(program, tmp_path / "one")), tmp_path / "two"))
    result, again, others = loaded(given)
    assert type(result) is not Result
    assert (type(result).__name__, type(result.pair).__name__, result.pair._fields) == ("Result", "Pair", Pair._fields)
    assert result.name == "x"
    assert torch.equal(result.pair.left, expected.pair.left)
    assert torch.equal(result.pair.right[0], expected.pair.right[0])
    assert torch.equal(again[1, "a"][0], found[1, "a"][0])
    assert (type(others), list(others), again["new"]) == (OrderedDict, list(keyed), [])
    with pytest.raises(InputError, match="expected given with the structure"):
        loaded((given.left, given.right))


def test_a_class_is_made_of_nothing_but_names(tmp_path: Path) -> None:
    for described in (["named tuple", "os", "a b"], ["dataclass", "x()", "a"], ["dataclass", "x", "a b"], ["x", "y"]):
        data = {"type": "swdc.described", "context": json.dumps(described), "children_spec": [LEAF]}
        with pytest.raises((ValueError, TypeError, LookupError)):
            decode_structure(json.dumps([1, data]))
    data = {"type": "swdc.described", "context": '["defaultdict", "system", []]', "children_spec": []}
    with pytest.raises(StopIteration):
        decode_structure(json.dumps([1, data]))


NAMES = ['a"b', "a'b", "a\\b", "a\nb", "\0", "a b", "for", "graph", "é", '"];import os#', "{x}", "%s"]


@pytest.mark.parametrize("name", NAMES)
def test_modules_and_tensors_of_any_name_come_back(name: str, tmp_path: Path) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.ModuleDict({name: nn.Linear(4, 6)}), nn.Linear(6, 3)
            self.register_buffer(f"b{name}", torch.rand(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = self.head(self.inner[name](x).relu())
            return hidden * getattr(self, f"b{name}")

    program = swdc.trace(randomise(Named()).float(), torch.randn(2, 4))
    plan = random_plan(program)
    assert_same(program, saved_and_loaded(program, tmp_path))
    assert_same(swdc.slim(program, plan), saved_and_loaded(swdc.slim(program, plan), tmp_path))


def test_tied_tensors_are_stored_once_and_stay_tied(tmp_path: Path) -> None:
    model = randomise(Tied())
    model.again = model.offset  # a change of dtype unties buffers
    program = swdc.trace(model, torch.randint(0, 11, (2, 5)))
    loaded = saved_and_loaded(program, tmp_path)
    assert sorted(load_file(tmp_path / "saved" / "weights.safetensors")) == ["offset", "table.weight"]
    assert loaded.table.weight is loaded.head.weight
    assert loaded.offset is loaded.again
    assert len(list(loaded.parameters())) == 1


def test_an_embedding_comes_back(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Embedding(11, 6, padding_idx=2, scale_grad_by_freq=True), nn.Linear(6, 2))
    program = swdc.trace(randomise(model), torch.randint(0, 11, (2, 5)))
    table = saved_and_loaded(program, tmp_path).get_submodule("0")
    assert (table.padding_idx, table.scale_grad_by_freq, table.sparse) == (2, True, False)


def test_every_leaf_module_comes_back(tmp_path: Path) -> None:
    program = traced(EveryLeaf(), image(2, 3, 7, 8)).train()
    loaded = saved_and_loaded(program, tmp_path)
    assert len(loaded.leaves) == 12
    assert [str(module) for module in loaded.modules()] == [str(module) for module in program.modules()]
    assert loaded.layers.get_submodule("1").momentum is None


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_arguments_buffers_and_dtypes_come_back(dtype: torch.dtype, tmp_path: Path) -> None:
    program = swdc.trace(Literals().to(dtype), torch.randn(3, 4).to(dtype))
    loaded = saved_and_loaded(program, tmp_path)
    assert loaded.dense.weight.dtype == dtype
    assert (loaded.mask.dtype, loaded.steps.dtype) == (torch.bool, torch.int64)
    assert loaded.transient == {"scratch"}
    assert "scratch" not in loaded.state_dict()


def test_what_the_user_has_set_comes_back(tmp_path: Path) -> None:
    program = traced(Residual()).train()
    program.stem.weight.requires_grad_(False)
    program.norm.eval()
    program.norm.momentum = 0.01
    program.drop.p = 0.7
    program.one.weight.data = program.one.weight.data.to(memory_format=torch.channels_last)
    loaded = saved_and_loaded(program, tmp_path)
    assert not loaded.norm.training
    assert (loaded.norm.momentum, loaded.drop.p) == (0.01, 0.7)
    assert loaded.one.weight.is_contiguous(memory_format=torch.channels_last)


def test_tensors_that_share_memory_come_back(tmp_path: Path) -> None:
    program = traced(Residual())
    program.head.bias.data = torch.arange(12.0, dtype=torch.float64)[2:6]
    program.stem.bias.data = program.head.bias.data.repeat(2)[:8]
    program.norm.bias.data = program.stem.bias.data
    saved_and_loaded(program, tmp_path)


def test_a_graph_network_comes_back(tmp_path: Path) -> None:
    data = KarateClub()[0]
    program = traced(GCN(34, 8, 2, 4), (data.x.double(), data.edge_index))
    loaded = saved_and_loaded(program, tmp_path)
    assert loaded.facts.batch is None
    certified(loaded, random_plan(program))
    nodes, edges = torch.randn(9, 34, dtype=torch.float64), torch.randint(0, 9, (2, 20))
    assert torch.equal(loaded(nodes, edges), program(nodes, edges))


def test_another_process_needs_no_class_of_the_users(program: Program, folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, torch, swdc; from safetensors.torch import save_file; torch.set_num_threads(1);"
        "p = swdc.load(sys.argv[1]).eval(); args, kwargs = p.facts.example;"
        "assert 'tests.artifacts.folder.test_save' not in sys.modules;"
        "save_file({'y': p(*args, **kwargs).detach()}, sys.argv[2]); print(p.hash())"
    )
    result = tmp_path / "result.safetensors"
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(folder), str(result)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == program.hash()
    assert_equal(outputs(program.clone().eval()), [load_file(result)["y"]])


# -- saving where something is already ------------------------------------------------------------------------


def test_saving_again_replaces_the_folder(program: Program, folder: Path) -> None:
    slim = swdc.slim(program, random_plan(program))
    swdc.save(slim, folder)
    assert_same(slim, swdc.load(folder))
    swdc.save(program, folder)
    assert_same(program, swdc.load(folder))
    assert not (folder / "plan.json").exists()
    assert [file.name for file in folder.parent.iterdir()] == ["saved"]


def test_an_empty_folder_is_filled(program: Program, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    swdc.save(program, tmp_path / "empty")
    assert_same(program, swdc.load(tmp_path / "empty"))


def test_missing_parents_are_made(program: Program, tmp_path: Path) -> None:
    swdc.save(program, tmp_path / "a" / "b")
    assert_same(program, swdc.load(tmp_path / "a" / "b"))


def test_other_files_are_never_lost(program: Program, folder: Path, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ArtifactError, match=r"expected nothing but a saved program in .*, got notes\.txt, too"):
        swdc.save(program, folder)
    assert (folder / "notes.txt").read_text() == "mine"
    with pytest.raises(ArtifactError, match=r"expected a new or empty folder, or one that swdc wrote, got"):
        swdc.save(program, tmp_path)
    with pytest.raises(ArtifactError, match="expected a folder to save to, got the file"):
        swdc.save(program, folder / "notes.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["saved"]


@pytest.mark.parametrize(
    "step",
    [
        "swdc.artifacts.folder.save.save_tensors",
        "swdc.artifacts.folder.save.seal",
        "swdc.artifacts.storage.folders.put_folder",
    ],
)
def test_a_failed_save_leaves_the_old_folder(
    step: str, program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(step, fail)
    with pytest.raises(ArtifactError, match=r"expected to write .*saved, but the disk is full; .* is as it was"):
        swdc.save(swdc.slim(program, random_plan(program)), folder)
    assert_same(program, swdc.load(folder))
    assert [file.name for file in folder.parent.iterdir()] == ["saved"]


# -- what cannot be saved -------------------------------------------------------------------------------------


def assert_not_saved(program: Program, tmp_path: Path, match: str, **options: Any) -> None:
    with pytest.raises(ArtifactError, match=match):
        swdc.save(program, tmp_path / "saved", **options)
    assert not list(tmp_path.iterdir())


def test_functions_outside_of_torch_ops_are_named(tmp_path: Path) -> None:
    program = traced(Residual())
    with program.graph.inserting_before(program.graph.output_node()):
        program.graph.call_function(math.floor, (2.5,))
    assert_not_saved(program, tmp_path, r"operator module, got the function math\.floor, which cannot be saved")


def test_sizes_and_what_is_computed_from_them(tmp_path: Path) -> None:
    class Sliced(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(12, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[0] % 3 == 0
            y = x[: torch.sym_max(x.shape[0] - 3, 2)] / x.shape[0] ** 0.5
            return y + self.table[: len(y)]

    model = Sliced()
    program = swdc.trace(model, torch.randn(9, 4))
    swdc.save(program, tmp_path / "saved")
    loaded = swdc.load(tmp_path / "saved")
    assert list(map(str, loaded.facts.conditions)) == list(map(str, program.facts.conditions))
    assert loaded.facts.fixed == program.facts.fixed
    for rows in (6, 12, 15):
        torch.testing.assert_close(model(x := torch.randn(rows, 4)), loaded(x))
    for rows, told in ((10, "batch % 3 == 0"), (18, "batch <= 15")):
        with pytest.raises(InputError, match=rf"{told} \(.*test_save.py:\d+\), got batch {rows}; give"):
            loaded(torch.randn(rows, 4))


def test_modules_put_in_by_hand_are_named(tmp_path: Path) -> None:
    program = traced(Residual())
    program.head = nn.Bilinear(1, 1, 1)
    assert_not_saved(program, tmp_path, "expected leaf modules that swdc has built, got Bilinear at 'head'")


def test_modules_changed_by_hand_are_noticed(tmp_path: Path) -> None:
    program = traced(Residual())
    program.head.out_features = 99
    program.recompile()
    assert_not_saved(program, tmp_path, "expected a program whose graph reads back as it was written")


def test_settings_that_json_cannot_hold_are_refused(program: Program, tmp_path: Path) -> None:
    plan = random_plan(program)
    settings: dict[str, object] = {}
    slim = swdc.slim(program, swdc.Plan(plan.kept, plan.widths, plan.program_hash, settings))
    settings["criterion"] = object()  # a plan does not take it when it is made
    assert_not_saved(slim, tmp_path, r"expected plain data for plan\.json, got something else: Object of type object")


def test_a_certificate_of_another_plan_is_refused(program: Program, tmp_path: Path) -> None:
    dense = program.clone().eval()
    certificate = swdc.verify(*certified(dense, random_plan(dense, seed=1)))
    match = "expected a certificate of the plan that the program was made with, got one of another"
    assert_not_saved(swdc.slim(dense, random_plan(dense, seed=2)), tmp_path, match, certificate=certificate)
    assert_not_saved(dense, tmp_path, match, certificate=certificate)


def test_tensors_that_safetensors_cannot_hold_are_refused(tmp_path: Path) -> None:
    program = traced(Residual())
    program.register_buffer("odd", torch.eye(3).to_sparse())
    assert_not_saved(program, tmp_path, "expected dense tensors of types that safetensors can hold")


# -- what cannot be loaded ------------------------------------------------------------------------------------


def test_folders_that_are_none(program: Program, tmp_path: Path) -> None:
    for read in (swdc.load, load_certificate):
        with pytest.raises(ArtifactError, match=r"expected a folder that swdc\.save wrote, got no folder at"):
            read(tmp_path / "none")
        with pytest.raises(ArtifactError, match=r"which has no manifest\.json; check the path"):
            read(tmp_path)


@pytest.mark.parametrize("name", ["graph.json", "weights.safetensors", "example.safetensors", "plan.json"])
@pytest.mark.parametrize("damage", ["missing", "truncated", "altered"])
def test_a_damaged_file_is_named(name: str, damage: str, program: Program, tmp_path: Path) -> None:
    folder = swdc.save(swdc.slim(program, random_plan(program)), tmp_path / "slim")
    file = folder / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        half = len(content) // 2
        file.write_bytes(content[:half] if damage == "truncated" else content[:-9] + b"x" + content[-8:])
    wanted = "it is missing; copy the folder again" if damage == "missing" else "truncated or altered"
    with pytest.raises(ArtifactError, match=f"{name}.*{wanted}"):
        swdc.load(folder)


def test_a_damaged_certificate_is_named(program: Program, tmp_path: Path) -> None:
    dense = program.clone().eval()
    masked, slim = certified(dense)
    folder = swdc.save(slim, tmp_path / "slim", swdc.verify(masked, slim))
    (folder / "certificate.json").write_text("{}")
    for read in (swdc.load, load_certificate):
        with pytest.raises(ArtifactError, match=r"certificate\.json as it was saved, got one that is truncated"):
            read(folder)


def test_a_damaged_manifest_is_named(folder: Path) -> None:
    manifest = folder / "manifest.json"
    content = manifest.read_text()
    broken = [
        content[:40],
        "[]",
        "{}",
        content.replace("swdc-program", "other"),
    ]
    for text in broken:
        manifest.write_text(text)
        with pytest.raises(ArtifactError, match=r"expected .*manifest\.json as swdc\.save writes it, got another form"):
            swdc.load(folder)
    for text in (content.replace('"swdc": "', '"swdc": "9'), content.replace('"torch": "', '"torch": "9')):
        manifest.write_text(text)
        with pytest.raises(ArtifactError, match=r"manifest\.json as it was saved, got one that is altered"):
            swdc.load(folder)


def change_manifest(folder: Path, **changes: Any) -> None:
    """Change the manifest, and write its hash anew."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.update(changes)
    (folder / "manifest.json").write_text(json.dumps({**manifest, "sha256": _hash_of(manifest)}))


@pytest.mark.parametrize("kind", ["listed", "file", "folder"])
def test_a_folder_with_more_than_a_program_is_refused(kind: str, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / ".DS_Store").touch()
    swdc.load(folder)
    if kind == "listed":
        change_manifest(folder, files={**manifest["files"], "../mine": "0"})
    else:
        (folder / "mine").mkdir() if kind == "folder" else (folder / "mine").touch()
    with pytest.raises(ArtifactError, match=r"expected nothing but a saved program in .*, got (\.\./)?mine, too"):
        swdc.load(folder)


def test_folders_of_the_first_format_are_read(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    old = {key: value for key, value in manifest.items() if key != "sha256"}
    (folder / "manifest.json").write_text(json.dumps({**old, "version": 1}))
    (folder / "mine").touch()
    hash_of = swdc.load(folder).hash()
    assert hash_of == manifest["program_hash"]
    for wrong in ({**manifest, "version": 1}, {**old, "version": 2}, {**old, "version": True}, {**old, "version": 0}):
        (folder / "manifest.json").write_text(json.dumps(wrong))
        with pytest.raises(ArtifactError, match=r"manifest\.json as swdc\.save writes it, got another form"):
            swdc.load(folder)


@pytest.mark.parametrize(
    ("file", "change", "match"),
    [
        ("plan.json", lambda data: data["widths"].update(dict.fromkeys(data["widths"], "x")), "is 'x', not int"),
        ("plan.json", lambda data: data["kept"].popitem(), "have no width, or no channels"),
        ("plan.json", lambda data: data["kept"].update({name: [10**6] for name in data["kept"]}), "does not keep some"),
        ("plan.json", lambda data: data.update(program_hash=None), "program_hash is None, not str"),
        ("certificate.json", lambda data: data.update(exact="yes"), "exact is 'yes', not bool"),
        ("certificate.json", lambda data: data.update(lost="("), r"lost is '\(', not float"),
        ("certificate.json", lambda data: data["comparisons"][0].update(batch=None), "batch is None, not int"),
        ("certificate.json", lambda data: data.update(more=1), "it has the keys"),
        ("certificate.json", lambda data: data.update(removed_channels=1), "expected a certificate of the plan"),
    ],
)
def test_a_forged_plan_or_certificate_is_refused(
    file: str, change: Callable[[dict[str, Any]], Any], match: str, program: Program, tmp_path: Path
) -> None:
    masked, slim = certified(program.clone().eval())
    folder = swdc.save(slim, tmp_path / "slim", swdc.verify(masked, slim))
    forge(folder, change, file)
    with pytest.raises(ArtifactError, match=match):
        swdc.load(folder)


def test_a_key_that_stands_twice_is_refused(folder: Path) -> None:
    forge(folder, lambda graph: None)
    text = (folder / "graph.json").read_text()
    (folder / "graph.json").write_text(text.replace('"nodes":', '"nodes": [], "nodes":', 1))
    with pytest.raises(ValueError, match="an object with the key 'nodes' more than once"):
        read_json(folder / "graph.json")


def test_a_newer_format_says_which_version_to_install(folder: Path) -> None:
    change_manifest(folder, version=3, swdc="9.1")
    with pytest.raises(ArtifactError, match=r"expected format version 2 or older, got 3 in .*; install swdc 9\.1"):
        swdc.load(folder)


def test_a_graph_that_this_torch_reads_otherwise_is_refused(folder: Path) -> None:
    change_manifest(folder, program_hash="0", torch="2.0")
    with pytest.raises(ArtifactError, match=r"graph\.json, but it reads as another one; load it with torch 2\.0"):
        swdc.load(folder)


def forge(folder: Path, change: Callable[[dict[str, Any]], Any], name: str = "graph.json") -> None:
    """Change a file, and the manifest so that the hashes agree."""
    path = folder / name
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    files = json.loads((folder / "manifest.json").read_text())["files"]
    change_manifest(folder, files={**files, name: hashlib.sha256(path.read_bytes()).hexdigest()})


FETCH = {"op": "get_attr", "name": "fetched", "target": "head.bias", "args": [], "kwargs": {}}
CODE = "x = __import__('os').system('false')"


def set_node(key: str, value: Any, op: str = "call_function") -> Callable[[dict[str, Any]], None]:
    def change(graph: dict[str, Any]) -> None:
        next(row for row in graph["nodes"] if row["op"] == op)[key] = value

    return change


def set_signature(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(graph: dict[str, Any]) -> None:
        graph["signature"][key] = value

    return change


LEAF = {"type": None, "context": None, "children_spec": []}
KEYWORDS = {"type": "builtins.dict", "context": json.dumps(["a': 0}; import os #"]), "children_spec": [LEAF]}
POSITIONAL = {"type": "builtins.tuple", "context": "null", "children_spec": []}
INPUTS = {**POSITIONAL, "children_spec": [POSITIONAL, KEYWORDS]}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (set_node("target", "os.system"), r"operator module, got 'os\.system', which is not known here"),
        (set_node("target", "operator.attrgetter"), r"got 'operator\.attrgetter', which is not known"),
        (set_node("target", "torch.ops.load_library.a.b"), r"got 'torch\.ops\.load_library\.a\.b'"),
        (set_node("target", "torch.ops.aten.no_such.default"), r"got 'torch\.ops\.aten\.no_such\.default'"),
        (
            set_node("target", "torch.ops.aten.from_file.default"),
            r"got 'torch\.ops\.aten\.from_file\.default', which opens files or changes",
        ),
        (set_node("target", "torch.ops.aten.save.default"), r"aten\.save\.default', which opens files or changes"),
        (set_node("target", "torch.ops.aten.set_grad_enabled.default"), "which opens files or changes the state"),
        (set_node("target", "torch.ops.aten.manual_seed.default"), "which opens files or changes the state"),
        (set_node("target", "torch.ops.aten._cufft_clear_plan_cache.default"), "which opens files or changes the"),
        (
            set_node("target", "torch.ops.profiler._record_function_enter.default"),
            r"registered with swdc, got 'torch\.ops",
        ),
        (
            lambda graph: graph["nodes"].insert(0, {**FETCH, "target": "_analyse"}),
            "expected tensors and modules of the program, got '_analyse'",
        ),
        (set_node("target", "forward", "call_module"), "expected tensors and modules of the program, got 'forward'"),
        (set_node("name", "torch"), r"distinct nodes of the kinds .* 'torch'"),
        (set_node("name", CODE), "names that are Python identifiers in graph.json, got"),
        (set_node("name", "class"), "names that are Python identifiers in graph.json, got 'class'"),
        (set_node("target", CODE, "placeholder"), "names that are Python identifiers"),
        (set_node("kwargs", {CODE: 1}), "names that are Python identifiers"),
        (set_node("target", 'a"]; import os', "call_module"), "expected tensors and modules of the program, got 'a"),
        (set_node("op", "call_method"), r"distinct nodes of the kinds .*, got call_method 'x'"),
        (set_node("args", [{"object": 1}]), r"expected a known kind of argument, got \{'object': 1\}"),
        (
            set_node("args", [{"dtype": "load"}]),
            r"expected a known kind of argument, got \{'dtype': 'load'\}",
        ),
        (set_node("args", [{"node": "later"}]), r"graph\.json as swdc\.save writes it, .*KeyError: 'later'"),
        (set_node("shape", ["__import__('os')"]), "ValueError: expected an expression over sizes"),
        (set_node("shape", ["10**10**10"]), "a number beyond|an exponent|it is too long"),
        (set_node("shape", ["s99"]), r"expected a size for each of \[.*'s99'.*\], got"),
        (set_signature("arguments", ["x", "x"]), "expected .* inputs, arguments and outputs, as the structures"),
        (set_signature("outputs", "[" * 200 + "]" * 200), "lists and objects nested deeper than 100"),
        (set_signature("outputs", json.dumps([1, POSITIONAL])), "expected .* inputs, arguments and outputs, as the"),
        (lambda graph: graph["nodes"].append(FETCH), "expected the node that returns to be the last one in graph.json"),
        (
            lambda graph: graph["tensors"][0].update(strides=[10**12, 1, 1, 1]),
            r"strides \[1000000000000, 1, 1, 1\] leave",
        ),
        (lambda graph: graph["tensors"].append(graph["tensors"][0]), "it names a tensor twice"),
        (set_signature("arguments", [CODE]), "names that are Python identifiers"),
        (
            set_signature("inputs", json.dumps([1, INPUTS])),
            r"names that are Python identifiers in graph\.json, got \"a': 0",
        ),
        (set_signature("inputs", "null"), r"graph\.json as swdc\.save writes it, got another form"),
        (
            lambda graph: graph["tensors"].append({**graph["tensors"][0], "name": "a..b"}),
            "expected names between the dots of tensors and modules, got 'a..b'",
        ),
        (lambda graph: graph.pop("tensors"), r"graph\.json as swdc\.save writes it, .*it has the keys \['example'"),
        (lambda graph: graph["modes"].update(head=0), r"modes\['head'\] is 0, not bool"),
        (lambda graph: graph["modes"].update(headless=True), r"a mode for each module .* other ones at \['headless'\]"),
        (lambda graph: graph["facts"].update(notes="x"), "facts.notes is 'x', not list"),
        (lambda graph: graph["facts"].update(attention="x"), "facts.attention is 'x', not one of"),
        (lambda graph: graph["facts"].update(batch=1), r"facts\.batch is 1, not str \| None"),
        (lambda graph: graph["facts"]["symbols"].update(batch=3), r"an example of x of shape \(3, 3, 8, 8\), got \(1"),
        (lambda graph: graph["example"]["constants"].update({"1": 1}), "`leaves` has length 2 but the spec"),
        (
            lambda graph: graph.update(before={"parameters": 1, "operations": 1, "macs": 1}),
            "plan.json with all that",
        ),
        (lambda graph: graph["tensors"].pop(), "the tensors that graph.json names in the files of weights, got"),
        (set_node("dtype", {"device": "cpu"}), "expected the types of"),
        (
            lambda graph: graph["leaves"]["head"].update(operator="aten.relu.default"),
            "none is known here; register",
        ),
    ],
)
def test_a_forged_graph_is_refused(
    change: Callable[[dict[str, Any]], None], match: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if match.endswith("'x'"):
        forge(folder, set_node("name", "x"))
    forge(folder, change)
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("the folder has run code"))
    with pytest.raises(ArtifactError, match=match):
        swdc.load(folder)


def broken(kind: str, folder: Path, aside: Path) -> None:
    """Put something that is no file of the folder in the place of one."""
    file = folder / "weights.safetensors"
    file.rename(aside)
    if kind == "link":
        file.symlink_to(aside)
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "holes":
        os.truncate(aside, 200 * 2**30)
        aside.rename(file)


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("link", "weights.safetensors, got a link out of the folder; copy what it leads to"),
        ("pipe", "weights.safetensors, but it is missing"),
        ("holes", "got 214748364800 bytes of which the disk holds"),
    ],
)
def test_what_is_no_file_of_the_folder_is_not_read(kind: str, match: str, folder: Path, tmp_path: Path) -> None:
    broken(kind, folder, tmp_path / "aside")
    with pytest.raises(ArtifactError, match=match):
        swdc.load(folder)


def test_any_name_of_a_folder_can_be_saved_to_and_loaded(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("far", target_is_directory=True)
    for name in ("x" * 250, "link"):
        swdc.save(program, tmp_path / name)
        swdc.save(program, tmp_path / name)
        monkeypatch.chdir(tmp_path / name)
        for path in (".", f"../{name}", tmp_path / name):
            assert swdc.load(path).hash() == program.hash()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "far").is_dir()


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "", "/dev/null", "/"])
def test_paths_that_cannot_be_folders_are_refused(
    path: str, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").touch()
    for attempt in (lambda: swdc.save(program, path), lambda: swdc.load(path)):
        with pytest.raises(ArtifactError, match="expected"):
            attempt()
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_sizes_that_do_not_fit_are_told_when_they_are_needed(folder: Path) -> None:
    forge(folder, set_node("shape", []))
    with pytest.raises(ArtifactError, match="reads as another one"):
        swdc.load(folder)
    change_manifest(folder, program_hash=_read(folder, {file.name for file in folder.iterdir()}).hash())
    with pytest.raises(ArtifactError, match=r"graph\.json as swdc\.save writes it, got another form \(IndexError"):
        swdc.load(folder).explain()


def test_a_read_only_folder_or_file_stays(
    program: Program, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old.onnx").write_text("old")
    before = (folder / "manifest.json").read_text()
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) not in (folder, tmp_path / "old.onnx"))
    with pytest.raises(ArtifactError, match=r"expected to write .*, but .*the folder there is read-only"):
        swdc.save(swdc.slim(program, random_plan(program)), folder)
    with pytest.raises(ExportError, match="the file there is read-only"):
        swdc.export_onnx(program, tmp_path / "old.onnx")
    assert (folder / "manifest.json").read_text() == before
    assert (tmp_path / "old.onnx").read_text() == "old"


def test_special_files_are_not_saved_over(program: Program, folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="expected a folder to save to, got the special file"):
        swdc.save(program, tmp_path / "pipe")
    (folder / "plan.json").symlink_to(tmp_path / "mine")
    with pytest.raises(ArtifactError, match=r"expected nothing but a saved program in .*, got plan\.json, too"):
        swdc.save(program, folder)


def test_a_folder_is_found_where_a_killed_process_has_left_it(program: Program, folder: Path) -> None:
    folder.rename(_aside(folder))
    assert_same(program, swdc.load(folder))
    swdc.save(program, folder)
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]


def test_a_folder_that_is_replaced_while_it_is_read_is_read_again(
    program: Program, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slim = swdc.slim(program, random_plan(program))
    verify, once = swdc.artifacts.folder.save.verified, iter([True])

    def replaced(place: Path, name: str, manifest: Any) -> Path:
        if next(once, False):
            swdc.save(slim, folder)
        return verify(place, name, manifest)

    monkeypatch.setattr("swdc.artifacts.folder.save.verified", replaced)
    assert_same(slim, swdc.load(folder))


# -- the parts ------------------------------------------------------------------------------------------------


VALUES = [
    None, True, 0, -3, 1.5, -0.0, float("inf"), "text", [1, [2.0, None]], (1, (2, [3])), slice(1, None, 2),
    torch.float16, torch.int64, torch.device("cpu"), torch.device("cuda:1"), torch.channels_last, torch.strided,
    Ref("conv.weight"), 2 - 1j, complex(float("inf"), -0.0),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_arguments_survive_json(value: Any) -> None:
    again = decode(json.loads(json.dumps(encode(value), allow_nan=False)), {})
    assert again == value
    assert type(again) is type(value)
    assert repr(again) == repr(value)


def test_nan_nodes_and_unknown_arguments() -> None:
    assert encode(float("nan")) == {"float": "nan"}
    assert decode({"float": "nan"}, {}) != decode({"float": "nan"}, {})
    node = fx.Graph().placeholder("x")
    assert decode(encode([node, (node,)]), {"x": node}) == [node, (node,)]
    with pytest.raises(ArtifactError, match=r"expected arguments of plain types .* got range\(0, 3\) of type range"):
        encode(range(3))


def test_operators_survive_by_name() -> None:
    for name in (
        "torch.ops.aten.add.Tensor",
        "torch.ops.aten.conv2d.padding",
        "operator.getitem",
        "operator.le",
    ):
        assert encode_target(decode_target(name)) == name
    with pytest.raises(ArtifactError, match=r"got the function builtins\.eval, which cannot be saved"):
        encode_target(eval)


@pytest.mark.parametrize(
    "text",
    ["s0", "2*s0", "(((s77 - 3)//2)) + 1", "(Mod(s77, 5)) + 1", "-3*((s0//4))", "Max(2, s0 - 3)", "Min(s0, s1)",
     "PythonMod(s0 - 9, 5)", "s0**2*s1", "2*s0*(s1 + 1)", "s0/2", "floor(s0/2)"],
)  # fmt: skip
def test_sizes_survive_as_text(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["10**10**10", "s0**10**9", "9" * 5000, "-" * 3000 + "1", "(" * 150 + "s0" + "+1)**8" * 150, "Mod(1, 0)", "s0//0",
     "s0/0", "1/3", "(", "a b", "", "True", "1.5", "2**63", "*".join(f"(s{k} + 1)" for k in range(90)), "Max(" * 99],
)  # fmt: skip
def test_sizes_are_bounded_before_they_are_computed(text: str) -> None:
    with pytest.raises(ValueError, match="expected an expression over sizes, got"):
        parse(text)
    with pytest.raises(ValueError, match="a number beyond"):
        parse(10**30)
    for data in (True, None, 1.5):
        with pytest.raises(ValueError, match="expected a size or an expression over sizes"):
            parse(data)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["__import__('os').getcwd()", "s0.name", "[s0]", "exec(s0)", "s0 if s0 else 1"])
def test_sizes_are_read_and_never_executed(text: str) -> None:
    with pytest.raises(ValueError, match="expected an expression over sizes, got"):
        parse(text)


def test_structures_that_import_are_refused() -> None:
    enum = {"__enum__": True, "fqn": "os:PathLike", "name": "x"}
    data = {"type": "builtins.dict", "context": json.dumps([enum]), "children_spec": [LEAF]}
    with pytest.raises(ArtifactError, match=r"expected keys of plain types, got \{'__enum__': True"):
        decode_structure(json.dumps([1, data]))
    factory = {"default_factory_module": "os", "default_factory_name": "system", "dict_context": []}
    data = {"type": "collections.defaultdict", "context": factory, "children_spec": []}
    with pytest.raises(ArtifactError, match="expected a container described by text"):
        decode_structure(json.dumps([1, data]))
    with pytest.raises(ArtifactError, match="expected containers that torch knows here, but Deserializing mine"):
        decode_structure(json.dumps([1, {"type": "mine", "context": "null", "children_spec": []}]))


def test_structures_survive_as_text() -> None:
    spec = pytree.tree_structure(({"a": [1, (2, None)], 3: 4}, 5))
    assert decode_structure(encode_structure(spec)) == spec


def test_the_folder_that_the_process_works_in_is_not_replaced(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for path in ("", ".", tmp_path / "here"):
        with pytest.raises(ArtifactError, match="in which this process works; name one inside it"):
            swdc.save(program, path)
    assert Path.cwd() == tmp_path / "here"
    assert swdc.save(program, "inside").is_dir()


def test_a_graph_of_too_many_nodes_is_not_stored(
    program: Program, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swdc.artifacts.folder.graph_json._MOST_NODES", 3)
    for call in (lambda: swdc.save(program, tmp_path / "new"), lambda: swdc.load(folder)):
        with pytest.raises(ArtifactError, match="expected a graph of at most 3 nodes, got"):
            call()
