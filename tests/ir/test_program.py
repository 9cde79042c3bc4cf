"""Programs as modules: copies, wrong inputs, hashes, results derived from the graph."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.channels.labels import Channels
from swdc.errors import InputError, PassError
from swdc.ir.call import Call
from swdc.ir.program import Program
from swdc.ops.base import OPERATORS
from swdc.rewriting.pipeline import check
from tests.support import Function, assert_equal, certified, conv, image, random_plan, randomise, traced

COPIES: dict[str, Callable[[Program], Program]] = {"clone": Program.clone, "deepcopy": copy.deepcopy}


def layers(width: int = 6, activation: type[nn.Module] = nn.ReLU, **options: Any) -> nn.Sequential:
    return nn.Sequential(
        conv(3, width, **options),
        nn.BatchNorm2d(width),
        activation(),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.LazyLinear(4),
    )


def small(**options: Any) -> Program:
    model = layers(**options)
    model(torch.zeros(2, 3, 8, 8))
    return traced(model)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_a_copy_computes_the_same_and_shares_nothing(copied: Callable[[Program], Program]) -> None:
    program = small()
    other = copied(program)
    assert isinstance(other, Program)
    assert_equal(program(image(3, 3, 8, 8)), other(image(3, 3, 8, 8)))
    storages = {t.data_ptr() for t in program.tensors.values()}
    assert storages.isdisjoint(t.data_ptr() for t in other.tensors.values())
    assert {id(m) for m in program.modules()}.isdisjoint(id(m) for m in other.modules())
    assert list(other.state_dict()) == list(program.state_dict())
    assert other.hash() == program.hash()
    certified(other)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_training_a_copy_leaves_the_program_alone(copied: Callable[[Program], Program]) -> None:
    program = small()
    before = {name: value.clone() for name, value in program.state_dict().items()}
    other = copied(program).train()
    optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
    other(image(4, 3, 8, 8)).square().sum().backward()
    optimizer.step()
    after = program.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(p.grad is None for p in program.parameters())
    changed = {name for name, value in other.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(before)
    assert not program.training


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_tied_parameters_stay_tied(copied: Callable[[Program], Program]) -> None:
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    program = traced(nn.Sequential(first, nn.ReLU(), second), image(2, 6))
    other = copied(program)
    assert other.get_parameter("0.weight") is other.get_parameter("2.weight")
    assert other.get_parameter("0.weight") is not program.get_parameter("0.weight")
    assert len(list(other.parameters())) == 3


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES.keys())
def test_copies_keep_modes_and_requires_grad(copied: Callable[[Program], Program]) -> None:
    program = small().train()
    program.get_submodule("1").eval()
    program.get_parameter("0.weight").requires_grad_(False)
    other = copied(program)
    modes = {path: module.training for path, module in program.named_modules()}
    assert {path: module.training for path, module in other.named_modules()} == modes
    assert [p.requires_grad for p in other.parameters()] == [p.requires_grad for p in program.parameters()]
    assert other.get_parameter("0.weight").requires_grad is False


def test_a_module_that_holds_a_program_can_be_copied() -> None:
    holder = nn.ModuleDict({"one": small()})
    holder["same"] = holder["one"]
    other = copy.deepcopy(holder)
    assert other["one"] is other["same"]
    assert other["one"] is not holder["one"]
    assert_equal(holder["one"](image()), other["one"](image()))


def test_a_copy_does_not_save_transient_buffers_either() -> None:
    model = nn.Sequential(nn.Linear(5, 4))
    model[0].register_buffer("shift", torch.arange(4.0, dtype=torch.float64), persistent=False)
    program = traced(Function(lambda m, x: m.body(x) + m.body[0].shift, body=model), image(2, 5))
    other = program.clone()
    assert other.transient == program.transient == {"body.0.shift"}
    assert "body.0.shift" not in other.state_dict()
    assert_equal(program(image(2, 5)), other(image(2, 5)))


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (2, 3, 9, 8), (3, 8), ()], ids=str)
def test_an_input_of_a_wrong_shape_is_refused_with_both(shape: tuple[int, ...]) -> None:
    program = small()
    with pytest.raises(InputError) as caught:
        program(torch.zeros(shape, dtype=torch.float64))
    message = str(caught.value)
    assert message.startswith("expected input_1 of shape (")
    assert f", 3, 8, 8), got {shape}; give inputs of that shape" in message


def test_a_wrong_number_of_inputs_is_refused() -> None:
    program = small()
    for given in ((), (image(), image())):
        with pytest.raises(
            InputError,
            match=rf"expected 1 inputs \(input_1: \(.*, 3, 8, 8\)\), got {len(given)}",
        ):
            program(*given)


def test_an_error_that_the_inputs_do_not_cause_is_not_hidden() -> None:
    program = small()

    def fail(*_: Any) -> None:
        raise RuntimeError("of a hook")

    program.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="of a hook"):
        program(image())


def test_any_batch_size_is_accepted() -> None:
    program = small()
    whole = program(image(5, 3, 8, 8))
    assert whole.shape == (5, 4)
    torch.testing.assert_close(program(image(5, 3, 8, 8)[:2]), whole[:2], rtol=1e-12, atol=1e-12)


def test_the_hash_does_not_see_weights_nor_the_batch() -> None:
    hashes = {small().hash() for _ in range(3)}
    model = layers()
    model(torch.zeros(2, 3, 8, 8))
    hashes |= {
        traced(model, image(4, 3, 8, 8)).hash(),
        swdc.trace(randomise(model, 7).eval(), image()).hash(),
    }
    hashes.add(swdc.trace(model.train(), image()).hash())
    assert len(hashes) == 1


def test_the_hash_sees_the_architecture() -> None:
    variants: list[dict[str, Any]] = [
        {}, {"width": 8}, {"kernel": 5}, {"activation": nn.GELU}, {"bias": False}, {"padding_mode": "circular"},
    ]  # fmt: skip
    hashes = [small(**options).hash() for options in variants]
    model = Function(lambda m, x: m.layers(x) * 2, layers=nn.Sequential(*layers()))
    model(torch.zeros(2, 3, 8, 8))
    hashes.append(traced(model).hash())
    program = small()
    hashes.append(swdc.slim(program, random_plan(program)).hash())
    assert len(set(hashes)) == len(hashes)


@pytest.fixture
def _table() -> Iterator[None]:
    before = dict(OPERATORS.operators)
    yield
    OPERATORS.operators.clear()
    OPERATORS.operators.update(before)
    OPERATORS.version += 1


@pytest.mark.usefixtures("_table")
def test_programs_are_analysed_again_after_an_operator_is_registered() -> None:
    program = traced(Function(lambda m, x: m.b(torch.special.bessel_j1(m.a(x))), a=conv(3, 6), b=conv(6, 2)))
    assert program.groups == ()
    assert program.frozen is program.frozen

    @swdc.register
    class BesselJ1(swdc.Operator):
        names = ("aten.special_bessel_j1.default",)

        def couple(self, call: Call, channels: Channels) -> None:
            channels.set(call, channels.labels(call["self"]))

        def fold(self, call: Call, channels: Channels) -> None:
            channels.set_dead(call, channels.dead(call["self"]))

    assert program.coupling.names() == ("a",)
    assert program.coupling.group("a").width == 6
    certified(program)


def test_derived_results_are_computed_once_and_forgotten_with_the_graph() -> None:
    program = small()
    groups, graph = program.groups, program.hash()
    assert program.groups is groups
    relu = next(n for n in program.graph.nodes if str(n.target) == "aten.relu.default")
    relu.target = torch.ops.aten.sigmoid.default
    program.recompile()
    assert program.groups is not groups
    assert program.hash() != graph


def test_the_coupling_graph_is_bipartite_with_widths() -> None:
    program = small()
    graph = program.to_networkx()
    kinds = {name: data["kind"] for name, data in graph.nodes(data=True)}
    assert {frozenset((kinds[a], kinds[b])) for a, b in graph.edges} == {frozenset(("group", "dimension"))}
    widths = {name: data["width"] for name, data in graph.nodes(data=True) if data["kind"] == "group"}
    assert widths == {"0": 6}
    assert set(graph["0"]) == {
        "0.weight[0]", "0.bias[0]", "1.weight[0]", "1.bias[0]", "1.running_mean[0]", "1.running_var[0]", "5.weight[1]",
    }  # fmt: skip
    assert graph.edges["0", "5.weight[1]"]["roles"] == ["reads"]
    assert [len(row) for row in graph.edges["0", "5.weight[1]"]["indices"]] == [64] * 6
    assert graph.nodes["5.weight[0]"]["frozen"] == [0, 1, 2, 3]
    assert graph.nodes["5.weight[0]"]["reason"] == "is the model's output"


def test_explain_tells_groups_reasons_and_notes() -> None:
    program = small()
    assert "note:" not in program.explain()
    program = program.with_facts(notes=("it is raining", "and cold"))
    lines = program.explain().splitlines()
    assert lines[0] == program.explanation.summary()
    assert lines[1] == "1 groups of channels that can be removed"
    assert "  0  6 channels" in lines
    assert "  is the model's output" in lines
    assert lines[-2:] == ["note: it is raining", "note: and cold"]


def test_the_invariants_of_a_program() -> None:
    check(small())
    program = small().clone()
    call = next(n for n in program.graph.nodes if n.op == "call_module")
    del call.meta["shape"]
    with pytest.raises(PassError, match=f"expected a shape on node {call.name}"):
        check(program)
    program = traced(Function(lambda m, x: x * m.scale, scale=nn.Parameter(torch.ones(5))), image(2, 5))
    next(n for n in program.graph.nodes if n.op == "get_attr").target = "lost"
    with pytest.raises(PassError, match="expected a tensor 'lost'"):
        check(program)
