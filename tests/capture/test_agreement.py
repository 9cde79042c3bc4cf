"""No way of capture is taken whose program computes something else than the model."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.capture.by_export import FIXED
from swdc.capture.by_recording import NOTE
from swdc.capture.captured_graph import fixed_batch
from swdc.capture.notes import GRADIENTS, STATEFUL
from swdc.capture.results import difference
from swdc.capture.training_differences import training_differences
from swdc.errors import InputError, TraceError
from swdc.ir.conditions import broken
from tests.support import Function, assert_same, image, randomise

Code = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

BRANCHES: dict[str, tuple[int, Code]] = {
    "one, on one": (1, lambda x, y: y * 2 if x.shape[0] == 1 else y),
    "one, on two": (2, lambda x, y: y * 2 if x.shape[0] == 1 else y),
    "at most two": (1, lambda x, y: y / min(x.shape[0], 2)),
    "two": (4, lambda x, y: y * 2 if x.shape[0] == 2 else y),
    "more than two": (2, lambda x, y: y * 2 if x.shape[0] > 2 else y),
    "more than a hundred": (2, lambda x, y: y * 2 if x.shape[0] > 100 else y),
    "odd, on odd": (3, lambda x, y: y * 2 if x.shape[0] % 2 else y),
    "odd, on even": (2, lambda x, y: y * 2 if x.shape[0] % 2 else y),
    "three, on two": (2, lambda x, y: y * 2 if x.shape[0] == 3 else y),
    "three, by elements": (2, lambda x, y: y * 2 if x.numel() == 15 else y),
    "eleven": (2, lambda x, y: y * 2 if x.size(0) - 1 == 10 else y),
    "five, by length": (2, lambda x, y: y * 2 if len(x) == 5 else y),
    "three or five, in a table": (2, lambda x, y: y * {3: 2.0, 5: 3.0}.get(x.shape[0], 1.0)),
    "a multiple of seven": (2, lambda x, y: y * 2 if x.shape[0] % 7 == 0 else y),
    "a multiple of three": (2, lambda x, y: y * 2 if x.shape[0] % 3 == 0 else y),
    "text": (2, lambda x, y: y * len(str(x.shape))),
    "a tensor": (2, lambda x, y: y / torch.tensor(float(x.shape[0]))),
    "an array": (2, lambda x, y: y * torch.from_numpy(np.full(4, x.shape[0], dtype=np.float64))),
    "an array of values": (4, lambda x, y: y * torch.from_numpy(np.array([1.0 if len(x) > 3 else 2.0]))),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_code_that_looks_at_the_batch(name: str) -> None:
    batch, code = BRANCHES[name]
    model = randomise(Function(lambda m, x: m.b(code(x, torch.relu(m.a(x)))), a=nn.Linear(5, 4), b=nn.Linear(4, 3)))
    program = _quietly(model.eval(), image(batch, 5))
    assert_same(model(image(batch, 5, seed=2)), program(image(batch, 5, seed=2)))
    for other in {1, 2, 3, 4, 6, 101} - {batch}:
        x = image(other, 5, seed=other)
        try:
            result = program(x)
        except InputError:
            facts = program.facts
            assert {FIXED, NOTE, fixed_batch(batch)} & set(facts.notes) or broken(facts.conditions, {"batch": other})
        else:
            assert_same(model(x), result)


ELSEWHERE: dict[str, Code] = {
    "device": lambda x, y: y * 2 if x.device.type == "cpu" else y,
    "is_cpu": lambda x, y: y * 2 if x.is_cpu else y,
    "type": lambda x, y: y * 2 if x.type() == "torch.DoubleTensor" else y,
    "dtype": lambda x, y: y * 2 if x.dtype == torch.float64 else y,
    "compiling": lambda x, y: y * 2 if torch.compiler.is_compiling() else y,
    "exporting": lambda x, y: y if torch.compiler.is_exporting() else y * 2,
    "tracing": lambda x, y: y * 2 if torch.jit.is_tracing() else y,
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_code_that_looks_at_where_it_runs(name: str) -> None:
    code = ELSEWHERE[name]
    model = randomise(Function(lambda m, x: m.b(code(x, torch.relu(m.a(x)))), a=nn.Linear(5, 4), b=nn.Linear(4, 3)))
    program = swdc.trace(model.eval(), image(2, 5))
    assert program.facts.captured_by != "record"
    for batch in (1, 2, 5):
        assert_same(model(image(batch, 5)), program(image(batch, 5)))


def _quietly(model: nn.Module, x: Any) -> swdc.Program:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("warnings.warn", lambda *_, **__: None)
        return swdc.trace(model, x)


def layer(code: Code) -> Function:
    return randomise(Function(lambda m, x: code(x, m.a(x)), a=nn.Linear(5, 4))).eval()


def test_code_that_looks_at_gradients_is_that_without_them_and_a_note_says_so() -> None:
    model = layer(lambda x, y: y * 2 if torch.is_grad_enabled() else y)
    with pytest.warns(UserWarning, match="with gradients switched on"):
        program = swdc.trace(model, image(2, 5))
    assert GRADIENTS in program.facts.notes
    assert "follow" in dict(program.facts.attempts)
    with torch.no_grad():
        assert_same(model(image(2, 5)), program(image(2, 5)))


def test_code_that_counts_its_calls() -> None:
    calls = [0]

    def count(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return y * calls[0]

    with pytest.warns(UserWarning, match="when it is called again"):
        program = swdc.trace(layer(count), image(2, 5))
    assert STATEFUL in program.facts.notes
    assert calls == [0]


class Remembers(nn.Module):
    """Encodes what it is given first, and keeps that."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.memory = nn.Linear(4, 3), None

    def forward(self, x: torch.Tensor) -> Any:
        if self.memory is None:
            self.memory = self.one(x).mean(0)
        return self.one(x) + self.memory


def test_code_that_keeps_something_of_its_first_call() -> None:
    model = Remembers().eval()
    with pytest.warns(UserWarning, match="when it is called again"):
        swdc.trace(model, torch.randn(3, 4))
    assert model.memory is None


class Grows(nn.Module):
    """Computes its table anew for the longest input that it has seen, as rotary positions of old do."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.seen, self.table = nn.Linear(4, 3), 0, None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] > self.seen:
            self.seen = x.shape[1]
            self.table = torch.arange(self.seen)[:, None] / self.seen
        return self.one(x) + self.table[: x.shape[1]]


def test_code_that_keeps_what_another_size_has_made_is_told() -> None:
    model = Grows().eval()
    with pytest.warns(UserWarning, match="when it is called again"):
        swdc.trace(model, torch.randn(2, 5, 4))
    assert (model.seen, model.table) == (0, None)


def test_code_that_overwrites_without_gradients_is_told() -> None:
    def doubled(m: Any, x: torch.Tensor, part: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        y = m.one(x)
        with torch.no_grad():
            part(y).mul_(2)
        return m.two(y)

    for part in (lambda y: y, lambda y: y[:, :2]):
        model = Function(partial(doubled, part=part), one=nn.Linear(4, 4), two=nn.Linear(4, 3)).eval()
        with pytest.warns(UserWarning, match="the model computes without gradients what the program computes with"):
            swdc.trace(model, torch.randn(3, 4))


def test_the_program_runs_with_gradients_where_the_model_does() -> None:
    def out(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = m.one(x)
        with torch.no_grad():
            z = torch.mul(y, 2, out=torch.empty_like(y))
        return m.two(y + z)

    model = Function(out, one=nn.Linear(4, 4), two=nn.Linear(4, 3)).eval()
    with pytest.warns(UserWarning, match="without gradients"):
        program = swdc.trace(model, torch.randn(3, 4))
    x = torch.randn(5, 4)
    assert torch.allclose(program(x), model(x))
    assert program.groups


def test_a_tensor_that_gets_another_shape_in_place_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.CrossMapLRN2d(3), nn.Conv2d(8, 3, 1)).eval()
    with pytest.raises(TraceError, match="gives a tensor another shape in place"):
        swdc.trace(model, torch.randn(2, 3, 6, 6))


CAUGHT: dict[str, tuple[Any, Any]] = {
    "sum": (lambda m, x, y: m.one(x) + m.one(y), lambda m, x, y: m.one(x) + m.one(y).mean(0)),
    "where": (lambda m, x, y: m.one(torch.where(x > 0, x, y)), lambda m, x, y: m.one(x)),
}


@pytest.mark.parametrize("name", CAUGHT)
def test_a_failure_that_the_model_catches_is_that_of_these_sizes(name: str) -> None:
    def tried(m: Any, x: torch.Tensor, y: torch.Tensor) -> Any:
        try:
            return CAUGHT[name][0](m, x, y)
        except RuntimeError:
            return CAUGHT[name][1](m, x, y)

    model = Function(tried, one=nn.Linear(4, 3)).eval()
    program = _quietly(model, (torch.randn(5, 4), torch.randn(3, 4)))
    assert torch.equal(program(*(given := (torch.randn(5, 4), torch.randn(3, 4)))), model(*given))
    with pytest.raises(InputError, match=r"of shape \(5, 4\), got \(3, 4\)"):
        program(torch.randn(3, 4), torch.randn(3, 4))


def test_the_reason_names_the_first_node_that_differs() -> None:
    model = Function(
        lambda m, x: m.b(torch.relu(m.a(x)) * (1 if x.is_meta else 2)), a=nn.Linear(5, 4), b=nn.Linear(4, 3)
    )
    program = swdc.trace(randomise(model).eval(), image(2, 5))
    assert program.facts.attempts == (
        ("follow", "the program differs from the model on the example, first at node b (module b)"),
    )


def _states() -> Any:
    numbers: Any = np.random.get_state()
    return random.getstate(), numbers[1].tolist(), torch.get_rng_state().tolist()


@pytest.mark.parametrize("draw", [lambda: random.random(), lambda: float(np.random.rand())], ids=["python", "numpy"])
def test_numbers_drawn_in_python_are_no_function_of_the_inputs(draw: Callable[[], float]) -> None:
    model = layer(lambda x, y: y * draw())
    state = _states()
    with pytest.raises(TraceError, match="expected a model whose random numbers come from torch"):
        swdc.trace(model, image(2, 5))
    assert _states() == state


@pytest.mark.parametrize(
    "code",
    [lambda x, y: F.dropout(y, 0.5, training=True), lambda x, y: y + torch.randn_like(y)],
    ids=["dropout", "noise"],
)
def test_random_operators_draw_alike(code: Code) -> None:
    model = layer(code)
    state = _states()
    program = swdc.trace(model, image(2, 5))
    assert program.facts.captured_by != "record"
    assert not program.facts.notes
    assert _states() == state


def test_a_random_model_whose_program_draws_in_another_order_is_not_refused() -> None:
    def code(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        torch.randn_like(x)  # nobody reads it, so that it is not in the program
        return y + torch.randn_like(y)

    assert swdc.trace(layer(code), image(2, 5)).facts.captured_by != "record"


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.bool, torch.float16])
def test_inputs_that_the_model_refuses(dtype: torch.dtype) -> None:
    message = rf"inputs that Linear can run on, got shapes \[\(2, 5\)\] of {str(dtype)[6:]}, on which it fails with Run"
    with pytest.raises(TraceError, match=message):
        swdc.trace(nn.Linear(5, 4).eval(), torch.ones(2, 5, dtype=dtype))


def test_without_the_check_nothing_runs() -> None:
    ran: list[str] = []

    def code(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        ran.append(x.device.type)
        return y

    swdc.trace(layer(code), image(2, 5), check=False)
    assert ran == []  # what capture appended is gone
    assert swdc.trace(layer(lambda x, y: y * 2 if x.is_cpu else y), image(2, 5), check=False).facts.attempts == ()
    assert swdc.trace(layer(code).to("meta"), image(2, 5)).facts.captured_by == "follow"


def test_differences_of_results() -> None:
    x = torch.tensor([1.0, float("nan"), float("inf")])
    assert difference({"a": x, "b": 2}, {"a": x.clone(), "b": 2}) is None
    assert difference(x, x * torch.tensor([1 + 1e-6, 1, 1])) is None
    assert "relative error" in str(difference(x, x * torch.tensor([1.01, 1, 1])))
    assert "relative error inf" in str(difference(x, -x))
    assert "relative error" in str(difference(torch.tensor([1]), torch.tensor([2])))
    assert "output 1: 2 is 3" in str(difference((x, 2), (x, 3)))
    assert "float32" in str(difference(x, x.double()))
    assert "structure" in str(difference((x, x), x))
    assert "the program fails with ValueError: no" in str(difference(x, ValueError("no")))
    assert difference(ValueError("no"), RuntimeError("no")) is None


def test_statistics_stay_as_they_are_where_sizes_are_measured() -> None:
    def forward(m: Any, x: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        kept = edges[:, edges[0] != edges[1]]
        y = m.norm(m.linear(x))
        return torch.zeros_like(y).index_add(0, kept[0], y[kept[1]])

    model = randomise(Function(forward, linear=nn.Linear(5, 4), norm=nn.BatchNorm1d(4))).eval()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    example = image(6, 5), torch.tensor([[0, 1, 2, 3], [0, 2, 2, 1]])
    program = swdc.trace(model, example)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert_same(model(*example), program(*example))


def test_statistics_stay_as_they_are_where_the_model_trains() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = m.norm(m.linear(x))
        return F.dropout(y, 0.5, training=m.training)

    model = randomise(Function(forward, linear=nn.Linear(5, 4), norm=nn.BatchNorm1d(4))).train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    assert not swdc.trace(model, image(2, 5)).facts.notes
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert model.training


class TrainsElsewhere(nn.Module):
    """Does something of its own in training, but not where capture looks for it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x)
        return y * 2 if self.training and x.device.type == "cpu" else y


def test_what_only_training_with_values_shows_is_in_a_note() -> None:
    with pytest.warns(UserWarning, match=r"what the model computes in training differs"):
        swdc.trace(randomise(TrainsElsewhere()), image(2, 5))


def _halved(module: nn.Module, inputs: Any, result: torch.Tensor) -> torch.Tensor:
    return result / 2 if module.training else result


class _StaysStill(nn.Sequential):
    def train(self, mode: bool = True) -> nn.Module:
        super().train(mode)
        self[1].eval()
        return self


def _hooked() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU())
    model[0].register_forward_hook(_halved)
    return model


class _Unkept(nn.BatchNorm1d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)
        return super().forward(x)


class _Momentum(nn.BatchNorm1d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, 0.3, self.eps
        )


class _ForNow(nn.BatchNorm1d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before, self.momentum = self.momentum, 0.7
        try:
            return super().forward(x)
        finally:
            self.momentum = before


@pytest.mark.parametrize("norm", [_Momentum, _ForNow])
def test_statistics_move_by_the_momentum_of_the_call(norm: type[nn.BatchNorm1d]) -> None:
    model = randomise(Function(lambda m, x: m.b(m.norm(m.a(x))), a=nn.Linear(5, 4), norm=norm(4), b=nn.Linear(4, 2)))
    program, x = swdc.trace(model, image(3, 5)), image(6, 5)
    other = copy.deepcopy(model).train()
    assert program.facts.notes == ()
    assert_same(program.train()(x), other(x))
    assert_same(dict(program.named_buffers())["norm.running_var"], other.norm.running_var)


TRAINS_OTHERWISE: dict[str, Callable[[], nn.Module]] = {
    "a helper": lambda: Function(lambda m, x: _halved(m, x, m.a(x)), a=nn.Linear(5, 4)),
    "a hook": _hooked,
    "a norm that stays still": lambda: _StaysStill(nn.Linear(5, 4), nn.BatchNorm1d(4)),
    "a norm that keeps no statistics": lambda: Function(
        lambda m, x: m.b(m.norm(m.a(x))), a=nn.Linear(5, 4), norm=_Unkept(4), b=nn.Linear(4, 2)
    ),
    "a norm whose result is not read": lambda: Function(
        lambda m, x: (m.norm(m.a(x)), m.a(x))[1], a=nn.Linear(5, 4), norm=nn.BatchNorm1d(4)
    ),
    "a spectral norm": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(5, 4)),
    "attention that drops": lambda: nn.Sequential(nn.Linear(5, 4), nn.TransformerEncoderLayer(4, 2, 8, 0.5)),
    "a layer of torch's that drops": lambda: nn.TransformerDecoderLayer(5, 1, 8, 0.5),
    "numbers of Python": lambda: Function(
        lambda m, x: m.a(x) * (2 if m.training and random.random() < 0.5 else 1), a=nn.Linear(5, 4)
    ),
}


@pytest.mark.parametrize("name", TRAINS_OTHERWISE)
def test_what_differs_in_training_is_told(name: str) -> None:
    model = randomise(TRAINS_OTHERWISE[name]()).eval()
    inputs = (image(3, 5),) * (2 if isinstance(model, nn.TransformerDecoderLayer) else 1)
    with pytest.warns(UserWarning, match="in training differs from evaluation"):
        swdc.trace(model, inputs)


def test_a_model_that_overwrites_its_inputs_is_told() -> None:
    model = randomise(Function(lambda m, x: m.a(x.mul_(2)), a=nn.Linear(5, 4))).eval()
    x = image(3, 5)
    with pytest.warns(UserWarning, match="changes its inputs; the program leaves them as they are"):
        program = swdc.trace(model, x)
    assert_same(model(x.clone()), program(x))
    assert torch.equal(x, image(3, 5))


def test_arguments_by_name_keep_the_order_of_the_forward() -> None:
    model = randomise(Function(lambda m, x: m.a(x), a=nn.Linear(5, 4))).eval()
    model.forward = lambda x, y: model.a(x) - 2 * model.a(y)
    x, y = image(3, 5), image(3, 5, seed=1)
    assert_same(model(x, y), swdc.trace(model, {"y": y, "x": x})(x, y))


def test_model_and_program_run_no_more_often_than_they_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once each on the example and once each at other sizes; layers of both call the same function of torch."""
    runs, convolve = list[bool](), F.conv2d

    def counted(x: torch.Tensor, *args: Any) -> torch.Tensor:
        runs.append(x.is_meta)
        return convolve(x, *args)

    monkeypatch.setattr(F, "conv2d", counted)
    swdc.trace(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).double(), image(2, 3, 8, 8))
    assert runs.count(False) == 4


ATTENTIONS: dict[str, Callable[[], nn.Module]] = {
    "a layer": lambda: nn.TransformerEncoderLayer(4, 2, 8, 0.5),
    "in a class": lambda: Function(lambda m, x: m.a(x, x, x)[0], a=nn.MultiheadAttention(4, 2, 0.5)),
    "by place": lambda: Function(
        lambda m, x: torch.nn.functional.scaled_dot_product_attention(x, x, x, None, 0.5 if m.training else 0.0)
    ),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_that_drops_is_found_without_a_graph(name: str) -> None:
    assert training_differences(ATTENTIONS[name]().eval(), (torch.randn(3, 5, 4),), {}) == [""]
