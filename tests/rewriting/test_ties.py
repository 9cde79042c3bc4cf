"""Selections between equal values at corners: right programs are exact, with an assumption; wrong ones are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.ir.program import Program
from swdc.rewriting.ties import AMPLIFIED
from tests.support import Function, image, random_plan, randomise

NODES, WIDTH = 13, 24
ASSUMED = "no input lets a selection choose between equal values"


def _topk(score: torch.Tensor) -> torch.Tensor:
    return score.topk(3, dim=1).indices


SELECTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "topk": _topk,
    "argsort": lambda score: score.argsort(dim=1),
    "argmax": lambda score: score.argmax(dim=1, keepdim=True),
    "min": lambda score: score.min(1, keepdim=True).indices,
}


def graph_model(select: Callable[[torch.Tensor], torch.Tensor], seed: int, after: Any = torch.relu) -> nn.Module:
    """Nodes that are all alike where the input is constant, but whose means over neighbours are rounded otherwise."""
    torch.manual_seed(seed)
    edges = (torch.rand(NODES, NODES) < 0.5).double() + torch.eye(NODES)

    def code(m: Any, x: torch.Tensor) -> Any:
        h = m.c(m.edges @ m.a(x).relu()).relu()
        chosen = select(m.score(h).squeeze(-1))
        return m.b(after((h + m.places).gather(1, chosen[..., None].expand(-1, -1, WIDTH))))

    parts = {"a": nn.Linear(6, WIDTH), "c": nn.Linear(WIDTH, WIDTH), "score": nn.Linear(WIDTH, 1)}
    places, last = nn.Parameter(torch.randn(NODES, WIDTH)), nn.Linear(WIDTH, 4)
    own = {"b": last, "places": places, "edges": edges / edges.sum(1, keepdim=True)}
    return randomise(Function(code, **parts, **own), seed).eval()


def pair(model: nn.Module, seed: int) -> tuple[Program, Program]:
    program = swdc.trace(model, image(2, NODES, 6))
    plan = random_plan(program, seed)
    return swdc.mask(program, plan), swdc.slim(program, plan)


@pytest.mark.parametrize("select", SELECTIONS.values(), ids=SELECTIONS)
def test_right_programs_are_exact_whatever_rounding_decides(select: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assumed = 0
    for seed in range(6):
        certificate = swdc.verify(*pair(graph_model(select, seed), seed))
        assert certificate.exact, certificate
        assumed += any(ASSUMED in text and "test_ties.py:" in text for text in certificate.assumptions)
    assert assumed  # at some of the seeds


def test_in_the_types_of_the_program() -> None:
    for seed in range(4):
        model = graph_model(_topk, seed).float()
        program = swdc.trace(model, image(2, NODES, 6).float())
        plan = random_plan(program, seed)
        certificate = swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan))
        assert certificate.exact, certificate


def test_a_program_without_ties_assumes_nothing_of_them() -> None:
    model = randomise(Function(lambda m, x: m.b(m.a(x).relu()), a=nn.Linear(6, 8), b=nn.Linear(8, 3))).eval()
    assert not any(ASSUMED in text for text in swdc.verify(*pair(model, 0)).assumptions)


def _spoil(slim: Program, name: str) -> None:
    with torch.no_grad():
        slim.tensors[name][..., 0] += 0.01


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["score.weight", "b.weight", "places"])
def test_a_wrong_program_fails_with_ties_or_without(name: str, seed: int) -> None:
    masked, slim = pair(graph_model(_topk, seed), seed)
    _spoil(slim, name)
    assert not swdc.verify(masked, slim).exact


def test_what_is_wrong_at_another_corner_only_is_found() -> None:
    """Beyond large numbers the slim program computes something else; at zeros it has ties."""
    for seed in range(6):
        masked, slim = pair(graph_model(_topk, seed, lambda h: h.clamp(max=1e3)), seed)
        node = next(n for n in slim.graph.nodes if "clamp" in n.name)
        changed = slim.rebuilt()
        clamp = next(n for n in changed.graph.nodes if n.name == node.name)
        clamp.args = tuple(2e3 if a == 1e3 else a for a in clamp.args)
        clamp.kwargs = {name: 2e3 if a == 1e3 else a for name, a in clamp.kwargs.items()}
        changed.recompile()
        certificate = swdc.verify(masked, changed)
        assert not certificate.exact
        assert "the programs differ for huge numbers" in certificate.notes


def test_rounding_without_a_selection_is_no_excuse() -> None:
    """A step at zero turns with rounding, too; nothing is selected there, so that nothing is assumed."""
    certificate = swdc.verify(*pair(_step(), 0))
    assert not any(ASSUMED in text for text in certificate.assumptions)


def _step() -> nn.Module:
    def code(m: Any, x: torch.Tensor) -> Any:
        h = m.a(x).relu()
        return m.b(h * (m.s(h) > 0))

    return randomise(Function(code, a=nn.Linear(6, 8), s=nn.Linear(8, 1), b=nn.Linear(8, 3))).eval()


def test_rounding_that_a_corner_amplifies_is_an_assumption() -> None:
    """The sine of a huge number has lost the digits that summation rounds in either program."""

    def code(m: Any, x: torch.Tensor) -> Any:
        h = m.a(x).relu()
        return m.b(torch.sin(h + h.square().sum(-1, keepdim=True)))

    model = randomise(Function(code, a=nn.Linear(6, 16), b=nn.Linear(16, 3))).eval()
    masked, slim = pair(model, 0)
    certificate = swdc.verify(masked, slim)
    assert certificate.exact, certificate
    assert AMPLIFIED in certificate.assumptions
    with torch.no_grad():
        slim.tensors["b.bias"].add_(1e-6)
    assert not swdc.verify(masked, slim).exact


def test_what_is_wrong_beside_amplified_rounding_is_found() -> None:
    """The last channels lose all digits at huge numbers; in the first ones a wrong program shows there only."""

    def code(m: Any, x: torch.Tensor) -> Any:
        h = m.b(m.a(x).relu())
        return torch.cat([torch.sin(h / 400), torch.sin(torch.exp((h / 100).clamp(max=80)))], 1)

    masked, slim = pair(randomise(Function(code, a=nn.Linear(6, 16), b=nn.Linear(16, 4))).eval(), 0)
    assert swdc.verify(masked, slim).exact
    changed = slim.rebuilt()
    relu = next(n for n in changed.graph.nodes if "relu" in n.name)
    with changed.graph.inserting_after(relu):
        clamp = changed.graph.call_function(torch.ops.aten.clamp.default, (relu, None, 300.0))
    relu.replace_all_uses_with(clamp, delete_user_cb=lambda user: user is not clamp)
    clamp.meta.update(relu.meta)
    changed.recompile()
    certificate = swdc.verify(masked, changed)
    assert not certificate.exact
    assert "the programs differ for huge numbers" in certificate.notes
