"""Inputs are held against what a program stands for before it runs."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn

import swdc
from swdc.capture.trace import trace_recorded
from swdc.errors import InputError
from tests.support import Function, assert_equal, image, randomise, traced

IDS = torch.tensor([[0, 3, 1], [2, 2, 4]])
MASK = torch.ones(2, 3)


class Text(nn.Module):
    """Takes indices, a mask, a list of states, and numbers that its code reads."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(5, 4), nn.Linear(4, 2)

    def forward(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        states: list[torch.Tensor],
        scale: float = 1.0,
        double: bool = False,
    ) -> torch.Tensor:
        y = self.head(self.words(ids) + states[0]) * mask[..., None] * scale
        return y * 2 if double else y


STATES = [torch.rand(2, 3, 4), torch.rand(2)]


@pytest.fixture(scope="module")
def text() -> swdc.Program:
    return swdc.trace(Text().eval(), (IDS, MASK, STATES, 1.0, False))


REFUSED: dict[str, tuple[Callable[[swdc.Program], Any], str]] = {
    "too few": (
        lambda p: p(IDS, MASK, STATES),
        r"expected 6 inputs \(ids: \(batch, length\), .*double: False\), got 4;",
    ),
    "too many": (lambda p: p(IDS, MASK, STATES, 1.0, False, 3), "expected 6 inputs .* got 7"),
    "another name": (lambda p: p(IDS, MASK, STATES, 1.0, twice=False), "expected 6 inputs .* with twice; call"),
    "a name twice": (lambda p: p(IDS, MASK, STATES, 1.0, ids=IDS), "expected 6 inputs .* with ids; call"),
    "a scale": (lambda p: p(IDS, MASK, STATES, 3.0, False), "expected scale as in the example, 1.0, .* got 3.0; give"),
    "an integer": (lambda p: p(IDS, MASK, STATES, 1, False), "expected scale as in the example, 1.0, .* got 1; give"),
    "a flag": (lambda p: p(IDS, MASK, STATES, 1.0, True), "expected double as in the example, False, .* got True"),
    "a tensor for a number": (lambda p: p(IDS, MASK, STATES, MASK, False), r"expected scale .* tensor of shape \(2, 3"),
    "none for a tensor": (lambda p: p(IDS, None, STATES, 1.0, False), "expected mask as a tensor .* got None"),
    "structure": (lambda p: p(IDS, MASK, STATES[:1], 1.0, False), "expected states with the structure"),
    "a tuple": (lambda p: p(IDS, MASK, tuple(STATES), 1.0, False), "expected states with the structure"),
    "two batches": (
        lambda p: p(IDS, MASK[:1], STATES, 1.0, False),
        r"mask of shape \(batch, length\) where batch is 2, got",
    ),
    "another size": (
        lambda p: p(IDS[:, :2], MASK, STATES, 1.0, False),
        r"mask of shape \(batch, length\) where length is 2, got \(2, 3\)",
    ),
    "another width": (
        lambda p: p(IDS, MASK, [STATES[0][..., :3], STATES[1]], 1.0, False),
        r"states_0 of shape \(batch, length, 4\), got \(2, 3, 3\); give .*test_input_check.py:\d+ fixes that size",
    ),
    "rank": (lambda p: p(IDS[0], MASK, STATES, 1.0, False), r"ids of shape \(batch, length\), got \(3,\)"),
    "type": (lambda p: p(IDS, MASK.double(), STATES, 1.0, False), "mask of torch.float32, got torch.float64; cast it"),
    "a type of indices": (
        lambda p: p(IDS.int(), MASK, STATES, 1.0, False),
        "ids of torch.int64, got torch.int32; cast",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_program_does_not_stand_for(text: swdc.Program, name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        call(text)
    assert caught.value.__cause__ is None


def test_what_the_model_takes_is_taken(text: swdc.Program) -> None:
    expected = text(IDS, MASK, STATES, 1.0, False)
    assert_equal(text(ids=IDS, mask=MASK, states=STATES, scale=1.0, double=False), expected)
    assert_equal(text(IDS, MASK, double=False, scale=1.0, states=STATES), expected)
    longer = [torch.cat([t, t]) for t in (IDS, MASK, *STATES)]
    assert_equal(text(longer[0], longer[1], longer[2:], 1.0, False), torch.cat([expected, expected]))


def layers() -> swdc.Program:
    return swdc.trace(nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)).eval(), torch.rand(2, 5))


def test_a_program_that_is_cast_takes_its_new_type() -> None:
    program, x = layers(), torch.rand(3, 5)
    for dtype in (torch.float64, torch.bfloat16, torch.float32):
        assert program.to(dtype)(x.to(dtype)).dtype == dtype
        assert copy.deepcopy(program)(x.to(dtype)).dtype == dtype
    with pytest.raises(InputError, match=r"of torch.float64, got torch.float32"):
        program.double()(x)
    assert program.clone(torch.float32)(x).dtype == torch.float32


@pytest.mark.parametrize(
    "code",
    [
        lambda m, x: m.two(m.one(x) + torch.arange(1, 5, dtype=x.dtype)),
        lambda m, x: m.two(m.one(x).masked_fill(x[:, :1] > 9, torch.finfo(x.dtype).min)),
    ],
    ids=["type", "number"],
)
def test_a_program_that_is_cast_says_where_it_computes_with_its_old_type(code: Any) -> None:
    model, x = Function(code, one=nn.Linear(4, 4), two=nn.Linear(4, 3)), torch.rand(3, 4)
    program = swdc.trace(model, torch.rand(2, 4))
    program(x)
    with pytest.raises(InputError, match=f"cast to torch.float16, but at {__file__}.* cast the model"):
        program.half()(x.half())
    program.float()(x)


def test_without_weights_the_type_is_that_of_the_example() -> None:
    model = Function(lambda m, x: x * 2 if x.dtype == torch.float64 else x + 1)
    program = swdc.trace(model, torch.rand(2, 5))
    assert program(torch.rand(3, 5)).dtype == torch.float32
    for other in (torch.float64, torch.int64):
        with pytest.raises(InputError, match=f"expected x of torch.float32, got {other}"):
            program(torch.ones(3, 5, dtype=other))


def test_autocast_takes_other_floats() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert layers()(torch.rand(3, 5).bfloat16()).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_nested_tensors_are_refused(layout: torch.layout) -> None:
    nested = torch.nested.nested_tensor([torch.rand(1, 5), torch.rand(3, 5)], layout=layout)
    with pytest.raises(InputError, match="expected input_1 as a tensor of one shape, got a nested tensor; give its"):
        layers()(nested)


def test_inputs_without_values_are_for_programs_without_values() -> None:
    program, x = layers(), torch.rand(3, 5, device="meta")
    with pytest.raises(
        InputError, match="expected input_1 with values, as the program has them, got a tensor on the m"
    ):
        program(x)
    assert program.to("meta")(x).shape == (3, 2)
    assert swdc.trace(Function(lambda m, x: x * 2), torch.rand(2, 5))(x).is_meta


def _fixed(model: nn.Module) -> swdc.Program:
    with pytest.warns(UserWarning, match="the sizes of all inputs are fixed"):
        return swdc.trace(model, image(2, 5))


@pytest.mark.parametrize("recorded", [True, False])
def test_programs_of_fixed_sizes_refuse_others(recorded: bool) -> None:
    model = randomise(Function(lambda m, x: m.a(x) * len(str(x.shape)), a=nn.Linear(5, 4))).eval()
    program = trace_recorded(model, image(2, 5)) if recorded else _fixed(model)
    assert program.facts.captured_by == ("record" if recorded else "export")
    assert_equal(program(image(2, 5)), model(image(2, 5)))
    with pytest.raises(InputError, match=r"of shape \(2, 5\), got \(12, 5\)"):
        program(image(12, 5))


def test_the_check_is_out_of_the_way_of_compilers_and_copies() -> None:
    program, x = layers(), torch.rand(3, 5)
    expected, buffer = program(x), io.BytesIO()
    wrapped = fx.symbolic_trace(nn.Sequential(program), concrete_args=None)
    torch.save(program, buffer)
    buffer.seek(0)
    others = [
        torch.compile(program, backend="eager", fullgraph=True),
        torch.export.export(program, (x,)).module(),
        wrapped,
        copy.deepcopy(program),
        torch.load(buffer, weights_only=False),
    ]
    for other in others:
        assert_equal(other(x), expected)
    assert_equal(torch.func.vmap(program)(x[None]), expected[None])


def test_a_program_of_other_weights_and_graph_is_checked_anew() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 2)), image(2, 5))
    program(image(3, 5))
    slim = swdc.slim(program, swdc.plan(program, 0.5))
    assert slim(image(3, 5)).shape == (3, 2)
    with pytest.raises(InputError, match=r"got \(3, 4\)"):
        slim(image(3, 4))


def test_arguments_are_given_by_place_only_where_forward_has_them(tmp_path: Path) -> None:
    class Model(nn.Linear):
        def forward(self, x: Any, a: Any = None, b: Any = None, *, c: Any = None) -> Any:  # type: ignore[override]
            given = [part for part in (a, b, c) if part is not None]
            return super().forward(x) + sum((number + 1) * part for number, part in enumerate(given))

    model = Model(4, 3).eval()
    x, one, two = torch.randn(2, 4), torch.randn(2, 3), torch.randn(2, 3)
    program = swdc.trace(model, {"x": x, "b": one})
    swdc.save(program, tmp_path / "program")
    for each in (program, swdc.load(tmp_path / "program")):
        assert torch.equal(each(x, b=two), model(x, b=two))
        with pytest.raises(InputError, match="expected b by name, as in the example, got 2 arguments by place"):
            each(x, two)
    by_place = swdc.trace(model, {"b": two, "a": one, "x": x})
    assert torch.equal(by_place(x, one, two), model(x, one, two))
    named = swdc.trace(model, {"x": x, "a": one, "c": two})
    assert torch.equal(named(x, one, c=two), model(x, one, c=two))
    with pytest.raises(InputError, match="expected c by name"):
        named(x, one, two)
