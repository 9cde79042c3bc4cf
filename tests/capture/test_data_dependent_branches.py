"""Probing: a model that branches on how much it finds is recorded at once, one that does not is exported."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

import swdc
from swdc.artifacts.onnx.runtime import run_onnx
from swdc.capture.data_dependent_branches import searches_branched_on
from swdc.capture.restore import restored
from swdc.capture.way import Subject
from swdc.errors import InputError
from tests.support import Function, assert_equal, assert_same, certified, image, randomise


class Mixture(nn.Module):
    """Two experts, each of which sees the rows that are routed to it, as many as there are."""

    def __init__(self) -> None:
        super().__init__()
        self.route = nn.Linear(6, 2)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 6)) for _ in range(2))
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        best, result = self.route(x).argmax(-1), torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = torch.where(best == number)[0]
            result = result.index_add(0, rows, expert(x[rows]))
        logits: torch.Tensor = self.head(x + result)
        return logits


class Fails(nn.Module):
    """Takes the maximum of what it finds, which has none where it finds nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x[x > 0].max()


def _kept_boxes(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Describe the rows whose boxes stay when overlapping ones are suppressed; code that branches on their number."""
    corners = m.boxes(x).abs()
    keep = torchvision.ops.nms(torch.cat([corners, corners + 1], dim=1), x[:, 0], 0.5)
    if len(keep) == 0:
        return m.head(x)
    return m.head(m.body(x[keep]).relu())


def _boxes() -> nn.Module:
    return Function(_kept_boxes, boxes=nn.Linear(6, 2), body=nn.Linear(6, 6), head=nn.Linear(6, 3))


def probed(model: nn.Module, *args: object) -> bool:
    with restored(model) as put_back:
        return searches_branched_on(Subject(model.eval(), (args, {}), put_back))


def test_what_branches_is_told_from_what_does_not() -> None:
    assert probed(randomise(_boxes()), image(5, 6))
    assert not probed(Mixture(), torch.randn(5, 6))
    assert not probed(nn.Linear(6, 3), torch.randn(5, 6))
    assert not probed(Fails(), torch.ones(5, 6))  # it is unknown, then


@pytest.mark.filterwarnings("ignore:recorded on the example inputs")
def test_what_finds_boxes_is_not_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    exported = []
    monkeypatch.setattr(torch.export, "export", lambda *_, **__: exported.append(True))
    facts = swdc.trace(randomise(_boxes()).eval(), image(5, 6)).facts
    assert not exported
    assert facts.captured_by == "record"
    assert dict(facts.attempts)["export"] == (
        "the model calls other operators if a search in it (such as nonzero) finds nothing"
    )


def test_experts_that_see_some_rows_are_exported_and_slim() -> None:
    program = swdc.trace(randomise(Mixture()).eval(), image(5, 6))
    assert program.facts.captured_by == "export"
    assert {group.width for group in program.groups} == {8}
    certified(program)


def test_a_program_of_what_is_found_fails_where_nothing_is() -> None:
    def code(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        found = x[x[:, 0] > 0]
        if found.shape[0] == 0:
            return m.b(m.a(x)).sum(0)
        return m.b(m.a(found).tanh()).sum(0)

    program = swdc.trace(randomise(Function(code, a=nn.Linear(4, 8), b=nn.Linear(8, 3))).eval(), image(5, 4))
    assert program.facts.captured_by == "export"
    masked, slim = certified(program)
    x = image(9, 4, seed=3)
    assert_same(masked(x), slim(x))
    for each in (program, slim):
        with pytest.raises(
            InputError, match=r"expected inputs in which .*\.py:\d+ finds something, got .*; give others"
        ):
            each(-x.abs())


def test_a_classifier_that_keeps_the_best_nodes_takes_any_graph() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch_geometric uses of torch is deprecated
        import torch_geometric.nn as geometric

    def code(m: nn.Module, x: torch.Tensor, edges: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        x, edges, _, batch, _, _ = m.pool(m.a(x, edges).relu(), edges, None, batch)
        logits: torch.Tensor = m.head(geometric.global_mean_pool(m.b(x, edges).relu(), batch))
        return logits

    def graphs(nodes: int, number: int) -> tuple[torch.Tensor, ...]:
        edges = torch.randint(nodes, (2, 3 * nodes), generator=torch.Generator().manual_seed(nodes))
        return image(nodes, 8, seed=nodes), edges, torch.arange(nodes) * number // nodes

    a, b, pool = geometric.SAGEConv(8, 16), geometric.SAGEConv(16, 12), geometric.TopKPooling(16, 0.5)
    model = randomise(Function(code, a=a, b=b, pool=pool, head=nn.Linear(12, 3))).eval()
    program = swdc.trace(model, graphs(40, 4))
    assert program.facts.captured_by == "export"
    plan = swdc.plan(program, sparsity=0.5)
    masked, slim, mine = (
        swdc.mask(program, plan),
        swdc.slim(program, plan),
        swdc.transplant(swdc.slim(program, plan), model),
    )
    for given in (graphs(50, 5), graphs(33, 2), graphs(12, 1)):
        assert_equal(model(*given), program(*given))
        assert_same(masked(*given), slim(*given))
        assert_same(masked(*given), mine(*given))


def test_a_squeeze_of_what_is_found_is_refused_where_one_is() -> None:
    """The code treats a vector of one place apart, and it is a vector no more."""

    def code(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        places = (x[:, 0] > 0).nonzero().squeeze()
        if places.dim() == 0:
            places = places.unsqueeze(0)
        found: torch.Tensor = m.b(m.a(x).relu())[places]
        return found

    model = randomise(Function(code, a=nn.Linear(3, 8), b=nn.Linear(8, 2))).eval()
    x = image(6, 3)
    x[:, 0] = torch.tensor([1.0, -1, 1, 1, -1, 1])
    program = swdc.trace(model, x)
    assert program.facts.captured_by == "export"
    for signs in ([1.0, 1, 1, 1, 1, 1], [-1.0, 1, -1, -1, 1, -1], [-1.0] * 6):
        x[:, 0] = torch.tensor(signs)
        assert_equal(model(x), program(x))
    x[:, 0] = torch.tensor([-1.0, -1, 1, -1, -1, -1])
    with pytest.raises(InputError, match="finds several, got inputs in which it finds one"):
        program(x)


class Experts(nn.Module):
    """A mixture that leaves out experts that no token has chosen; ``otherwise`` is added for each of those."""

    def __init__(self, otherwise: float = 0.0) -> None:
        super().__init__()
        self.first, self.router, self.last = nn.Linear(8, 16), nn.Linear(16, 4), nn.Linear(16, 4)
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(16, 12), nn.GELU(), nn.Linear(12, 16)) for _ in range(4))
        self.otherwise = otherwise

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        weights, chosen = self.router(x).softmax(-1).topk(2, -1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            tokens, places = torch.where(chosen == number)
            if tokens.numel() == 0:
                out = out + self.otherwise if self.otherwise else out
                continue
            out.index_add_(0, tokens, expert(x[tokens]) * weights[tokens, places, None])
        return self.last(out)


def test_experts_that_no_token_chooses_are_left_out(tmp_path: Path) -> None:
    """The graph has them run on no tokens, which is the same."""
    model = randomise(Experts()).float().eval()
    program = swdc.trace(model, torch.randn(9, 8))
    assert (program.facts.captured_by, program.facts.notes) == ("export", ())
    plan = swdc.plan(program, 0.5, scope="group")
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    assert swdc.verify(masked, slim).exact
    assert swdc.count(slim).parameters < 0.5 * swdc.count(program).parameters
    swdc.export_onnx(slim, tmp_path / "x.onnx")
    mine = swdc.transplant(slim, model)
    for batch in (1, 2, 30):
        x = torch.randn(batch, 8)
        assert_same(program(x), model(x), 1e-6)
        assert_same(slim(x), masked(x), 1e-6)
        assert_same(slim(x), mine(x), 1e-6)
        assert_same(slim(x), torch.from_numpy(run_onnx(tmp_path / "x.onnx", ((x,), {}))[0]), 1e-5)


def test_what_code_does_instead_is_not_forgotten() -> None:
    model = randomise(Experts(otherwise=1.0)).float().eval()
    program = swdc.trace(model, torch.randn(30, 8))
    x = torch.randn(40, 8)
    assert_same(program(x), model(x), 1e-6)
    with pytest.raises(InputError, match="finds something, got inputs in which it finds nothing"):
        program(torch.randn(1, 8))


def _masked(m: Any, x: torch.Tensor, sure: Callable[[torch.Tensor], Any]) -> torch.Tensor:
    """Have each of two experts change the rows that are its own, if there are any."""
    chosen, out = m.c(x).argmax(-1), torch.zeros_like(x)
    for number, expert in enumerate((m.a, m.b)):
        mask = chosen == number
        if sure(mask):
            out[mask] = expert(x[mask]).relu()
    return m.d(out)


def _capped(m: Any, x: torch.Tensor) -> torch.Tensor:
    x = m.a(x)
    if not (x < 3).all():
        x = x.clamp(max=3)
    return m.d(x)


def _until_small(m: Any, x: torch.Tensor) -> torch.Tensor:
    x = m.a(x)
    while (x > 1).any():
        x = x / 2
    return m.d(x)


def _or_else(m: Any, x: torch.Tensor) -> torch.Tensor:
    """What is done where the first condition holds nowhere depends on the second."""
    x, out = m.a(x), torch.zeros_like(x)
    large, small = x > 1e3, x < -1e3
    if large.any():
        out[large] = x[large]
    elif small.any():
        out[small] = 2 * x[small]
    return m.d(x + out)


def _both(m: Any, x: torch.Tensor) -> torch.Tensor:
    """The first condition decides alone in all runs that are tried."""
    x, out = m.a(x), torch.zeros_like(x)
    large, small = x > 0, x < -1e6
    if large.any() and small.any():
        out[large] = x[large]
    return m.d(x + out)


BRANCHING: dict[str, tuple[Callable[[Any, torch.Tensor], torch.Tensor], str]] = {
    "any": (partial(_masked, sure=torch.any), "export"),
    "the item of any": (partial(_masked, sure=lambda mask: mask.any().item()), "export"),
    "not all": (_capped, "export"),
    "a loop": (_until_small, "record"),
    "another condition where there is none": (_or_else, "record"),
    "two conditions": (_both, "record"),
    "something else where there is none": (lambda m, x: m.d(m.a(x) if (x > 0.9).any() else m.b(x)), "record"),
    "an error": (lambda m, x: [][0] if x.isnan().any() else m.d(m.a(x)), "record"),
    "never otherwise": (lambda m, x: m.d(m.a(x) if torch.any(x.abs() >= 0) else m.b(x)), "record"),
}


@pytest.mark.filterwarnings("ignore:recorded on the example inputs")
@pytest.mark.parametrize("name", BRANCHING)
def test_branches_that_change_nothing_where_nothing_holds(name: str) -> None:
    code, by = BRANCHING[name]
    layers = {name: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 6)) for name in "abc"}
    model = randomise(Function(code, **layers, d=nn.Linear(6, 3))).eval()
    example = image(5, 6)
    program = swdc.trace(model, example)
    assert program.facts.captured_by == by
    assert_same(program(example), model(example))
    if by == "export":
        assert certified(program)
        for batch in (1, 2, 9):
            for scale in (0.1, 1, 10):
                assert_same(program(scale * image(batch, 6)), model(scale * image(batch, 6)))
