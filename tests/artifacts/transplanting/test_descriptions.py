"""Integers that no forward reads follow the slim widths, where the sizes around them leave no choice."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

import swdc
from tests.support import assert_equal, assert_same, image, plan_of, randomise


class Layer(nn.Module):
    """A linear layer whose integers only its constructor, its reset and its printing read."""

    def __init__(self, before: int, after: int, bias: bool = True) -> None:
        super().__init__()
        self.before, self.after = before, after
        self.matrix = nn.Parameter(torch.empty(after, before))
        self.bias = nn.Parameter(torch.empty(after)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        with torch.no_grad():
            self.matrix.copy_(torch.randn(self.after, self.before))
            if self.bias is not None:
                self.bias.copy_(torch.randn(self.after))

    def extra_repr(self) -> str:
        return f"{self.before}, {self.after}"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.matrix, self.bias)


class Net(nn.Module):
    """Holds its width, a table of what its parts return, and the length of its input, which is as large as a width."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.width, self.length, self.steps = 16, 8, 2
        self.table = [
            {"name": "one", "width": 16, "stride": 5},
            {"name": "three", "width": 10, "stride": 10},
            {"name": "nothing", "width": 16},
        ]
        self.one, self.two, self.three = Layer(8, 16), Layer(16, 16, bias=False), Layer(16, 10)
        self.head = nn.Linear(10, classes)

    def reset_head(self, classes: int) -> None:
        self.head = nn.Linear(self.three.after, classes, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.three(self.two(self.one(x).relu()).relu()).relu())


def transplanted(model: nn.Module, kept: dict[str, int]) -> tuple[Any, swdc.Program]:
    """Return the model with the first channels of its groups, by the part of the model that writes them."""
    program = swdc.trace(randomise(model).eval(), image(2, 8))
    plan = plan_of(program, {g.name: range(kept[g.name.split(".")[0].split("[")[0]]) for g in program.groups})
    slim = swdc.slim(program, plan)
    mine = swdc.transplant(slim, model)
    assert_same(slim(image(3, 8)), mine(image(3, 8)))
    return mine, slim


def test_arguments_of_a_constructor_follow_although_two_widths_were_equal() -> None:
    mine, _ = transplanted(Net(), {"one": 12, "two": 7, "three": 6})
    assert [(part.before, part.after) for part in (mine.one, mine.two, mine.three)] == [(8, 12), (12, 7), (7, 6)]
    assert "(two): Layer(12, 7)" in repr(mine)


def test_resetting_and_building_use_the_slim_widths() -> None:
    mine, _ = transplanted(Net(), {"one": 12, "two": 7, "three": 6})
    before = {name: (tuple(t.shape), t.clone()) for name, t in mine.named_parameters()}
    mine.apply(lambda part: part.reset_parameters() if hasattr(part, "reset_parameters") else None)
    assert {name: tuple(t.shape) for name, t in mine.named_parameters()} == {n: s for n, (s, _) in before.items()}
    assert not any(torch.equal(t, before[name][1]) for name, t in mine.named_parameters())
    mine.reset_head(5)
    assert mine(image(2, 8)).shape == (2, 5)


def test_an_integer_beside_the_path_of_a_module_is_about_that_module() -> None:
    mine, _ = transplanted(Net(), {"one": 12, "two": 7, "three": 6})
    assert mine.table[0] == {"name": "one", "width": 12, "stride": 5}
    assert mine.table[1] == {"name": "three", "width": 10, "stride": 10}, "which of the two is the width is not known"


def test_an_integer_stays_where_the_sizes_leave_a_choice() -> None:
    apart, _ = transplanted(Net(), {"one": 12, "two": 7, "three": 6})
    alike, _ = transplanted(Net(), {"one": 9, "two": 9, "three": 6})
    assert (apart.width, apart.table[2]["width"], apart.length, apart.steps) == (16, 16, 8, 2)
    assert (alike.width, alike.table[2]["width"], alike.length, alike.steps) == (9, 9, 8, 2)


class Counted(Layer):
    """Its constructor takes something that the module does not keep, so it cannot be made anew."""

    def __init__(self, before: int, after: int, scale: float) -> None:
        super().__init__(before, after)
        with torch.no_grad():
            self.matrix.mul_(scale)


def test_a_module_whose_arguments_are_not_known_keeps_what_is_not_clear() -> None:
    model = Net()
    model.two = Counted(16, 16, 2.0)
    mine, _ = transplanted(model, {"one": 12, "two": 7, "three": 6})
    assert (mine.two.before, mine.two.after) == (16, 16)
    assert (mine.one.before, mine.one.after) == (8, 12)


class Watching(nn.Module):
    """Reads an integer through a name that is put together, so that its code does not mention it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.limit, self.size = nn.Linear(8, 16), 16, 16
        self.last = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if getattr(self, "li" + "mit") != 16:
            raise ValueError("expected the limit of this class")
        return self.last(self.first(x).relu())


def test_an_integer_without_which_the_model_fails_stays() -> None:
    mine, _ = transplanted(Watching(), {"first": 5})
    assert (mine.limit, mine.size) == (16, 16)


def test_a_transplanted_model_is_stored_copied_and_filled(tmp_path: Path) -> None:
    mine, slim = transplanted(Net(), {"one": 12, "two": 7, "three": 6})
    x = image(4, 8)
    torch.save(mine, tmp_path / "model.pt")
    assert_equal(mine(x), torch.load(tmp_path / "model.pt", weights_only=False)(x))
    assert_equal(mine(x), copy.deepcopy(mine)(x))
    other, _ = transplanted(Net(), {"one": 12, "two": 7, "three": 6})
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    other.load_state_dict(mine.state_dict())
    assert_equal(mine(x), other(x))
    assert_same(slim(x), other(x))
