"""The operator table: what is unknown is frozen, and a user can teach the compiler an operator in one class."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from swdc.channels.labels import Channels
from swdc.ir.call import Call
from swdc.ops import base, calls, lookup, statistics
from swdc.ops.base import Leaf, Operator, is_overload, leaf_like, name_of, register, target_of
from tests.support import Function, assert_slims, certified, conv, frozen_at, image, reason_at, traced


class Spectrum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


def test_an_unknown_operator_freezes_what_it_reads_and_writes_with_name_and_source() -> None:
    program = traced(nn.Sequential(conv(3, 6), Spectrum(), conv(6, 2)))
    assert program.groups == ()
    for tensor, dim in (("0.weight", 0), ("0.bias", 0), ("2.weight", 1)):
        found = frozen_at(program, tensor, dim)
        assert len(found) == 1
        reason = found[0].reason
        assert (reason.text, reason.operator) == ("no rule for this operator", "aten.special_bessel_j0.default")
        path, line = reason.source.rsplit(":", 1)
        assert Path(path).name == Path(__file__).name
        assert "torch.special.bessel_j0" in Path(path).read_text().splitlines()[int(line) - 1]
    assert "aten.special_bessel_j0.default: no rule for this operator" in program.explain()


def test_an_unknown_operator_freezes_only_what_it_touches() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.d(torch.special.bessel_j0(m.c(x))) + m.f(torch.relu(m.e(x)))

    program = assert_slims(Function(forward, c=conv(3, 6), d=conv(6, 2), e=conv(3, 6), f=conv(6, 2)))
    assert [group.name for group in program.groups] == ["e"]


def test_unknown_operators_with_several_results() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        values, _ = torch.frexp(m.a(x))
        return m.b(values)

    program = traced(Function(forward, a=nn.Linear(5, 6), b=nn.Linear(6, 4)), image(2, 5))
    assert program.groups == ()
    assert "aten.frexp.Tensor" in reason_at(program, "b.weight", 1)


@pytest.fixture
def _table() -> Iterator[None]:
    before = dict(base.OPERATORS.operators)
    yield
    base.OPERATORS.operators.clear()
    base.OPERATORS.operators.update(before)


@pytest.mark.usefixtures("_table")
def test_a_registered_operator_is_used_by_programs_traced_before() -> None:
    model = Function(lambda m, x: m.d(torch.special.bessel_j1(m.c(x))), c=conv(3, 6), d=conv(6, 2))
    program = traced(model)
    assert program.groups == ()

    @register
    class BesselFunction(Operator):
        names = ("aten.special_bessel_j1.default",)

        def couple(self, call: Call, channels: Channels) -> None:
            channels.set(call, channels.labels(call["self"]))

        def fold(self, call: Call, channels: Channels) -> None:
            channels.set_dead(call, channels.dead(call["self"]))

    assert [group.width for group in program.groups] == [6]
    certified(program)


def test_names_and_targets_are_inverse() -> None:
    for target in (torch.ops.aten.relu.default, torch.ops.aten.add.Tensor, torch.ops.aten.conv2d.padding):
        assert target_of(name_of(target)) is target


def test_every_name_in_the_table_is_an_overload_of_this_torch() -> None:
    missing = []
    for name in base.OPERATORS.operators:
        if not name.startswith("aten.") or not is_overload(name):
            continue  # operators of other libraries are known by name, and need not be installed
        try:
            target_of(name)
        except AttributeError:
            missing.append(name)
    assert missing == []


def test_every_leaf_is_known_by_its_modules_and_names_its_data() -> None:
    for module, leaf in base.OPERATORS.leaves.items():
        assert isinstance(leaf, Leaf)
        assert issubclass(module, nn.Module)
        for name in leaf.names:
            assert lookup(name) is leaf
            if is_overload(name):
                assert leaf.data in {argument.name for argument in target_of(name)._schema.arguments}, name


def test_calls_bind_every_argument_of_modules_and_functions_alike() -> None:
    program = traced(nn.Sequential(conv(3, 4, groups=1, stride=2), nn.ReLU(), nn.BatchNorm2d(4)))
    for _, call in calls(program).values():
        named = {argument.name for argument in target_of(call.operator)._schema.arguments}
        assert set(call.arguments) == named, call.operator


def test_no_operator_is_described_twice() -> None:
    names = [name for cls in described(Operator) if "swdc.ops" in cls.__module__ for name in vars(cls).get("names", ())]
    assert len(names) == len(set(names))


def described(cls: type[Operator]) -> list[type[Operator]]:
    """Return a class of operators and all that are made of it."""
    return list(dict.fromkeys([cls, *(below for one in cls.__subclasses__() for below in described(one))]))


def test_an_unknown_operator_gives_nothing_back_and_takes_nothing_over() -> None:
    program = traced(nn.Sequential(conv(3, 6), Spectrum(), conv(6, 2)))
    operator, call = next(pair for pair in calls(program).values() if "bessel" in pair[1].operator)
    value, one = call["self"], torch.ones(6)
    assert type(operator) is Operator
    assert operator.item_identity(call, 0) is None
    assert not operator.asks_sizes(call, value)
    assert operator.laid_out_from(call, 1) is None
    assert operator.affine(call, program.tensors) is None
    assert operator.then_affine(call, program.tensors, (one, one), 1) is None
    assert operator.after_affine(call, program.tensors, (one, one)) is None
    assert not operator.needs_layout
    assert not operator.not_negative
    assert operator.attention == ""


class Scaled(nn.modules.batchnorm._BatchNorm):
    """A user's batch norm that derives from the base class of torch's."""


def test_a_users_module_is_like_the_leaf_that_it_derives_from() -> None:
    norms = (Scaled(2), nn.InstanceNorm3d(2), nn.LayerNorm(2), nn.RMSNorm(2), nn.GroupNorm(1, 2))
    exact = (statistics.LayerNorm([2]), statistics.RMSNorm([2]), statistics.GroupNorm(1, 2), statistics.BatchNorm([2]))
    assert all(leaf_like(module).is_norm for module in (*norms, *exact))
    assert not any(leaf_like(module).is_norm for module in (conv(1, 1), nn.Dropout(), nn.ReLU(), nn.Sequential()))
    attention = nn.MultiheadAttention(4, 2)
    assert set(leaf_like(attention.out_proj).sizes) == {"in_features", "out_features"}


def test_the_width_of_a_leaf_is_the_number_of_channels_that_it_writes() -> None:
    for module in (nn.Linear(2, 3), conv(2, 3), nn.ConvTranspose1d(2, 3, 1), nn.Embedding(9, 3), nn.BatchNorm2d(3)):
        assert getattr(module, leaf_like(module).width) == 3
    assert not any(leaf_like(module).width for module in (nn.LayerNorm(3), nn.Dropout(), statistics.BatchNorm([3])))
