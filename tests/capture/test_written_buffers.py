"""Buffers that a forward writes: the program writes them too, so that calling it twice is calling the model twice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.errors import TraceError
from swdc.ir.program import Program
from swdc.ops.in_place import written
from tests.support import Function, assert_equal, assert_same, certified, frozen_at, image, randomise

WAYS = {
    "follow": lambda x: 1,
    "export": lambda x: x.shape[0] // 2 * 0 + 1,
    "record": lambda x: 1 if x.sum() < 1e9 else 2,
}
"""Factors that make a model be captured in each way."""


def counter(m: Any, x: torch.Tensor) -> Any:
    m.count += 1
    return m.last(m.first(x).relu()) * m.count


def statistics(m: Any, x: torch.Tensor) -> Any:
    y = m.first(x).relu()
    with torch.no_grad():
        m.mean.mul_(0.9).add_(y.mean(0), alpha=0.1)
    return m.last(y + m.mean)


def replaced(m: Any, x: torch.Tensor) -> Any:
    y = m.first(x).relu()
    result = m.last(y * m.mean)
    m.mean = m.mean * 0.9 + y.mean(0).detach() * 0.1
    return result


def swapped(m: Any, x: torch.Tensor) -> Any:
    m.mean, m.other = m.other, m.mean
    return m.last(m.first(x).relu() + m.mean)


def shifted(m: Any, x: torch.Tensor) -> Any:
    m.history = torch.cat([m.history[1:], m.first(x).relu().mean(0, keepdim=True)])
    return m.last(m.first(x).relu() + m.history.mean(0))


def one_row(m: Any, x: torch.Tensor) -> Any:
    y = m.first(x).relu()
    m.history[1] = y.mean(0)
    return m.last(y + m.history.sum(0))


def row_of_a_view(m: Any, x: torch.Tensor) -> Any:
    y, rows = m.first(x).relu(), m.history[1:]
    rows[0].copy_(y.mean(0))
    return m.last(y + rows.sum(0) + m.history[0])


def broadcast(m: Any, x: torch.Tensor) -> Any:
    y = m.first(x).relu()
    m.history.copy_(y.mean(0))
    return m.last(y + m.history[2])


def at_a_position(m: Any, x: torch.Tensor) -> Any:
    y = m.first(x).relu()
    m.history.index_copy_(0, m.where, y.mean(0, keepdim=True))
    return m.last(y + m.history.sum(0))


def returned(m: Any, x: torch.Tensor) -> Any:
    m.count += 1
    return m.last(m.first(x).relu()), m.count


FORWARDS = (
    counter, statistics, replaced, swapped, shifted, one_row, row_of_a_view, broadcast, at_a_position, returned,
)  # fmt: skip


def model(forward: Callable[..., Any]) -> nn.Module:
    torch.manual_seed(0)
    buffers = {
        "count": torch.zeros(()), "mean": torch.rand(8), "other": torch.rand(8), "history": torch.rand(3, 8),
        "where": torch.tensor([1]),
    }  # fmt: skip
    used = {name: buffer for name, buffer in buffers.items() if name in forward.__code__.co_names}
    return randomise(Function(forward, first=nn.Linear(4, 8), last=nn.Linear(8, 3), **used)).eval()


@pytest.mark.parametrize("forward", FORWARDS)
def test_a_program_called_twice_is_the_model_called_twice(forward: Any) -> None:
    user = model(forward)
    before = copy.deepcopy(user.state_dict())
    program = swdc.trace(user, image(2, 4))
    assert not program.facts.notes
    assert_equal(dict(user.state_dict()), before)
    mine = program.clone()
    for seed in range(3):
        x = image(5, 4, seed=seed)
        assert_equal(mine(x), user(x))
    assert_equal(dict(mine.state_dict()), dict(user.state_dict()))


@pytest.mark.parametrize("forward", FORWARDS)
def test_the_slim_program_writes_what_the_masked_one_writes(forward: Any) -> None:
    masked, slim = certified(swdc.trace(model(forward), image(2, 4)))
    for seed in range(3):
        x = image(3, 4, seed=seed)
        assert_same(masked(x), slim(x))


@pytest.mark.parametrize("forward", FORWARDS)
def test_gradients_are_those_of_the_model(forward: Any) -> None:
    user = model(forward)
    gradients = []
    for one in (swdc.trace(user, image(2, 4)).clone(), copy.deepcopy(user)):
        result = one(image(2, 4))
        (result[0] if isinstance(result, tuple) else result).square().sum().backward()
        gradients.append({name: p.grad for name, p in one.named_parameters()})
    assert_same(gradients[1], gradients[0])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("forward", [counter, replaced, one_row])
def test_every_way_of_capture_keeps_the_writes(forward: Any, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ways = [one for one in swdc.capture.trace.WAYS if one.name == way]
    monkeypatch.setattr(swdc.capture.trace, "WAYS", ways)
    user, x = model(forward), image(2, 4)
    program = swdc.trace(user, x).clone() if way != "record" else _recorded(user, x)
    for _ in range(2):
        assert_equal(program(x), user(x))


def _recorded(user: nn.Module, x: torch.Tensor) -> Program:
    with pytest.warns(UserWarning, match="recorded on the example inputs"):
        return swdc.trace(user, x).clone()


def test_a_view_that_is_written_holds_its_channels() -> None:
    def on_the_diagonal(m: Any, x: torch.Tensor) -> Any:
        y = m.first(x).relu()
        m.history.diagonal().copy_(y.mean(0)[:3])
        return m.last(y + m.history.sum(0))

    program = swdc.trace(model(on_the_diagonal), image(2, 4))
    assert "aten.diagonal.default: works along this dimension" in str(frozen_at(program, "first.weight", 0)[0].reason)


def test_a_buffer_that_stays_away_from_zero_holds_its_channels() -> None:
    def forward(m: Any, x: torch.Tensor) -> Any:
        y = torch.sigmoid(m.first(x))
        m.mean.mul_(0.9).add_(y.mean(0), alpha=0.1)
        return m.last(y + m.mean)

    program = swdc.trace(model(forward), image(2, 4))
    assert "stays in a buffer until the next call" in str(frozen_at(program, "first.weight", 0)[0].reason)


def test_written_buffers_are_no_constants() -> None:
    def forward(m: Any, x: torch.Tensor) -> Any:
        result = m.last(m.first(x).relu() + m.mean)
        m.mean += 1
        return result

    user = model(forward)
    user.mean.zero_()  # type: ignore[operator]
    deployed = swdc.deploy(swdc.trace(user, image(2, 4)))
    assert written(deployed.graph) == {"mean"}
    for _ in range(3):
        assert_same(user(image(2, 4)), deployed(image(2, 4)))


def test_statistics_written_by_hand_are_not_folded() -> None:
    def forward(m: Any, x: torch.Tensor) -> Any:
        y = m.norm(m.first(x))
        m.norm.running_mean.mul_(0.5)
        return m.last(y)

    user = randomise(Function(forward, first=nn.Linear(4, 8), norm=nn.BatchNorm1d(8), last=nn.Linear(8, 3))).eval()
    deployed = swdc.deploy(swdc.trace(user, image(2, 4)))
    for _ in range(3):
        assert_same(user(image(2, 4)), deployed(image(2, 4)))


@pytest.mark.filterwarnings("ignore:recorded", "ignore:the model replaces mean")
def test_what_cannot_be_kept_is_named() -> None:
    def longer(m: Any, x: torch.Tensor) -> Any:
        y = m.first(x).relu()
        m.history = torch.cat([m.history, y])
        return m.last(y)

    with pytest.warns(UserWarning, match="replaces history by a tensor of another shape or type; the program does not"):
        swdc.trace(model(longer), image(2, 4))

    def other_data(m: Any, x: torch.Tensor) -> Any:
        m.mean.data = m.mean.data * 0.5
        return m.last(m.first(x).relu() + m.mean)

    user = model(other_data)
    before = copy.deepcopy(user.state_dict())
    with pytest.raises(TraceError, match="the program differs from the model on the example"):
        swdc.trace(user, image(2, 4))
    assert_equal(dict(user.state_dict()), before)


def test_a_fixed_batch_is_named() -> None:
    class Cached(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.out = nn.Embedding(9, 8), nn.Linear(8, 3)
            self.register_buffer("cache", torch.zeros(2, 4, 8))

        def forward(self, ids: torch.Tensor, position: torch.Tensor) -> Any:
            self.cache.index_copy_(1, position, F.relu(self.words(ids)))  # type: ignore[operator]
            return self.out(self.cache.mean(1))

    example = (torch.tensor([[1], [5]]), torch.tensor([2]))
    with pytest.warns(UserWarning, match="the leading size of the inputs is fixed to 2"):
        program = swdc.trace(randomise(Cached()).eval(), example)
    certified(program)


def trained(momentum: float | None, factor: Callable[[torch.Tensor], Any]) -> nn.Module:
    """Return a model whose code trains one of its batch norms in evaluation, too."""

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        m.norm.train()
        return m.last(m.plain(m.norm(m.first(x)).relu())) * factor(x)

    norms = {"norm": nn.BatchNorm1d(8, momentum=momentum), "plain": nn.BatchNorm1d(8)}
    return randomise(Function(forward, first=nn.Linear(4, 8), **norms, last=nn.Linear(8, 3))).eval()


@pytest.mark.filterwarnings("ignore:recorded on the example inputs")
@pytest.mark.parametrize("way", ["follow", "record"])
def test_a_batch_norm_that_the_code_trains_counts_its_batches(way: str) -> None:
    user = trained(0.1, WAYS[way])
    program = swdc.trace(user, image(2, 4))
    assert program.facts.captured_by == way
    example = image(2, 4, seed=3)
    for mode in (False, True):
        model = copy.deepcopy(user).train(mode)
        copied = program.clone().train(mode)
        for _ in range(2):
            assert_same(model(example), copied(example))
        assert int(model.norm.num_batches_tracked) == 2  # type: ignore[union-attr, arg-type]
        assert_same(dict(model.state_dict()), dict(copied.state_dict()))


@pytest.mark.parametrize("way", ["follow", "record"])
def test_a_batch_norm_without_a_momentum_that_the_code_trains_is_named(way: str) -> None:
    with pytest.raises(TraceError, match=r"got norm with momentum=None, .*; give it a momentum"):
        swdc.trace(trained(None, WAYS[way]), image(2, 4))
