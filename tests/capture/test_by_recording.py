"""Recording: what export refuses runs once on its example inputs, and the same leaf modules stand for the calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import _pytree as pytree

import swdc
from swdc.artifacts.folder.graph_json import decode_program, encode_program
from swdc.errors import ExportError, VerificationError
from swdc.ir.call import source_of
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from tests.support import Function, assert_equal, conv, image, operators, random_plan, randomise

pytestmark = [
    pytest.mark.filterwarnings("ignore:recorded on the example inputs"),
    pytest.mark.filterwarnings("ignore:the model overwrites calls"),
]


class Detector(nn.Module):
    """Keeps the cells that score above zero, as many as there are, and describes each; takes a list of images."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.body = conv(3, 8), nn.BatchNorm2d(8), conv(8, 6)
        self.score, self.first, self.second = nn.Conv2d(6, 1, 1), nn.Linear(6, 10), nn.Linear(10, 4)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, Any]]:
        self.calls += 1
        found = []
        for picture in images:
            side = max(picture.shape[-2:])
            x = F.pad(picture, (0, side - picture.shape[-1], 0, side - picture.shape[-2]))[None]
            x = torch.relu(self.body(F.relu(self.norm(self.stem(x)), inplace=True)))
            good = self.score(x).flatten() > 0
            keep = torch.where(good)[0] if bool(good.any()) else torch.arange(1)  # by values, which export refuses
            described = self.second(torch.relu(self.first(x.flatten(2)[0].t()[keep])))
            count = int(keep.numel())
            found.append(
                {"boxes": described.view(count, 2, 2), "count": count, "best": keep.max().item(), "none": None}
            )
        return found


def pictures(seed: int = 0) -> list[torch.Tensor]:
    return [image(3, 6, 5, seed=seed), image(3, 4, 7, seed=seed + 1)]


def recorded() -> tuple[Detector, Program]:
    model = randomise(Detector()).eval()
    return model, swdc.trace(model, (pictures(),))


def test_a_recorded_program_computes_what_the_model_computes_on_the_example() -> None:
    model, program = recorded()
    theirs, mine = model(pictures()), program(pictures())
    assert_equal(theirs, mine)
    assert [{k: v for k, v in d.items() if k != "boxes"} for d in mine] == [
        {k: v for k, v in d.items() if k != "boxes"} for d in theirs
    ]
    assert program.facts.captured_by == "record"
    assert program.facts.batch is None


def test_leaf_modules_hold_the_parameters_of_the_model() -> None:
    model, program = recorded()
    assert {"Conv2d", "BatchNorm2d", "Linear"} < set(operators(program))
    theirs, mine = dict(model.named_parameters()), dict(program.named_parameters())
    assert mine.keys() == theirs.keys()
    assert all(mine[name] is theirs[name] for name in mine)
    assert list(program.state_dict()) == list(model.state_dict())


def test_the_lines_and_modules_of_the_users_code_are_known() -> None:
    _, program = recorded()
    node = next(n for n in program.graph.nodes if n.op == "call_module" and n.target == "stem")
    assert source_of(node).rpartition(":")[0] == __file__
    assert node.meta["scope"] == "stem"


def test_the_model_and_the_inputs_stay_as_they_are() -> None:
    model, given = randomise(Detector()).train(), pictures()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    state = torch.get_rng_state()
    swdc.trace(model, (given,))
    assert_equal(list(before.values()), list(model.state_dict().values()))
    assert_equal(given, pictures())
    assert model.training
    assert torch.equal(state, torch.get_rng_state())


def test_analysis_plan_count_and_mask() -> None:
    _, program = recorded()
    assert sorted(g.width for g in program.groups) == [6, 8, 10]
    plan = swdc.plan(program, sparsity=0.5, scope="group")
    slim = swdc.slim(program, plan)
    assert swdc.count(slim).parameters < 0.6 * swdc.count(program).parameters
    masked = swdc.mask(program, plan).get_parameter("stem.weight").flatten(1)
    assert int((masked == 0).all(1).sum()) == 4


def branching(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.a(x)
    return m.b(torch.relu(y)) if y.sum() > -1e9 else y


def test_a_slim_recorded_program_is_certified_on_the_example() -> None:
    program = swdc.trace(randomise(Function(branching, a=conv(3, 6), b=conv(6, 2))).eval(), image(2, 3, 8, 8))
    assert program.facts.captured_by == "record"
    plan = random_plan(program)
    certificate = swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan))
    assert certificate.exact, certificate
    assert_equal(sample_inputs(program, 3, 7, torch.float64), ((image(2, 3, 8, 8),), {}))


def test_what_does_not_run_once_masked_says_how_to_go_on() -> None:
    _, program = recorded()
    plan = swdc.plan(program, sparsity=0.5, scope="group")
    with pytest.raises(VerificationError, match=r"recorded.*depend on the values.*transplant"):
        swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan))


def test_a_recorded_program_is_not_exported(tmp_path: Path) -> None:
    _, program = recorded()
    with pytest.raises(ExportError, match=r"recorded.*swdc\.transplant"):
        swdc.export_onnx(program, tmp_path / "detector.onnx")


def test_saving_keeps_that_a_program_is_recorded(tmp_path: Path) -> None:
    _, program = recorded()
    loaded = swdc.load(swdc.save(program, tmp_path / "detector"))
    assert (loaded.facts.captured_by, loaded.facts.example_only) == ("record", True)
    assert_equal(loaded(pictures()), program(pictures()))


@pytest.mark.parametrize("way", ["record", "follow"])
def test_a_folder_from_before_says_by_its_way_whether_it_is_recorded(way: str) -> None:
    _, program = recorded()
    data = encode_program(program)
    del data["facts"]["example_only"]
    data["facts"]["captured_by"] = way
    example = {str(number): leaf for number, leaf in enumerate(pytree.tree_leaves(program.facts.example))}
    loaded = decode_program(data, program.tensors, example, ())
    assert loaded.facts.example_only == (way == "record")


def test_results_in_objects_come_back_as_dicts() -> None:
    class Boxes:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor, self.size = tensor, (3, 4)

    def forward(m: Any, x: torch.Tensor) -> Any:
        return {"boxes": Boxes(m.a(x[x.sum(1) > 0][: int((x > 0).sum())]))}

    model = randomise(Function(forward, a=nn.Linear(5, 4))).eval()
    with pytest.warns(UserWarning, match="Boxes comes back as a dict of its tensors"):
        program = swdc.trace(model, image(6, 5))
    assert_equal(program(image(6, 5))["boxes"]["tensor"], model(image(6, 5))["boxes"].tensor)


class Helper(nn.Module):
    """Knows a part of the model that owns it, as helpers do that draw its weights anew in training."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return x * 2
        return x if float(x.detach().abs().max()) < 1e9 else x * 0


@pytest.mark.filterwarnings("ignore:what helper computes in training")
def test_a_module_with_two_names_keeps_its_parameters() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 2))
            self.helper = Helper(self.net)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(self.helper(x))

    model = Net().eval()
    program = swdc.trace(model, torch.randn(2, 3))
    assert program.facts.captured_by == "record"
    assert program.tensors["net.0.weight"] is model.net[0].weight is program.tensors["helper.part.0.weight"]
