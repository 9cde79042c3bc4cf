"""Following a model without values: the batch is found from two runs, and what depends on it otherwise is refused."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

import swdc
from swdc.capture.by_following import Follow
from swdc.capture.way import CannotCapture, Subject
from swdc.errors import InputError
from tests.support import Function, assert_exact, assert_same, conv, image, randomise, traced


def followed(model: nn.Module, example: torch.Tensor) -> swdc.Program:
    program = traced(model, example)
    assert program.facts.captured_by == "follow"
    assert program.facts.batch == "batch"
    return program


BATCH_IN_SIZES: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "view": lambda m, x: m.c(x).view(x.shape[0], -1),
    "product": lambda m, x: m.c(x).view(x.shape[0] * 6, 8, 8).view(x.shape[0], 6 * 64),
    "sum": lambda m, x: torch.cat([m.c(x), m.c(x)[:1]])[: x.shape[0] + 1].flatten(1),
    "new tensor": lambda m, x: (m.c(x) + torch.ones(len(x), 6, 1, 1, dtype=x.dtype)).flatten(1),
    "new tensors one after another": lambda m, x: (
        m.c(x).flatten(2)
        + torch.cat([torch.arange(k).type_as(x) + torch.full((k,), 0.5).type_as(x) for k in (40, 20, 4)])
    ),
    "contiguous in large batches": lambda m, x: (m.c(x).contiguous() if len(x) > 63 else m.c(x)).flatten(1),
    "positions": lambda m, x: m.c(x).flatten(1) * torch.arange(x.shape[0], device=x.device)[:, None],
    "stacked": lambda m, x: torch.stack([m.c(x), m.c(x)], 1).flatten(0, 1).flatten(1),
    "in place": lambda m, x: m.c(x).relu_().add_(1).flatten(1),
    "split": lambda m, x: torch.cat(m.c(x).chunk(2, 1)[::-1], 1).flatten(1),
    "constants": lambda m, x: m.c(x).flatten(1) * torch.tensor(2.0, dtype=x.dtype) + m.table.to(x.device)[0],
}


@pytest.mark.parametrize("name", BATCH_IN_SIZES)
def test_sizes_that_depend_on_the_batch(name: str) -> None:
    model = Function(BATCH_IN_SIZES[name], c=conv(3, 6))
    model.__dict__["table"] = torch.rand(3, dtype=torch.float64)
    program = followed(model, image(2, 3, 8, 8))
    for batch in (1, 2, 5):
        x = image(batch, 3, 8, 8, seed=batch)
        assert_same(model(x), program(x))


ASKS_OF_THE_BATCH: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "half of the batch": lambda m, x: m.c(x)[: x.shape[0] // 2],
    "remainder": lambda m, x: m.c(x) * (x.shape[0] % 4),
    "one operator a sample": lambda m, x: torch.stack([m.c(x)[k] * 2 for k in range(len(x))]),
    "as many as there are": lambda m, x: m.c(x)[:8],
    "at least so many": lambda m, x: m.c(x) * (2 if x.shape[0] > 1000 else 3),
    "small batches at once": lambda m, x: m.c(x) if x.shape[0] < 64 else torch.cat([m.c(x[:64]), m.c(x[64:])]),
    "even batches": lambda m, x: m.c(x) * 2 if x.shape[0] % 2 == 0 else m.c(x),
    "the example's batch": lambda m, x: m.c(x) * 2 if x.shape[0] in (2, 3) else m.c(x),
    "reciprocal": lambda m, x: m.c(x) / x.shape[0] ** 0.5,
    "one apart": lambda m, x: m.c(x) * 2 if x.shape[0] == 1 else m.c(x),
}


@pytest.mark.parametrize("name", ASKS_OF_THE_BATCH)
@pytest.mark.parametrize("example", [1, 2, 4])
@pytest.mark.filterwarnings("ignore:the leading size of the inputs is fixed")
def test_a_program_equals_its_model_at_any_batch_or_refuses_it(name: str, example: int) -> None:
    model = randomise(Function(ASKS_OF_THE_BATCH[name], c=conv(3, 6))).eval()
    program = swdc.trace(model, image(example, 3, 8, 8))
    assert program.facts.captured_by == "follow"
    taken = []
    for batch in (1, 2, 3, 4, 5, 8, 9, 63, 64, 65, 1001):
        x = image(batch, 3, 8, 8, seed=batch)
        try:
            result = program(x)
        except InputError:
            continue
        assert_same(model(x), result)
        taken.append(batch)
    assert example in taken


def in_blocks(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Pad to whole blocks of four, as window attentions do, and cut the padding off if there is any."""
    length, more = x.shape[1], (4 - x.shape[1] % 4) % 4
    blocks = m.one(functional.pad(x, (0, 0, 0, more))).view(len(x), -1, 4, 6).cumsum(2).view(len(x), -1, 6)
    return blocks[:, :length].view(len(x), length, 6) if more else blocks.view(len(x), length, 6)


def padded_or_scaled(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Do something else where there is no padding."""
    return in_blocks(m, x) if x.shape[1] % 4 else 2 * in_blocks(m, x)


def resized(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Resize to an even size, unless it is even."""
    even = (x.shape[1] + 1) // 2 * 2
    y = m.one(x).transpose(1, 2)
    y = functional.interpolate(y, size=even, mode="linear") if even != x.shape[1] else y
    return y.unflatten(2, (even // 2, 2)).cumsum(2).flatten(2)


def asked_when_whole(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Ask more of a size where there is no padding."""
    return in_blocks(m, x) if x.shape[1] % 4 or x.shape[1] < 20 else 2 * in_blocks(m, x)


def one_size_apart(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Ask for one size where there is no padding."""
    return in_blocks(m, x) if x.shape[1] % 4 or x.shape[1] == 8 else 2 * in_blocks(m, x)


@pytest.mark.parametrize("forward", [in_blocks, resized])
@pytest.mark.parametrize("length", [8, 9])
def test_sizes_at_which_code_leaves_out_what_does_nothing(forward: Any, length: int) -> None:
    model = Function(forward, one=nn.Linear(6, 6)).double()
    program = followed(model, image(2, length, 6))
    assert not program.facts.conditions
    for other in (8, 9, 10, 12, 15):
        assert_same(model(image(3, other, 6)), program(image(3, other, 6)))


@pytest.mark.parametrize("forward", [padded_or_scaled, asked_when_whole, one_size_apart])
@pytest.mark.parametrize("length", [8, 9])
def test_sizes_at_which_code_does_something_else(forward: Any, length: int) -> None:
    model = Function(forward, one=nn.Linear(6, 6)).double()
    program = followed(model, image(2, length, 6))
    for other in (9, 12, 20):
        with suppress(InputError):
            assert_same(model(image(3, other, 6)), program(image(3, other, 6)))


def buckets(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Relative positions up to three, made like another tensor, as in T5; the smaller of two sizes is read, too."""
    places = torch.arange(min(x.shape[1], 9) - 1, -1, -1.0, dtype=torch.int64).flip(0)
    apart = places[None] - places[:, None]
    return x[:, :9] + m.one.weight[torch.min(apart, torch.full_like(apart, 3)).clamp(min=0)].sum(1)


def test_tensors_made_like_others_and_the_smaller_of_sizes() -> None:
    model = Function(buckets, one=nn.Linear(6, 6)).double()
    program = followed(model, image(2, 7, 6))
    assert set(program.facts.symbols) == {"batch", "length"}
    assert not program.facts.conditions
    for length in (5, 9, 12):
        assert torch.equal(program(image(3, length, 6)), model(image(3, length, 6)))


def test_a_size_that_code_asks_for_in_vain_is_taken() -> None:
    model = randomise(Function(lambda m, x: m.c(x) * (2.0 if x.shape[0] == 1 else 2), c=conv(3, 6))).eval()
    for example in (1, 2):
        program = swdc.trace(model, image(example, 3, 8, 8))
        assert program.facts.conditions == ()
        for batch in (1, 2, 5):
            assert_same(model(x := image(batch, 3, 9, 7, seed=batch)), program(x))


REFUSED: dict[str, Callable[[Any, torch.Tensor], torch.Tensor]] = {
    "values": lambda m, x: m.c(x) * (2 if x.mean() > 0 else 1),
    "a tensor that it does not own": lambda m, x: m.c(x) + m.count.add_(1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_left_to_export(name: str) -> None:
    model = randomise(Function(REFUSED[name], c=conv(3, 6))).eval()
    model.__dict__["count"] = torch.zeros(1)
    with pytest.raises((CannotCapture, RuntimeError)):
        Follow().capture(Subject(model, ((image(2, 3, 8, 8),), {}), lambda: None))
    assert float(model.count) == 0


def test_inputs_without_a_batch_are_left_to_export() -> None:
    inputs = (torch.rand(2, 3), torch.rand(7, 4))
    with pytest.raises(CannotCapture, match="share no batch"):
        Follow().capture(Subject(nn.Bilinear(3, 4, 5), (inputs, {}), lambda: None))


def test_scopes_lines_and_parameters_are_those_of_the_model() -> None:
    model = nn.Sequential(conv(3, 6), nn.Sequential(nn.ReLU(), conv(6, 2)))
    program = followed(model, image(2, 3, 8, 8))
    assert program.get_submodule("1.1").weight is model[1][1].weight
    scopes = {node.name: node.meta["scope"] for node in program.graph.nodes if node.op == "call_function"}
    assert set(scopes.values()) == {"1.0"}


def test_a_tied_weight_is_one() -> None:
    model = Function(lambda m, x: m.b(torch.relu(m.a(x))), a=nn.Linear(5, 5), b=nn.Linear(5, 5))
    model.b.weight = model.a.weight
    program = followed(model, image(2, 5))
    assert program.tensors["b.weight"] is program.tensors["a.weight"]


def test_a_line_within_torch_where_the_model_has_no_code_of_its_own() -> None:
    program = followed(nn.Sequential(conv(3, 6), nn.Flatten()), image(2, 3, 8, 8))
    (node,) = [n for n in program.graph.nodes if n.op == "call_function"]
    assert "/torch/nn/modules/flatten.py" in node.meta["stack_trace"]


class Caches(nn.Module):
    """Keeps a tensor that it computes from its parameters, as attentions keep their position biases."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.kept = nn.Parameter(torch.rand(6, 1, 1)), {}
        self.conv = conv(3, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training or "biases" not in self.kept:
            self.kept["biases"] = self.table.exp()
        return self.conv(x) * self.kept["biases"]


def test_what_one_run_keeps_does_not_reach_the_next() -> None:
    model = randomise(Caches()).eval()
    program = followed(model, image(2, 3, 8, 8))
    x = image(5, 3, 8, 8, seed=1)
    assert_same(model(x), program(x))
    assert not program.facts.notes


class Clouds(nn.Module):
    """A network of points, written for one cloud."""

    def __init__(self) -> None:
        super().__init__()
        self.point, self.out = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 24)), nn.Linear(24, 5)

    def forward(self, clouds: torch.Tensor) -> torch.Tensor:
        return torch.vmap(lambda points: self.out(self.point(points).relu().amax(0)))(clouds)


def test_vmap_is_followed_as_operators_on_the_batch() -> None:
    program = assert_exact(Clouds(), image(3, 11, 3))
    assert program.facts.captured_by == "follow"
    assert [group.width for group in program.groups] == [16, 24]


def test_vmap_without_a_batch_is_followed() -> None:
    def forward(m: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.vmap(m.layer)(x) + y

    model = Function(forward, layer=nn.Linear(4, 3))
    program = traced(model, (image(2, 5, 4), image(3)))
    assert program.facts.captured_by == "follow"
    for nodes, length in ((2, 5), (3, 7)):
        given = (image(nodes, length, 4), image(3))
        assert_same(model(*given), program(*given))


def test_a_cache_that_begins_empty_is_left_out() -> None:
    def run(m: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        empty = torch.tensor([], dtype=x.dtype, device=x.device)
        keys = torch.cat([empty, m.a(x)], dim=-2)
        return m.b(torch.cat([keys, empty], dim=1).relu()), keys

    model = Function(run, a=nn.Linear(4, 8), b=nn.Linear(8, 3)).eval()
    program = swdc.trace(model, torch.randn(2, 5, 4))
    assert program.facts.captured_by == "follow"
    assert set(program.tensors) == set(dict(model.named_parameters()))
    x = torch.randn(3, 7, 4)
    assert all(torch.equal(one, other) for one, other in zip(model(x), program(x), strict=True))


def positions(m: Any, x: torch.Tensor) -> torch.Tensor:
    """Expand positions only if that is needed, and mask only if there is more than one: at one it is the same."""
    rows = torch.arange(x.shape[1], dtype=x.dtype)[None]
    if len(rows) != len(x):
        rows = rows.expand(len(x), -1)
    scores = m.a(x) @ m.a(x).transpose(1, 2)
    if x.shape[1] > 1:
        scores = scores + torch.full((x.shape[1], x.shape[1]), float("-inf"), dtype=x.dtype).triu(1)
    result: torch.Tensor = m.b((scores.softmax(-1) @ x + rows[..., None]).relu())
    return result


@pytest.mark.parametrize("batch", [1, 2])
def test_sizes_of_one_are_tried_where_code_asks_for_them(batch: int) -> None:
    model = randomise(Function(positions, a=nn.Linear(4, 8), b=nn.Linear(4, 3))).eval()
    program = swdc.trace(model, image(batch, 5, 4))
    assert (program.facts.captured_by, program.facts.conditions) == ("follow", ())
    for sizes in ((1, 5), (1, 1), (3, 1), (2, 9)):
        x = image(*sizes, 4)
        assert torch.equal(model(x), program(x))


RETURNED: dict[str, Callable[..., torch.Tensor]] = {
    "itself": lambda m, x: m.b(m.a(x).relu()).squeeze(),
    "its elements": lambda m, x: torch.sigmoid(m.b(m.a(x).relu()).squeeze() * 2),
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("code", RETURNED.values(), ids=RETURNED)
def test_a_result_that_is_only_returned_may_lose_the_batch(code: Callable[..., torch.Tensor], batch: int) -> None:
    model = randomise(Function(code, a=nn.Linear(4, 8), b=nn.Linear(8, 5))).eval()
    program = swdc.trace(model, image(batch, 4))
    chosen = swdc.plan(program, 0.5)
    small, masked = swdc.slim(program, chosen), swdc.mask(program, chosen)
    assert swdc.verify(masked, small).exact
    for x in (image(1, 4), image(5, 4)):
        assert torch.equal(model(x), program(x))
        for other in (small, swdc.deploy(small)):
            assert other(x).shape == model(x).shape
            assert_same(masked(x), other(x))


def test_a_result_that_something_reads_keeps_the_batch() -> None:
    model = randomise(Function(lambda m, x: m.a(x).squeeze() + m.a.bias, a=nn.Linear(4, 8))).eval()
    program = swdc.trace(model, image(3, 4))
    with pytest.raises(InputError, match=r"expected inputs with batch != 1"):
        program(image(1, 4))


def test_a_size_of_one_that_is_treated_apart_is_refused() -> None:
    model = randomise(Function(lambda m, x: m.a(x) * (2.0 if len(x) == 1 else 1.0), a=nn.Linear(4, 3))).eval()
    program = swdc.trace(model, image(2, 4))
    with pytest.raises(InputError, match=r"expected inputs with batch != 1"):
        program(image(1, 4))
    x = image(1, 4)
    with pytest.warns(UserWarning, match="the leading size of the inputs is fixed to 1"):
        at_one = swdc.trace(model, x)
    assert torch.equal(model(x), at_one(x))
    with pytest.raises(InputError):
        at_one(image(2, 4))


def test_certificates_of_programs_that_take_even_batches() -> None:
    def run(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if len(x) % 2:
            raise ValueError("pairs, please")
        return m.b(m.a(x).relu())

    program = swdc.trace(randomise(Function(run, a=nn.Linear(4, 8), b=nn.Linear(8, 3))).eval(), image(2, 4))
    plan = swdc.plan(program, 0.5)
    certificate = swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan))
    assert certificate.exact
    assert {c.batch for c in certificate.comparisons if c.mode == "eval"} == {2, 4}


def test_sizes_that_nobody_wants_free_are_those_of_the_example() -> None:
    program = swdc.trace(nn.Linear(4, 3), torch.randn(2, 5, 4), dynamic=[])
    assert (program.facts.symbols, program.facts.notes) == ({}, ())
    with pytest.raises(InputError, match=r"of shape \(2, 5, 4\), got \(3, 5, 4\)"):
        program(torch.randn(3, 5, 4))


def test_a_size_whose_shapes_fit_one_number_of_windows_is_fixed() -> None:
    def windows(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.pad(m.one(x), (0, 0, 0, -x.shape[2] % 8))
        rows = (x.shape[2] + 3) // 4
        if y.shape[2] // 8 * 2 == rows:  # true at 29 to 32, and again at 61 to 64
            return m.two(y.reshape(len(x), 4, rows, 4, -1).sum(3))
        return m.two(y * 2)

    model = Function(windows, one=nn.Conv2d(3, 4, 1), two=nn.Conv2d(4, 2, 1))
    program = assert_exact(model, image(2, 3, 32, 20))
    assert program.groups


def test_a_size_that_flattening_bounds_stays_free() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5))
    program = swdc.trace(model.eval(), torch.randn(2, 3, 8, 8))
    assert list(program.facts.symbols) == ["batch", "height", "width"]
    assert program(torch.randn(3, 3, 9, 8)).shape == (3, 5)


@pytest.mark.parametrize("write", [lambda u, v: u.add_(v), lambda u, v: u.mul_(v)], ids=["add", "mul"])
def test_what_is_overwritten_is_not_spread(write: Any) -> None:
    model = Function(lambda m, x, y: m.two(write(m.one(x), m.one(y))), one=nn.Linear(4, 5), two=nn.Linear(5, 3))
    program = traced(model, (image(3, 6, 4), image(3, 6, 4)))
    assert list(program.facts.symbols) == ["batch", "length"]
    given = image(2, 7, 4), image(2, 7, 4)
    assert_same(model(*given), program(*given))
    with pytest.raises(InputError):  # the model refuses it, too
        program(image(3, 1, 4), image(3, 6, 4))


def test_what_is_spread_over_something_overwritten() -> None:
    model = Function(lambda m, x, y: m.two(m.one(x).add_(m.one(y))), one=nn.Linear(4, 5), two=nn.Linear(5, 3))
    program = traced(model, (image(3, 6, 4), image(3, 1, 4)))
    given = image(2, 7, 4), image(2, 1, 4)
    assert_same(model(*given), program(*given))
