"""What no output needs goes: nodes, modules, tensors, and outputs that nobody asked for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

import swdc
from passes.eliminate_unused import EliminateUnused
from swdc.errors import PassError
from swdc.ir.differences import flat_outputs
from swdc.ir.program import Program
from swdc.rewriting.pass_base import PassResult
from swdc.rewriting.pipeline import apply, run
from tests.support import Function, assert_equal, conv, image, operators, text, traced

X = image(2, 3, 8, 8)


def two_heads(result: Callable[[Any, Any], Any] = lambda a, b: {"logits": a, "aux": b}) -> nn.Module:
    """Return a model with a stem and two heads, whose maps of 2 and of 5 channels it returns as ``result`` says."""
    parts = {"stem": conv(3, 4), "head": conv(4, 2), "aux": nn.Sequential(conv(4, 4), nn.BatchNorm2d(4), conv(4, 5))}
    return Function(lambda m, x: (lambda y: result(m.head(y), m.aux(y)))(torch.relu(m.stem(x))), **parts)


def eliminated(program: Program, outputs: tuple[int | str, ...] | None = None) -> PassResult:
    """Eliminate, and assert the very same numbers, an untouched program, and that nothing is left to eliminate."""
    described = text(program)
    step = EliminateUnused(outputs)
    result = run(program, [step])
    for batch in (1, 3):
        x = image(batch, 3, 8, 8, seed=batch)
        assert_equal([flat_outputs(program(x))[i] for i in step.kept(program)], result.program(x))
    assert text(program) == described
    assert not run(result.program, [EliminateUnused()]).modified
    return result


def test_golden(golden: Callable[[str, str], None]) -> None:
    program = traced(two_heads())
    golden("eliminate_unused.before", text(program))
    golden("eliminate_unused.after", text(eliminated(program, ("logits",)).program))


def test_an_output_goes_with_all_that_only_it_needed() -> None:
    program = traced(two_heads())
    result = eliminated(program, ("logits",))
    assert result.modified
    assert set(result.program.state_dict()) == {f"{n}.{t}" for n in ("stem", "head") for t in ("weight", "bias")}
    assert {name for name, _ in result.program.named_modules()} == {"", "stem", "head"}
    assert operators(result.program) == ["Conv2d", "aten.relu.default", "Conv2d"]
    assert list(result.program(X)) == ["logits"]
    assert result.program.get_parameter("stem.weight") is program.get_parameter("stem.weight")


class Pair(NamedTuple):
    one: Any
    other: Any


STRUCTURES: dict[str, tuple[Callable[[Any, Any], Any], tuple[int | str, ...], Callable[[Any], Any]]] = {
    "a dict": (lambda a, b: {"a": a, "b": b}, ("b",), lambda r: r["b"]),
    "a tuple": (lambda a, b: (a, b), (1,), lambda r: r[0]),
    "a list": (lambda a, b: [a, b], ("output_1",), lambda r: r[0]),
    "an ordered dict": (lambda a, b: OrderedDict(a=a, b=b), ("b",), lambda r: r["b"]),
    "a named tuple": (lambda a, b: Pair(a, b), (1,), lambda r: r["other"]),
    "nested": (lambda a, b: {"x": [a, {"y": a}], "z": (b, (b, a))}, (2,), lambda r: r["z"][0]),
    "with what is not a tensor": (lambda a, b: {"a": a, "n": None, "b": b, "three": 3}, ("b",), lambda r: r["b"]),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_result_keeps_its_form(name: str) -> None:
    form, outputs, pick = STRUCTURES[name]
    program = traced(two_heads(form))
    result = eliminated(program, outputs).program
    returned = result(X)
    assert not isinstance(returned, torch.Tensor)
    assert pick(returned).shape == (2, 5, 8, 8)
    assert len(flat_outputs(returned)) == 1


def test_a_named_tuple_of_which_all_is_left_stays_one() -> None:
    program = traced(two_heads(lambda a, b: {"pair": Pair(a, b), "sum": a.sum()}))
    returned = eliminated(program, (0, 1)).program(X)
    assert list(returned) == ["pair"]
    assert isinstance(returned["pair"], Pair)


def test_the_order_of_the_program_stays() -> None:
    program = traced(two_heads(lambda a, b: (a, b, a.sum(), b.sum())))
    returned = eliminated(program, (3, 0)).program(X)
    assert [tuple(t.shape) for t in returned] == [(2, 2, 8, 8), ()]


def test_a_bare_tensor() -> None:
    program = traced(conv(3, 2))
    assert not run(program, [EliminateUnused((0,))]).modified
    assert not run(program, [EliminateUnused(("output",))]).modified


@pytest.mark.parametrize("outputs", [("nothing",), (2,), (-1,), ("logits", 5), ()])
def test_outputs_that_there_are_not(outputs: tuple[Any, ...]) -> None:
    with pytest.raises(PassError, match=r"expected outputs to keep of \['logits', 'aux'\], or positions below 2, got"):
        run(traced(two_heads()), [EliminateUnused(outputs)])


def test_tensors_that_nothing_reads_go() -> None:
    model = Function(lambda m, x: m.a(x), a=conv(3, 4), unread=conv(4, 4), table=torch.ones(3))
    result = eliminated(traced(model))
    assert result.modified
    assert set(result.program.tensors) == {"a.weight", "a.bias"}


def test_tied_tensors_keep_their_names() -> None:
    model = Function(lambda m, x: m.a(x), a=conv(3, 4), same=conv(3, 4))
    model.same.weight = model.a.weight
    result = eliminated(traced(model))
    assert set(result.program.tensors) == {"a.weight", "a.bias", "same.weight"}


def test_where_all_is_used_the_given_program_comes_back() -> None:
    program = traced(two_heads())
    for outputs in (None, (0, 1), ("logits", "aux")):
        result = run(program, [EliminateUnused(outputs)])
        assert not result.modified
        assert result.program is program


def test_what_overwrites_something_stays() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.a(x)
        y[:, 0].mul_(2)
        return m.b(y)

    program = traced(Function(forward, a=conv(3, 4), b=conv(4, 2), unread=torch.ones(1)))
    result = eliminated(program)
    assert operators(result.program) == operators(program)
    assert "unread" not in result.program.tensors


def test_modes_transient_buffers_and_origin_are_kept() -> None:
    model = two_heads(lambda a, b: {"logits": a, "aux": b * model.table})
    model.register_buffer("table", torch.rand(1), persistent=False)
    program = traced(model)
    slim = swdc.slim(program, swdc.plan(program, 0.5)).train()
    slim.get_submodule("aux.1").eval()
    result = apply(slim, "eliminate-unused", outputs=("aux",))
    assert result.transient == {"table"}
    modes = {name: module.training for name, module in result.named_modules()}
    assert modes == {"": True, "stem": True, "aux": True, "aux.0": True, "aux.1": False, "aux.2": True}
    assert result.facts.origin is not None
    assert result.facts.origin.plan is slim.facts.origin.plan
    assert swdc.count(result).before == swdc.count(slim).before
    assert swdc.count(result).parameters < swdc.count(slim).parameters


def test_a_slim_program_with_folded_constants_can_be_compared_still() -> None:
    def forward(m: Any, x: torch.Tensor) -> Any:
        return m.b(torch.sigmoid(m.a(x))), m.c(torch.sigmoid(m.a(x)))

    program = traced(Function(forward, a=nn.Linear(3, 6), b=nn.Linear(6, 2), c=nn.Linear(6, 2)), image(2, 3))
    slim = swdc.slim(program, swdc.plan(program, 0.5))
    assert set(slim.facts.origin.folded) == {"b.bias", "c.bias"}
    result = apply(slim, "eliminate-unused", outputs=(1,))
    assert set(result.facts.origin.folded) == {"c.bias"}


def test_it_saves(tmp_path: Any) -> None:
    program = apply(traced(two_heads()), "eliminate-unused", outputs=("aux",))
    loaded = swdc.load(swdc.save(program, tmp_path / "saved"))
    assert_equal(program(X), loaded(X))
    assert list(loaded(X)) == ["aux"]
