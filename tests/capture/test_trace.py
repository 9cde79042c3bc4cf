"""Capture: a program computes what its model computes, holds the model's tensors, and leaves the model alone."""

from __future__ import annotations

import copy
import re
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.errors import InputError, TraceError
from swdc.ir.program import Program
from tests.support import Function, assert_equal, assert_same, conv, image, operators, randomise, traced


def assert_captures(model: nn.Module, example: Any, *inputs: torch.Tensor) -> Program:
    """Assert that a program equals its model bit by bit, in evaluation and, buffers included, in training."""
    program = swdc.trace(randomise(model).eval(), example)
    assert list(program.state_dict()) == list(model.state_dict())
    theirs = dict(model.named_parameters(remove_duplicate=False))
    mine = dict(program.named_parameters(remove_duplicate=False))
    assert mine.keys() == theirs.keys()
    assert all(mine[name] is theirs[name] for name in mine)
    for mode in (False, True):
        one, other = copy.deepcopy(model).train(mode), copy.deepcopy(program).train(mode)
        results = []
        for module in (one, other):
            torch.manual_seed(3)
            results.append(module(*[x.clone() for x in inputs]))
        assert_equal(*results)
        assert_equal(list(one.state_dict().values()), list(other.state_dict().values()))
    return program


BATCH = image(3, 3, 8, 8, seed=9)


def test_leaf_modules_stand_for_the_calls() -> None:
    model = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 2), nn.PReLU())
    program = assert_captures(model, image(), BATCH)
    assert operators(program) == [
        "Conv2d",
        "BatchNorm2d",
        "aten.relu.default",
        "aten.flatten.using_ints",
        "Linear",
        "PReLU",
    ]


def test_batch_is_dynamic_from_an_example_of_one() -> None:
    program = assert_captures(nn.Sequential(conv(3, 4), nn.Flatten(), nn.Linear(256, 2)), image(), BATCH)
    assert program.facts.batch is not None
    for batch in (1, 2, 7):
        assert program(image(batch, 3, 8, 8)).shape == (batch, 2)


def test_dropout_in_all_its_forms_trains_alike() -> None:
    class Dropping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = conv(3, 8), nn.BatchNorm2d(8, momentum=None)
            self.drop, self.drop2d = nn.Dropout(0.3), nn.Dropout2d(0.4)
            self.last = conv(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.drop(torch.relu(self.norm(self.conv(x))))
            y = F.dropout(y, 0.5, self.training)
            y = F.dropout2d(y, 0.2, training=self.training)
            return self.last(self.drop(self.drop2d(y))).relu_()

    assert_captures(Dropping(), image(), BATCH)


def test_norms_of_all_kinds_train_alike() -> None:
    norms = [
        nn.BatchNorm2d(4, momentum=None),
        nn.BatchNorm2d(4, momentum=0.3, eps=1e-2),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.BatchNorm2d(4, affine=False),
        nn.BatchNorm2d(4, affine=False, track_running_stats=False),
        nn.InstanceNorm2d(4),
        nn.InstanceNorm2d(4, affine=True),
        nn.GroupNorm(2, 4),
        nn.GroupNorm(2, 4, affine=False),
        nn.LayerNorm([4, 8, 8]),
        nn.LayerNorm(8, elementwise_affine=False),
        nn.LayerNorm(8, bias=False),
    ]
    parts = [part for norm in norms for part in (conv(4, 4), norm)]
    assert_captures(nn.Sequential(conv(3, 4), *parts), image(), BATCH)


class NormAndActivation(nn.BatchNorm2d):
    """A batch norm with modules of its own below it, and its own code for training."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.activation = nn.Sequential(nn.PReLU(width), nn.Dropout(0.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.num_batches_tracked.add_(1)
        mean, var = self.running_mean, self.running_var
        return self.activation(F.batch_norm(x, mean, var, self.weight, self.bias, self.training, self.momentum))


def test_a_module_that_a_leaf_stands_for_may_have_modules_below_it() -> None:
    model = randomise(nn.Sequential(conv(3, 4), NormAndActivation(4), conv(4, 2)))
    program = traced(model, image())
    assert isinstance(program.get_submodule("1"), nn.BatchNorm2d)
    assert isinstance(program.get_submodule("1.activation.0"), nn.PReLU)
    assert list(program.state_dict()) == list(model.state_dict())
    twin = program.clone()
    assert not {id(m) for m in twin.modules()} & {id(m) for m in program.modules()}
    slim = swdc.slim(program, swdc.plan(program, 0.5))
    assert swdc.verify(swdc.mask(program, swdc.plan(program, 0.5)), slim).exact
    x = image(seed=3)
    assert_same(twin.train()(x), copy.deepcopy(model).train()(x))


def test_functional_batch_norm_trains_without_a_new_buffer() -> None:
    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.rand(4)), nn.Parameter(torch.rand(4))
            self.register_buffer("running_mean", torch.zeros(4))
            self.register_buffer("running_var", torch.ones(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean, var = self.running_mean, self.running_var
            return F.batch_norm(x, mean, var, self.weight, self.bias, self.training, 0.2, 1e-3)

    assert_captures(nn.Sequential(conv(3, 4), Norm(), nn.ReLU(), conv(4, 2)), image(), BATCH)


def test_paddings_are_kept() -> None:
    class PadsFirst(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.conv2d(F.pad(x, (0, 1, 0, 1)), self.weight, self.bias, self.stride)

    model = nn.Sequential(
        PadsFirst(3, 4, 2), conv(4, 4, padding_mode="circular"), conv(4, 4, padding="same"), conv(4, 2, padding="valid")
    )
    program = assert_captures(model, image(), BATCH)
    assert operators(program).count("Conv2d") == 4
    assert operators(program).count("aten.pad.default") == 2


@pytest.mark.parametrize(
    ("convolution", "norm", "size"), [(nn.Conv1d, nn.BatchNorm1d, (9,)), (nn.Conv3d, nn.BatchNorm3d, (4, 4, 4))]
)
def test_convolutions_in_one_and_three_dimensions(convolution: Any, norm: Any, size: tuple[int, ...]) -> None:
    model = nn.Sequential(convolution(3, 8, 3, padding=1), norm(8), nn.ReLU(), convolution(8, 8, 3, groups=8))
    assert_captures(model, image(1, 3, *size), image(2, 3, *size))


def test_a_module_called_twice_is_one_module() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv, self.norm, self.head = conv(3, 4), conv(4, 4), nn.BatchNorm2d(4), conv(4, 2)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = self.stem(x)
            for _ in range(2):
                y = torch.relu(self.norm(self.conv(y)))
            return self.head(F.max_pool2d(y, 2)), self.head(y)

    program = assert_captures(Twice(), image(), BATCH)
    assert operators(program).count("Conv2d") == 5
    assert set(program.leaves) == {"stem", "conv", "norm", "head"}


def test_tied_tensors_non_persistent_buffers_and_plain_tensors() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)
            self.b.weight = self.a.weight
            self.register_buffer("scale", image(6), persistent=False)
            self.shift = image(6)

        def forward(self, x: torch.Tensor) -> dict[str, Any]:
            return {"p": (self.a(x), [self.b(x) * self.scale]), "q": self.shift + x, "none": None, "three": 3}

    program = assert_captures(Tied(), image(2, 6), image(5, 6))
    result = program(image(3, 6))
    assert (result["none"], result["three"], type(result["p"])) == (None, 3, tuple)
    assert program.get_parameter("a.weight") is program.get_parameter("b.weight")
    assert "scale" not in program.state_dict()


def test_state_dict_keeps_its_order_where_a_buffer_comes_first() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("factor", torch.tensor([2.0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    model = nn.Sequential(Scale(), conv(3, 4), nn.BatchNorm2d(4), conv(4, 2))
    program = assert_captures(model, image(), BATCH)
    assert list(swdc.mask(program, swdc.plan(program)).state_dict()) == list(model.state_dict())


def test_a_leaf_called_on_a_parameter() -> None:
    model = Function(
        lambda m, x: x + m.project(m.token), project=nn.Linear(5, 6), token=nn.Parameter(image(1, 5).float())
    )
    assert_captures(model, image(2, 6), image(3, 6))


def test_several_inputs_and_a_literal() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 4)

        def forward(self, x: torch.Tensor, factor: float, y: torch.Tensor, plus: bool = True) -> torch.Tensor:
            return self.a(x) * factor + y if plus else x

    model = randomise(Mixed()).eval()
    program = swdc.trace(model, (image(1, 6), 2.0, image(1, 4)))
    given = (image(5, 6), 2.0, image(5, 4))
    assert_equal(model(*given), program(*given))


def test_keyword_inputs_in_any_order() -> None:
    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.d = conv(3, 4), conv(3, 4)

        def forward(self, x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> dict[str, Any]:
            return {"a": self.c(x) + 2 * self.d(y), "b": [z * 3]}

    model = randomise(Keywords()).eval()
    program = swdc.trace(model, {"z": image(1, 2), "y": image(seed=2), "x": image(seed=3)})
    given = {"x": BATCH, "z": image(3, 2), "y": 2 * BATCH}
    assert_equal(model(**given), program(**given))
    assert program(**given).keys() == {"a", "b"}


# -- in-place operators -------------------------------------------------------------------------------------------


def test_a_value_used_again_after_it_was_overwritten() -> None:
    def forward(m: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = m.c(x)
        z = y.relu_()
        y += 1
        return y, z, m.d(y) * z

    program = assert_captures(Function(forward, c=conv(3, 4), d=conv(4, 4)), image(), BATCH)
    assert not [name for name in operators(program) if "_." in name]  # none is left in place


def test_an_overwritten_view_changes_its_base() -> None:
    def forward(m: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = m.c(x)
        before = y + 1
        y[:, :2] = 0.5
        v = m.d(y)
        v[:, 3:] += 1
        v.view(v.shape[0], -1).mul_(2)
        v.clamp_(max=1)
        return before, y, v

    assert_captures(Function(forward, c=conv(3, 4), d=conv(4, 4)), image(), BATCH)


def test_an_overwritten_base_changes_its_views() -> None:
    def forward(m: Any, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        y = m.c(x)
        flat = y.flatten(1)
        y.mul_(3)
        y.relu_()
        part = y[:, 2:4]
        y.add_(1)
        part.sub_(2)
        turned = y.transpose(1, 2)
        y.exp_()
        return flat * 1, part * 1, turned * 1, y

    assert_captures(Function(forward, c=conv(3, 4)), image(), BATCH)


def test_in_place_on_a_view_whose_base_is_not_read_again_is_an_ordinary_operator() -> None:
    head = (nn.Dropout(0.5, inplace=True), nn.Linear(6, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    model = nn.Sequential(conv(3, 6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)
    program = assert_captures(model, image(), BATCH)
    assert "Dropout" in operators(program)
    assert not [name for name in operators(program) if "_." in name]
    assert [group.width for group in program.groups] == [6, 4]


def test_in_place_on_a_buffer_through_a_view_is_kept() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        m.seen[:2].add_(x.mean())
        return m.c(x) * m.seen

    program = assert_captures(Function(forward, c=conv(3, 4), seen=torch.ones(4, 1, 1)), image(), BATCH)
    assert [name for name in operators(program) if "_." in name]


def test_two_operators_in_place_on_a_value_with_a_view() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.c(x)
        view = y.flatten(1)
        y.relu_()
        y.add_(1)
        return view * 1

    assert_captures(Function(forward, c=conv(3, 4)), image(), BATCH)


def test_channels_that_an_operator_in_place_on_a_view_touches_are_frozen() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(m.c(x))
        y[:, :2] = 0.5
        return m.d(y)

    program = traced(Function(forward, c=conv(3, 6), d=conv(6, 2)))
    assert [group.width for group in program.groups] == [4]


# -- modes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_the_modes_of_all_modules_are_restored_and_taken_over(training: bool) -> None:
    model = randomise(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.BatchNorm2d(4))).train(training)
    model[1].train(not training)
    before = [module.training for module in model.modules()]
    program = swdc.trace(model, image())
    assert [module.training for module in model.modules()] == before
    copies = (model, program, copy.deepcopy(program), swdc.insert_batchnorm(program))
    assert all(m.get_submodule("1").training is not training for m in copies)
    results = []
    for module in (copy.deepcopy(model), copy.deepcopy(program)):
        torch.manual_seed(1)
        results.append(module(BATCH))
    assert_equal(*results)


class SometimesSkips(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        return x * torch.bernoulli(torch.full((x.shape[0], 1, 1, 1), 0.5))


class AuxiliaryHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.auxiliary = conv(3, 4), conv(4, 2)

    def forward(self, x: torch.Tensor) -> Any:
        y = self.conv(x)
        return (y.sum(), self.auxiliary(y)) if self.training else y.sum()


class WantsTargets(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(3, 4)

    def forward(self, x: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        if self.training:
            assert targets is not None, "targets are missing"
        return self.conv(x)


class NeverDrops(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, 0.5, training=False)


class DropsInAttention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, x, x, dropout_p=0.1 if self.training else 0.0)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        (nn.Sequential(conv(3, 4), SometimesSkips()), "1"),
        (nn.Sequential(conv(3, 4), DropsInAttention()), "1"),
        (AuxiliaryHead(), "the model"),
        (WantsTargets(), "the model"),
        (nn.Sequential(conv(3, 4), NeverDrops()), "1"),
        (nn.Sequential(conv(3, 4), nn.InstanceNorm2d(4, track_running_stats=True)), "aten.instance_norm.default"),
    ],
)
def test_what_training_does_else_is_named_in_a_warning(model: nn.Module, named: str) -> None:
    with pytest.warns(UserWarning, match=rf"{re.escape(named)}.* in training.*train the model itself") as heard:
        program = swdc.trace(model.eval(), image().float())
    assert {warning.filename for warning in heard} == {__file__}
    assert any(named in note for note in program.facts.notes)
    assert named in program.explain()


def test_an_ordinary_model_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        swdc.trace(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.Dropout(0.5)), image().float())


def test_a_model_whose_code_depends_on_the_batch_keeps_that_of_the_example() -> None:
    model = randomise(Function(lambda m, x: torch.stack([m.c(s[None])[0] for s in x]), c=conv(3, 4))).eval()
    with pytest.warns(UserWarning, match="the leading size of the inputs is fixed to 1"):
        program = swdc.trace(model, image())
    assert_equal(model(image(seed=4)), program(image(seed=4)))


# -- errors -------------------------------------------------------------------------------------------------------


class Decides(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = torch.cond(x.sum() > 0, lambda x: self.conv(x), lambda x: self.conv(x) + 1, (x,))
        return y


def untouched(model: nn.Module) -> Any:
    tensors = {name: (id(t), t.clone()) for name, t in model.state_dict(keep_vars=True).items()}
    return tensors, [(name, module.training) for name, module in model.named_modules()]


@pytest.mark.parametrize(
    ("model", "example", "message"),
    [
        (Decides(), image().float(), "a plain graph, got the control-flow operator cond.*torch.where"),
        (conv(5, 3), image().float(), r"inputs that Conv2d can run on, got shapes \[\(1, 3, 8, 8\)\].*5 channels"),
        (conv(3, 3), (image().float(), image().float()), "inputs that Conv2d can run on.*TypeError"),
        (conv(3, 3), {"y": image().float()}, "inputs that Conv2d can run on.*'y'"),
        (conv(3, 3), (), "a tensor, a tuple of arguments or a dict.*got tuple"),
        (conv(3, 3), [3], "with at least one tensor, got list"),
        (conv(3, 3), None, "example_inputs as a tensor, .* got None"),
    ],
)
def test_errors_say_what_to_do_and_leave_the_model_alone(
    model: nn.Module, example: Any, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    model.train()
    before = untouched(model)
    with pytest.raises(TraceError, match=f"(?s)expected.*{message}"):
        swdc.trace(model, example)
    after = untouched(model)
    assert after[1] == before[1]
    assert {n: i for n, (i, _) in after[0].items()} == {n: i for n, (i, _) in before[0].items()}
    assert_equal([t for _, t in before[0].values()], [t for _, t in after[0].values()])
    assert capfd.readouterr() == ("", "")


def test_not_a_module() -> None:
    with pytest.raises(TraceError, match=r"expected model as a Module, got 'resnet18'"):
        swdc.trace("resnet18", image())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((image(1, 4, 8, 8),), r"expected input\S* of shape \(batch, 3, 8, 8\), got \(1, 4, 8, 8\)"),
        ((), r"expected 1 inputs \(input\S*: \(batch, 3, 8, 8\)\), got 0"),
        ((image(), image()), "expected 1 inputs .* got 2"),
    ],
)
def test_a_program_called_with_other_inputs_says_which_it_takes(given: Any, message: str) -> None:
    program = swdc.trace(nn.Sequential(conv(3, 4), nn.Flatten(), nn.Linear(256, 2)).double(), image())
    with pytest.raises(InputError, match=message):
        program(*given)


def test_the_model_and_the_random_state_stay_as_they_are() -> None:
    model = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before, state = untouched(model), torch.get_rng_state()
    swdc.trace(model, image().float())
    after = untouched(model)
    assert torch.equal(state, torch.get_rng_state())
    assert after[1] == before[1]
    assert_equal([t for _, t in before[0].values()], [t for _, t in after[0].values()])
