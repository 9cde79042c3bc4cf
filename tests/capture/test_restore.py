"""A model is put back as it was, whatever its code keeps."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import random
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.capture.restore import restored
from swdc.errors import TraceError
from tests.support import Function, assert_same, conv, image, randomise


class Helper:
    def __init__(self) -> None:
        self.seen: dict[str, Any] = {"first": torch.ones(1)}


class Keeps(nn.Module):
    """Caches tensors in attributes, lists, buffers and a plain object; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.helper, self.calls = conv(3, 4), Helper(), 0
        self.cells = [torch.rand(4)]
        self.register_buffer("table", torch.rand(4, 1, 1), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.cells = [cell.to(x.device, x.dtype) for cell in self.cells]
        self.helper.seen["last"] = x.mean()
        self.table = self.table.to(x)
        self.latest = x
        return self.conv(x) * self.table + self.cells[0][:, None, None]


def state(model: Keeps) -> Any:
    parts = (model.__dict__, model._buffers, model._parameters, model.helper.__dict__, model.helper.seen)
    return [{name: id(value) for name, value in part.items()} for part in parts], [id(c) for c in model.cells]


@pytest.mark.filterwarnings("ignore")
def test_tracing_leaves_no_trace() -> None:
    model = randomise(Keeps()).train()
    before, result = state(model), model.eval()(image())
    model.train()
    before = state(model)
    program = swdc.trace(model, image())
    assert state(model) == before
    assert torch.equal(model.eval()(image()), result)
    assert torch.equal(program.eval()(image()), result)


def test_what_fails_is_put_back_too() -> None:
    model = Keeps()
    before = state(model)

    def fail() -> None:
        with restored(model):
            model.train(not model.training)
            model(image(1, 5, 8, 8))

    with pytest.raises(RuntimeError):
        fail()
    assert state(model) == before


GLOBAL: dict[int, torch.Tensor] = {}
LATEST: torch.Tensor | None = None


@functools.cache
def ramp(width: int) -> torch.Tensor:
    return torch.arange(width, dtype=torch.float64, device=WHERE[-1])


WHERE: list[torch.device] = [torch.device("cpu")]


class Shared:
    kept: ClassVar[dict[int, torch.Tensor]] = {}
    latest: torch.Tensor | None = None


def of_class(m: Any, x: torch.Tensor) -> torch.Tensor:
    return Shared.kept.setdefault(x.shape[-1], torch.arange(x.shape[-1], dtype=x.dtype, device=x.device))


def of_module(m: Any, x: torch.Tensor) -> torch.Tensor:
    return GLOBAL.setdefault(x.shape[-1], torch.arange(x.shape[-1], dtype=x.dtype, device=x.device))


def of_default(m: Any, x: torch.Tensor, kept: dict[int, torch.Tensor] = {}) -> torch.Tensor:  # noqa: B006
    return kept.setdefault(x.shape[-1], torch.arange(x.shape[-1], dtype=x.dtype, device=x.device))


def of_attribute(m: Any, x: torch.Tensor) -> torch.Tensor:
    if Shared.latest is None:
        Shared.latest = torch.arange(x.shape[-1], dtype=x.dtype, device=x.device)
    return Shared.latest


def of_name(m: Any, x: torch.Tensor) -> torch.Tensor:
    global LATEST
    if LATEST is None:
        LATEST = torch.arange(x.shape[-1], dtype=x.dtype, device=x.device)
    return LATEST


def of_function(m: Any, x: torch.Tensor) -> torch.Tensor:
    WHERE[:] = [x.device]
    return ramp(x.shape[-1])


def of_closure() -> Callable[[Any, torch.Tensor], torch.Tensor]:
    kept: torch.Tensor | None = None

    def table(m: Any, x: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        if kept is None:
            kept = torch.arange(x.shape[-1], dtype=x.dtype, device=x.device)
        return kept

    return table


@pytest.fixture
def empty_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shared, "latest", None)
    monkeypatch.setitem(globals(), "LATEST", None)
    for kept in (GLOBAL, Shared.kept):
        kept.clear()
    ramp.cache_clear()


CACHES = [of_class, of_module, of_default, of_attribute, of_name, of_function, of_closure()]


@pytest.mark.usefixtures("empty_caches")
@pytest.mark.parametrize("cache", CACHES, ids=lambda cache: cache.__qualname__)
def test_caches_outside_of_the_model_hold_nothing_of_capture(cache: Callable[[Any, Any], torch.Tensor]) -> None:
    model = randomise(Function(lambda m, x: torch.relu(m.a(x)) + cache(m, x), a=nn.Linear(5, 5))).eval()
    program = swdc.trace(model, image(2, 5))
    assert (GLOBAL, Shared.kept, LATEST, Shared.latest, ramp.cache_info().currsize) == ({}, {}, None, None, 0)
    for batch in (1, 2, 3):
        assert_same(program(image(batch, 5)), model(image(batch, 5)))


def test_the_values_of_a_tensor_that_is_no_buffer_are_put_back() -> None:
    model = Function(lambda m, x: m.a(x), a=nn.Linear(5, 5))
    model.__dict__["count"] = torch.zeros(1)
    with restored(model) as put_back:
        assert not put_back()
        model.count.add_(1)
        assert put_back()
        assert float(model.count) == 0
        model.count.add_(1)
    assert float(model.count) == 0


def _renormed(m: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        m.a.weight.mul_(0.5)
    return m.a(x)


SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[], object]]] = {
    "the default type": (torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float16)),
    "the precision of products": (
        torch.get_float32_matmul_precision, lambda: torch.set_float32_matmul_precision("medium"),
    ),
    "threads": (torch.get_num_threads, lambda: torch.set_num_threads(torch.get_num_threads() + 1)),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SETTINGS)
def test_what_a_run_sets_for_all_is_put_back(name: str) -> None:
    read, write = SETTINGS[name]
    before = read()
    with contextlib.suppress(TraceError):
        swdc.trace(Function(lambda m, x: (m.a(x), write())[0], a=nn.Linear(4, 3)).double().eval(), image(2, 4))
    assert read() == before


WRITERS: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "a parameter": _renormed,
    "the data of a parameter": lambda m, x: (m.a.weight.data.clamp_(-0.1, 0.1), m.a(x))[1],
    "the data of a buffer": lambda m, x: (setattr(m.k, "data", m.k + 1), m.a(x) + m.k)[1],
    "the data of an input": lambda m, x: (x.data.mul_(2), m.a(x))[1],
    "a queue": lambda m, x: (m.queue.append(1), m.a(x) * len(m.queue))[1],
    "an array": lambda m, x: (m.array.__iadd__(1), m.a(x) * float(m.array[0]))[1],
}


@dataclasses.dataclass(slots=True)
class Counter:
    """Counts without a dict of attributes."""

    calls: int = 0

    def count(self) -> int:
        self.calls += 1
        return self.calls


KEEPERS: dict[str, tuple[Any, Callable[[Any], object], Callable[[Any], object]]] = {
    "slots": (Counter(), Counter.count, lambda c: c.calls),
    "a generator of torch": (
        torch.Generator(), lambda g: torch.rand(1, generator=g), lambda g: g.get_state().tolist(),
    ),
    "a generator of Python": (random.Random(0), lambda g: g.random(), lambda g: g.getstate()),
    "a generator of numpy": (np.random.default_rng(0), lambda g: g.random(), lambda g: g.bit_generator.state),
    "an old generator of numpy": (
        np.random.RandomState(0), lambda g: g.rand(), lambda g: [str(part) for part in g.get_state()],
    ),
    "bytes": (bytearray(3), lambda b: b.append(1), bytes),
    "an array of Python's": (array("i", [1, 2]), lambda a: a.append(1), list),
    "an array of objects": (
        np.array([torch.ones(3), None], dtype=object), lambda a: a.__setitem__(1, 4), lambda a: a[1],
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", KEEPERS)
def test_what_an_object_of_the_model_keeps_is_put_back(name: str) -> None:
    kept, write, state = KEEPERS[name]
    model = Function(lambda m, x: (write(m.kept), m.a(x))[1], a=nn.Linear(4, 3)).double().eval()
    model.__dict__["kept"] = kept
    before = copy.deepcopy(state(kept))
    program = swdc.trace(model, image(2, 4))
    assert state(kept) == before
    assert_same(program(image(2, 4)), model.a(image(2, 4)))
    write(kept)
    assert state(kept) != before


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", WRITERS)
def test_what_a_run_writes_is_put_back(name: str) -> None:
    model = randomise(Function(WRITERS[name], a=nn.Linear(4, 3), k=torch.zeros(3))).eval()
    model.queue, model.array = deque([0], maxlen=9), np.zeros(1)
    x = image(2, 4)
    before = [t.detach().clone() for t in (model.a.weight, model.k, x)]
    with contextlib.suppress(TraceError):
        swdc.trace(model, x)
    assert all(torch.equal(one, other) for one, other in zip(before, (model.a.weight, model.k, x), strict=True))
    assert list(model.queue) == [0]
    assert model.array.tolist() == [0]


class Stub:
    """As those that fill the places of validators in classes of pydantic: without a dict, and asking it is an error."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("not to be asked")


def test_objects_that_fail_when_they_are_asked_for_attributes_are_let_be() -> None:
    model, inputs = conv(3, 4).double().eval(), image()
    model.settings = {"stub": Stub()}
    assert_same(model(inputs), swdc.trace(model, inputs)(inputs))
