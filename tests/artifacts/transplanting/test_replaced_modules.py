"""Modules that no integer fixes, and that read sizes, constants and parts from outside of themselves."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.transplanting.part_module import Extracted
from tests.support import assert_same, random_plan, randomise

WIDTH, HEADS = 12, 3
draw = functools.partial(torch.randn, dtype=torch.float64)


def logged(method: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a method as libraries do: the code of what stands in the class is not the user's."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs)

    return call


class Grouped(nn.Module):
    """Fewer heads of keys than of queries; an integer that has to stay equals one that changes."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.shared, self.turned = 4, 2, 4
        self.q, self.kv, self.out = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 32)

    @logged
    def forward(self, x):
        batch, tokens, _ = x.shape
        q = self.q(x).view(batch, tokens, self.heads, 8).transpose(1, 2)
        k, v = self.kv(x).view(batch, tokens, 2 * self.shared, 8).transpose(1, 2).chunk(2, 1)
        q = torch.cat([q[..., : self.turned].flip(-1), q[..., self.turned :]], -1)
        k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
        return self.out((q @ k.mT).softmax(-1).matmul(v).transpose(1, 2).flatten(2))


class Derived(nn.Module):
    """Attention that derives the width of a head from that of the input, which no integer can make right."""

    def __init__(self, act: nn.Module | None = None) -> None:
        super().__init__()
        self.heads, self.act = HEADS, act or nn.Identity()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x, state=None):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        scores = q @ k.mT if state is None else q @ k.mT + state.mask
        weights = self.act(scores).softmax(-1)
        rows = weights.matmul(v).transpose(1, 2).reshape(batch * tokens, -1)
        return self.out(rows).view(batch, tokens, -1), weights.mean(1) ** 2


class Windows(nn.Module):
    """Attention within windows: their number is computed from the sizes of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention = nn.Conv2d(3, WIDTH, 1), Derived()
        self.last = nn.Linear(WIDTH, 4)

    def forward(self, x):
        x = self.first(x)
        batch, width, height, columns = x.shape
        x = x.view(batch, width, height // 2, 2, columns // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, width)
        x = x + self.attention(x)[0]
        return self.last(x.view(batch, -1, width))


class Shortened(nn.Module):
    """The number of tokens is a fraction of the input's length; the module folds batch and tokens into one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.attention = nn.Conv1d(1, WIDTH, 4, stride=2), Derived()
        self.last = nn.Linear(WIDTH, 4)

    def forward(self, x):
        x = self.first(x).transpose(1, 2)
        return self.last(x + self.attention(x)[0])


class Masked(nn.Module):
    """A mask is made of the sizes alone, and handed on in an object, where no argument shows it."""

    def __init__(self, chance: bool = False) -> None:
        super().__init__()
        self.first, self.attention, self.last = nn.Linear(WIDTH, WIDTH), Derived(), nn.Linear(WIDTH, 4)
        self.chance = chance

    def forward(self, x):
        tokens = x.shape[1]
        mask = torch.full((tokens, tokens), -3.0, dtype=x.dtype).triu(1)
        state = SimpleNamespace(mask=mask + x.mean() if self.chance else mask)
        x = self.first(x)
        return self.last(x + self.attention(x, state)[0])


class SharedPart(nn.Module):
    """Two modules hold the same activation, as one that is a default argument."""

    def __init__(self) -> None:
        super().__init__()
        act = nn.ReLU()
        self.first, self.one, self.two = nn.Linear(WIDTH, WIDTH), Derived(act), Derived(act)
        self.last = nn.Linear(WIDTH, 4)

    def forward(self, x):
        x = self.first(x)
        x = x + self.one(x)[0]
        return self.last(x + self.two(x)[0])


RECORDED: list[torch.Tensor] = []


class Recorder(nn.Module):
    """Notes once that it has a hook on a layer, as libraries do that record what a layer returns."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Linear(6, WIDTH), nn.LayerNorm(WIDTH), nn.ReLU())
        self.last = nn.Linear(WIDTH, 4)

    def forward(self, x):
        if not hasattr(self, "hooked"):
            self.hooked = True
            self.layer.register_forward_hook(lambda module, args, result: RECORDED.append(result))
        RECORDED.clear()
        self.layer(x)
        return self.last(RECORDED[0])


def transplanted(model: nn.Module, example: torch.Tensor) -> tuple[nn.Module, swdc.Program]:
    """Return the model with the tensors of a slim program that lacks half of the channels, and that program."""
    program = swdc.trace(randomise(model).eval(), example)
    slim = swdc.slim(program, swdc.plan(program, 0.5, scope="group"))
    return swdc.transplant(slim, model), slim


def replaced(model: nn.Module) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, Extracted)]


def test_integers_are_read_behind_a_decorator() -> None:
    model = nn.Sequential(nn.Linear(6, 32), Grouped(), nn.Linear(32, 4))
    mine, slim = transplanted(model, draw(2, 5, 6))
    assert not replaced(mine)
    assert (mine[1].heads, mine[1].shared, mine[1].turned) == (2, 1, 4)
    more = draw(3, 7, 6)
    assert_same(slim(more), mine(more))


@pytest.mark.filterwarnings("ignore:replaced by their part")
@pytest.mark.parametrize(
    ("model", "paths", "example", "others"),
    [
        (Windows, ["attention"], (2, 3, 4, 6), [(1, 3, 4, 6), (3, 3, 4, 6)]),
        (Shortened, ["attention"], (2, 1, 14), [(1, 1, 14), (3, 1, 22)]),
        (Masked, ["attention"], (2, 6, WIDTH), [(1, 6, WIDTH), (3, 9, WIDTH)]),
        (SharedPart, ["one", "two"], (2, 6, WIDTH), [(1, 6, WIDTH), (3, 9, WIDTH)]),
    ],
)
def test_a_part_of_the_program_takes_its_place_at_other_sizes(model, paths, example, others) -> None:
    dense = model()
    program = swdc.trace(randomise(dense).eval(), draw(example))
    plan = random_plan(program, 1)
    slim, masked = swdc.slim(program, plan), swdc.mask(program, plan)
    mine = swdc.transplant(slim, dense)
    assert replaced(mine) == paths
    for shape in (example, *others):
        more = draw(shape)
        assert_same(slim(more), mine(more))
        assert_same(masked(more), mine(more))


@pytest.mark.filterwarnings("ignore:replaced by their part")
def test_a_result_that_nothing_reads_is_none() -> None:
    mine, _ = transplanted(Shortened(), draw(2, 1, 14))
    result, unread = mine.attention(draw(2, 6, mine.attention.qkv.in_features))
    assert result.shape[:2] == (2, 6)
    assert unread is None


def test_a_value_that_depends_on_the_input_is_not_computed_in_the_part() -> None:
    model = Masked(chance=True)
    program = swdc.trace(randomise(model).eval(), draw(2, 6, WIDTH))
    slim = swdc.slim(program, swdc.plan(program, 0.5, scope="group"))
    with pytest.raises(swdc.SwdcError, match="expected integers with which Derived at 'attention'"):
        swdc.transplant(slim, model)


def test_what_a_run_adds_is_removed_as_a_whole_above_a_replaced_norm() -> None:
    model = nn.Sequential(Recorder(), nn.ReLU())
    mine, slim = transplanted(model, draw(2, 6))
    assert not hasattr(mine[0], "hooked")
    assert not mine[0].layer._forward_hooks
    more = draw(3, 6)
    assert_same(slim(more), mine(more))
