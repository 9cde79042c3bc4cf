"""Inputs that are empty, share memory or require gradients, and modules of torch that compute something else then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import swdc
from swdc.capture.given_inputs import copied_together
from swdc.capture.notes import FUSED, GRADIENTS, TOGETHER
from swdc.errors import InputError
from tests.support import Function, assert_same, image, randomise


def test_copies_share_memory_where_the_inputs_do() -> None:
    x = image(4, 5)
    assert copied_together((x, image(4, 5))) is None
    one, (other, half, number) = copied_together((x, [x, x[2:], 3]))
    assert one is other
    assert one is not x
    half.zero_()
    assert number == 3
    assert not one[2:].any()
    assert torch.equal(one[:2], x[:2])


def test_code_that_tells_whether_inputs_are_one_tensor() -> None:
    model = randomise(Function(lambda m, x, y: m.a(x) * (2 if x is y else 1), a=nn.Linear(5, 4))).eval()
    x = image(3, 5)
    with pytest.warns(UserWarning, match="where inputs share memory"):
        program = swdc.trace(model, (x, x))
    assert_same(model(x, x.clone()), program(x, x))


def test_one_tensor_for_two_inputs_needs_no_note() -> None:
    model, x = randomise(Function(lambda m, x, y: m.a(x) - m.a(y * 2), a=nn.Linear(5, 4))).eval(), image(3, 5)
    assert TOGETHER not in swdc.trace(model, (x, x)).facts.notes


def test_code_that_asks_whether_its_input_requires_gradients() -> None:
    model = randomise(Function(lambda m, x: m.a(x) * (2 if x.requires_grad else 1), a=nn.Linear(5, 4))).eval()
    with pytest.warns(UserWarning, match="with gradients switched on"):
        assert GRADIENTS in swdc.trace(model, image(3, 5)).facts.notes


def test_attention_of_torch_says_what_a_program_does_not_do() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True)
    model = randomise(nn.TransformerEncoder(layer, 1)).eval()
    padded = torch.tensor([[False, False, True, True], [False] * 4])
    with pytest.warns(UserWarning, match="fused path of torch.nn"):
        program = swdc.trace(model, {"src": image(2, 4, 8), "src_key_padding_mask": padded})
    assert program.facts.notes == (FUSED,)


@pytest.mark.parametrize("weights", [True, False])
def test_attention_that_drops_in_training(weights: bool) -> None:
    attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
    model = Function(lambda m, x: m.a(x, x, x, need_weights=weights)[0], a=attention)
    with pytest.warns(UserWarning, match="in training differs from evaluation"):
        swdc.trace(randomise(model).eval(), image(2, 4, 8))


EMPTY: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "elements": lambda x, y: y if x.numel() else y.new_ones(1, 4),
    "length": lambda x, y: y.new_ones(1, 4) if not len(x) else y,
    "at least one": lambda x, y: y.sum(0) / max(x.shape[0], 1),
    "by two batches": lambda x, y: y * (0 * len(str(x.shape)) + 1) if len(x) else y.new_ones(1, 4),
}


@pytest.mark.parametrize("name", EMPTY)
def test_code_that_asks_whether_an_input_is_empty(name: str) -> None:
    model = randomise(Function(lambda m, x: EMPTY[name](x, m.a(x)), a=nn.Linear(5, 4))).eval()
    program = swdc.trace(model, image(3, 5))
    assert_same(model(image(1, 5)), program(image(1, 5)))
    with pytest.raises(InputError, match=r"inputs with \w+ >= 1.*, got \w+ 0"):
        program(image(0, 5))


def test_an_empty_input_needs_no_condition_where_nobody_asks() -> None:
    program = swdc.trace(randomise(nn.Linear(5, 4)).eval(), image(3, 5))
    assert program.facts.conditions == ()
    assert program(image(0, 5)).shape == (0, 4)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("factor", [lambda x: 2 if len(x) == 1 else 1, lambda x: {1: 2.0}.get(x.shape[0], 1.0)])
@pytest.mark.parametrize("batch", [1, 2])
def test_without_the_check_a_batch_of_one_is_not_taken_unseen(batch: int, factor: Callable[..., float]) -> None:
    model = randomise(Function(lambda m, x: m.a(x) * factor(x), a=nn.Linear(5, 4))).eval()
    program = swdc.trace(model, image(batch, 5), check=False)
    assert_same(model(image(batch, 5)), program(image(batch, 5)))
    with pytest.raises(InputError, match="got"):
        program(image(3 - batch, 5))


def test_sizes_are_results() -> None:
    model = randomise(Function(lambda m, x: (m.a(x), x.shape, x.shape[1] * 2, x.shape[0] / 4), a=nn.Linear(5, 4)))
    program = swdc.trace(model.eval(), image(2, 3, 5))
    assert program.facts.captured_by == "follow"
    assert program(image(3, 7, 5))[1:] == ((3, 7, 5), 14, 0.75)


def test_numbers_that_change_in_every_call_are_told() -> None:
    calls: list[int] = []

    def forward(m: Any, x: torch.Tensor) -> Any:
        calls.append(1)
        m.steps = getattr(m, "steps", 0) + 1
        m.kept = x.shape[0]
        return m.a(x) * (2 if m.steps > 5 else 1)

    with pytest.warns(UserWarning, match=r"changes steps, the length of a list in every call"):
        swdc.trace(randomise(Function(forward, a=nn.Linear(5, 4))).eval(), image(3, 5))
    assert calls == []


def test_one_tensor_given_twice() -> None:
    def same(m: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return m.one(x) * 3 if x is y else m.one(x) + m.one(y)

    inputs = torch.randn(3, 4), torch.randn(3, 4)
    with pytest.warns(UserWarning, match="if it is given one tensor twice"):
        swdc.trace(Function(same, one=nn.Linear(4, 4)).eval(), inputs)
    calls = [0]

    def counting(m: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return m.one(x) + m.one(y) * calls[0]

    with pytest.warns(UserWarning, match="called again") as heard:
        swdc.trace(Function(counting, one=nn.Linear(4, 4)).eval(), inputs)
    assert not any("twice" in str(warning.message) for warning in heard)
    plain = swdc.trace(Function(lambda m, x, y: m.one(x) + m.one(y), one=nn.Linear(4, 4)).eval(), inputs)
    assert plain.facts.notes == ()


@pytest.mark.parametrize("size", [torch.Size([6, 8]), (6, 8)], ids=["Size", "tuple"])
def test_a_size_is_given_as_torch_or_python_hold_it(size: Any) -> None:
    def forward(m: Any, x: torch.Tensor, size: Any) -> torch.Tensor:
        return F.interpolate(m.a(x), size=size) / torch.Size(size).numel()

    model = randomise(Function(forward, a=nn.Conv2d(3, 4, 1))).eval()
    program = swdc.trace(model, (image(2, 3, 4, 4), size))
    assert program.facts.captured_by == "follow"
    x = image(3, 3, 5, 4, seed=2)
    for given in ((6, 8), torch.Size([6, 8])):
        assert_same(model(x, given), program(x, given))
    with pytest.raises(
        InputError, match=r"expected arg_1 with the structure .* \[\*, \*\]\), got .* \[\*, \*, \*\]\);"
    ):
        program(x, (6, 8, 1))
