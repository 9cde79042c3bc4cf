"""Elimination: tensors, module attributes and literal sizes shrink together; the given program stays whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from passes.eliminate_dead_channels import EliminateDeadChannels
from swdc.errors import PassError
from swdc.ir.program import Program
from swdc.ir.sizes import evaluate
from swdc.rewriting.pipeline import run
from tests.support import (
    Function,
    assert_equal,
    assert_same,
    certified,
    conv,
    image,
    plan_of,
    random_plan,
    text,
    traced,
)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = conv(3, 8, bias=False), nn.BatchNorm2d(8)
        self.depthwise, self.left, self.right = conv(8, 8, groups=8), conv(4, 6), conv(4, 6)
        self.head, self.unused = nn.Linear(6 * 16, 3), nn.Linear(4, 4)
        self.register_buffer("never_read", torch.ones(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.stem(x)))
        a, b = self.depthwise(y).chunk(2, 1)
        y = torch.relu(self.left(a) + self.right(b))
        result: torch.Tensor = self.head(nn.functional.avg_pool2d(y, 2).view(-1, 96))
        return result


def kept(program: Program) -> Any:
    names = [group.name for group in program.groups]
    return plan_of(program, dict(zip(names, ([0, 3], [1, 2, 3], [0, 5]), strict=True)))


def test_golden(golden: Callable[[str, str], None]) -> None:
    program = traced(Network())
    golden("eliminate_dead_channels.before", text(program))
    golden("eliminate_dead_channels.after", text(swdc.slim(program, kept(program))))


def test_attributes_of_modules_are_those_of_the_weights() -> None:
    program = traced(Network())
    _, slim = certified(program, kept(program))
    get: Callable[[str], Any] = slim.get_submodule
    assert (get("stem").in_channels, get("stem").out_channels) == (3, 5)
    assert get("norm").num_features == 5
    assert (get("depthwise").groups, get("depthwise").in_channels, get("depthwise").out_channels) == (5, 5, 5)
    assert (get("left").in_channels, get("left").out_channels) == (2, 2)
    assert (get("right").in_channels, get("right").out_channels) == (3, 2)
    assert (get("head").in_features, get("head").out_features) == (32, 3)
    for module in slim.leaves.values():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            assert tensor.shape == getattr(type(module)(*arguments(module)), name).shape


def arguments(module: Any) -> tuple[Any, ...]:
    """Return the arguments that make a module like the given one, read from its attributes."""
    if isinstance(module, nn.Conv2d):
        options = (module.stride, module.padding, module.dilation, module.groups)
        return module.in_channels, module.out_channels, module.kernel_size, *options
    return (module.num_features,) if isinstance(module, nn.BatchNorm2d) else (module.in_features, module.out_features)


def test_what_is_not_read_stays_whole() -> None:
    program = traced(Network())
    _, slim = certified(program, kept(program))
    before, after = program.state_dict(), slim.state_dict()
    assert list(after) == list(before)
    for name in ("unused.weight", "unused.bias", "never_read"):
        assert torch.equal(after[name], before[name])
        assert after[name].data_ptr() != before[name].data_ptr()


def test_shapes_of_nodes_are_those_at_run_time() -> None:
    program = traced(Network())
    slim = swdc.slim(program, kept(program))

    class Checked(torch.fx.Interpreter):
        seen = 0

        def run_node(self, n: torch.fx.Node) -> Any:
            result = super().run_node(n)
            if isinstance(result, torch.Tensor) and n.op != "get_attr":
                assert tuple(result.shape)[1:] == evaluate(n.meta["shape"][1:], slim.facts.symbols), n.name
                self.seen += 1
            return result

    checked = Checked(slim)
    checked.run(image(2, 3, 8, 8))
    assert checked.seen >= len(program.graph.nodes) - 3


def test_the_original_is_untouched_and_shares_nothing() -> None:
    program = traced(Network())
    before, hashed = [t.clone() for t in program.tensors.values()], program.hash()
    slim = swdc.slim(program, kept(program))
    assert_equal(before, list(program.tensors.values()))
    assert program.hash() == hashed
    shared = {t.data_ptr() for t in program.tensors.values()} & {t.data_ptr() for t in slim.tensors.values()}
    assert shared == set()
    assert slim.hash() != hashed


def test_modified_is_honest() -> None:
    program = traced(Network())
    assert run(program, [EliminateDeadChannels(kept(program))]).modified
    nothing = run(program, [EliminateDeadChannels(plan_of(program, {}))])
    assert not nothing.modified
    assert_same(program(image()), nothing.program(image()), 1e-14)


def test_slim_from_the_masked_program_is_the_same() -> None:
    program = traced(Network())
    plan = kept(program)
    one, other = swdc.slim(program, plan), swdc.slim(swdc.mask(program, plan), plan)
    assert one.hash() == other.hash()
    assert_equal(list(one.tensors.values()), list(other.tensors.values()))


def test_modes_and_gradients_are_taken_over() -> None:
    model = Network()
    model.stem.requires_grad_(False)
    program = traced(model).train()
    program.get_submodule("norm").eval()
    slim = swdc.slim(program, kept(program))
    assert slim.training
    assert not slim.get_submodule("norm").training
    assert not slim.get_parameter("stem.weight").requires_grad
    assert slim.get_parameter("left.weight").requires_grad


def test_a_slim_program_is_slimmed_again() -> None:
    program = traced(Network())
    slim = swdc.slim(program, kept(program))
    again = random_plan(slim, 3)
    masked, thinner = swdc.mask(slim, again), swdc.slim(slim, again)
    assert swdc.verify(masked, thinner).exact
    assert swdc.count(thinner).parameters < swdc.count(slim).parameters


def test_it_trains_and_its_counts_remember_the_dense_program() -> None:
    program = traced(Network())
    slim = swdc.slim(program, kept(program)).train()
    slim(image(2, 3, 8, 8)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in slim.read_parameters().values())
    before = swdc.count(slim).before
    counted = swdc.count(program)
    assert before == {"parameters": counted.parameters, "operations": counted.operations, "macs": counted.macs}


def test_a_plan_that_empties_a_tensor_is_an_error() -> None:
    program = traced(Function(lambda m, x: m.b(m.a(x)), a=nn.Linear(3, 4), b=nn.Linear(4, 2)), image(2, 3))
    with pytest.raises(PassError, match=r"leaves something of every tensor, got one that empties \['a.weight'"):
        EliminateDeadChannels(plan_of(program, {program.groups[0].name: ()})).apply(program)


def test_a_parameter_that_was_empty_may_stay_so() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.cat([m.extra.expand(len(x), -1, -1), m.a(x)], 1))

    extra = nn.Parameter(torch.zeros(1, 0, 4))
    program = traced(Function(forward, a=nn.Linear(3, 4), b=nn.Linear(4, 2), extra=extra), image(2, 5, 3))
    assert swdc.slim(program, swdc.plan(program, 0.5)).get_parameter("extra").shape == (1, 0, 2)


def test_a_tied_tensor_keeps_all_its_names() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(9, 6)
            self.middle = nn.Linear(6, 6)
            self.head = nn.Linear(6, 9, bias=False)
            self.head.weight = self.table.weight

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.head(torch.relu(self.middle(self.table(tokens))) + self.table(tokens))
            return logits

    program = traced(Tied(), torch.randint(0, 9, (2, 4)))
    assert program.groups
    _, slim = certified(program)
    assert {"table.weight", "head.weight"} <= set(slim.state_dict())
    assert slim.tensors["table.weight"] is slim.tensors["head.weight"]
