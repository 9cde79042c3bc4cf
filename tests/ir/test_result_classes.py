"""Dataclasses in results: programs return the user's class, folders a dict."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils import _pytree as pytree

import swdc
from swdc.errors import InputError, TraceError
from swdc.ir.plain_results import capturable, plain
from tests.support import Function, assert_equal, assert_same, certified, image, traced

Pair = namedtuple("Pair", "left right")


@dataclass(frozen=True)
class Inner:
    twice: torch.Tensor
    name: str


@dataclass
class Outer:
    logits: torch.Tensor
    inner: Inner
    more: list[Any]
    count: int


@dataclass
class WithObject:
    logits: torch.Tensor
    config: object


@dataclass
class Mapped(OrderedDict[str, Any]):
    """A dataclass that is also a dict of its fields, as the outputs of many libraries are."""

    logits: torch.Tensor
    more: Any = None

    def __post_init__(self) -> None:
        self.update({f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None})


@dataclass
class Dict(dict[str, Any]):
    logits: torch.Tensor


def model(result: Any) -> nn.Module:
    layers = {"first": nn.Linear(4, 8), "last": nn.Linear(8, 3)}
    return Function(lambda m, x: result(m.last(m.first(x).relu())), **layers)


def outer(y: torch.Tensor) -> Outer:
    return Outer(y, Inner(y * 2, "inner"), [y + 1, Pair(y, 2)], 3)


def test_a_program_returns_the_classes_of_the_model() -> None:
    user = model(outer)
    program, x = traced(user, image(2, 4)), image(5, 4)
    _, slim = certified(program)
    for one in (program, program.clone(), slim, swdc.deploy(slim), swdc.transplant(slim, user)):
        result = one(x)
        assert (type(result), type(result.inner), type(result.more[1])) == (Outer, Inner, Pair)
        assert (result.inner.name, result.more[1].right, result.count) == ("inner", 2, 3)
    assert_equal(plain(program(x)), plain(user(x)))


@pytest.mark.parametrize("more", [None, "text"])
def test_a_dataclass_that_is_also_a_dict_keeps_its_items(more: Any) -> None:
    user = model(lambda y: Mapped(y, more))
    program, x = traced(user, image(2, 4)), image(5, 4)
    _, slim = certified(program)
    for one in (program, slim, swdc.deploy(slim), swdc.transplant(slim, user)):
        result = one(x)
        assert type(result) is Mapped
        assert list(result) == ["logits"] + ["more"] * (more is not None)
        assert result["logits"] is result.logits
        assert result.more == more
    assert_equal(user(x).logits, program(x).logits)


def test_a_dict_with_items_of_its_own_becomes_a_plain_one() -> None:
    def result(y: torch.Tensor) -> Dict:
        made = Dict(y)
        made["twice"] = y * 2
        return made

    with pytest.warns(UserWarning, match="Dict comes back as a dict of its tensors"):
        program = traced(model(result), image(2, 4))
    assert list(program(image(3, 4))) == ["logits", "twice"]


def test_a_dataclass_that_is_an_empty_dict_comes_back() -> None:
    user = model(Dict)
    _, slim = certified(traced(user, image(2, 4)))
    result = swdc.transplant(slim, user)(image(3, 4))
    assert_same(result.logits, slim(image(3, 4)).logits)
    assert type(result) is type(slim(image(3, 4))) is Dict
    assert result.logits.shape == (3, 3)
    assert len(result) == 0


def test_a_class_that_loses_a_part_is_a_dict() -> None:
    result = swdc.deploy(traced(model(lambda y: Inner(y, "name")), image(2, 4)), outputs=["twice"])(image(3, 4))
    assert list(result) == ["twice"]


def test_what_a_graph_cannot_return_makes_a_dict() -> None:
    with pytest.warns(UserWarning, match="WithObject comes back as a dict of its tensors"):
        program = traced(model(lambda y: WithObject(y, object())), image(2, 4))
    assert list(program(image(2, 4))) == ["logits"]


def test_a_folder_makes_classes_anew(tmp_path: Path) -> None:
    program = traced(model(lambda y: Outer(y, Inner(y * 2, "inner"), [], 3)), image(2, 4))
    loaded, x = swdc.load(swdc.save(program, tmp_path / "saved")), image(3, 4)
    assert loaded.facts.notes == ()
    wanted = program(x)
    found = loaded(x)
    assert type(found) is not Outer
    assert (type(found).__name__, [each.name for each in fields(found)]) == (
        "Outer",
        [each.name for each in fields(Outer)],
    )
    assert_equal([found.logits, found.inner.twice], [wanted.logits, wanted.inner.twice])
    assert (found.inner.name, found.count) == ("inner", 3)


def test_opening_names_only_the_classes_that_are_lost() -> None:
    y = image(2, 3)
    found, lost = capturable([outer(y), WithObject(y, object())])
    assert lost == {"WithObject": "a dict of its tensors"}
    assert pytree.tree_leaves(found)[-2:] == [3, y]


@dataclass(slots=True)
class Given:
    x: torch.Tensor
    parts: list[Inner]
    scale: float = 2.0


@dataclass
class Computed:
    x: torch.Tensor
    twice: torch.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.twice = self.x * 2


def test_dataclasses_are_inputs() -> None:
    user = Function(lambda m, x: m.layer(x.x - x.parts[0].twice) * x.scale, layer=nn.Linear(4, 3))

    def given(batch: int, scale: float = 2.0) -> Given:
        return Given(image(batch, 4), [Inner(image(batch, 4, seed=3), "x")], scale)

    program = traced(user, (given(2),))
    assert_equal(program(given(5)), user(given(5)))
    with pytest.raises(InputError, match=r"as in the example, 2\.0, which is built into the program, got 3\.0"):
        program(given(5, 3.0))


def test_a_dataclass_with_a_field_that_is_no_argument_is_refused() -> None:
    with pytest.raises(TraceError, match=r"dataclasses of which every field is an argument, got a Computed; let"):
        swdc.trace(Function(lambda m, x: x.twice), (Computed(image(2, 4)),))


def test_named_tuples_are_inputs() -> None:
    user = Function(lambda m, pair: m.layer(pair.left) * pair.right, layer=nn.Linear(4, 3))
    program = traced(user, (Pair(image(2, 4), 3),))
    assert_equal(program(Pair(image(5, 4), 3)), user(Pair(image(5, 4), 3)))
