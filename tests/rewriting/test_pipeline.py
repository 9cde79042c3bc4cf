"""Running passes: in order, to a fixpoint, with whoever watches told of what changed."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from torch import nn

from swdc.errors import PassError
from swdc.ir.program import Program
from swdc.rewriting.pass_base import Pass, PassResult
from swdc.rewriting.pipeline import apply, run, run_to_fixpoint
from swdc.rewriting.rebuild import revise
from tests.support import image, operators, traced


@dataclass(frozen=True)
class DropOne(Pass):
    """Let what reads the first relu read what that reads."""

    def apply(self, program: Program) -> PassResult:
        """Return the program with one relu fewer."""
        found = [n for n in program.graph.nodes if str(n.target) == "aten.relu.default"]
        if not found:
            return PassResult(program, modified=False)
        return PassResult(revise(program, instead={found[0]: found[0].args[0]}), modified=True)


@dataclass(frozen=True)
class Restless(Pass):
    """Change nothing, and say otherwise."""

    def apply(self, program: Program) -> PassResult:
        """Return the program."""
        return PassResult(program, modified=True)


def relus(number: int) -> Program:
    return traced(nn.Sequential(nn.Linear(3, 4), *(nn.ReLU() for _ in range(number))), image(2, 3))


def test_until_nothing_changes_any_more() -> None:
    program = relus(3)
    told: list[tuple[str, int, int]] = []

    def watch(step: Pass, before: Program, result: PassResult) -> None:
        told.append((step.name(), len(operators(before)), len(operators(result.program))))

    result = run_to_fixpoint(program, [DropOne()], watch)
    assert result.modified
    assert operators(result.program) == ["Linear"]
    assert told == [("drop-one", 4, 3), ("drop-one", 3, 2), ("drop-one", 2, 1)]
    assert len(operators(program)) == 4
    again = run_to_fixpoint(result.program, [DropOne()], watch)
    assert not again.modified
    assert again.program is result.program
    assert len(told) == 3


def test_one_round_only() -> None:
    assert operators(run(relus(3), [DropOne(), DropOne()]).program) == ["Linear", "aten.relu.default"]


def test_passes_that_come_to_no_end() -> None:
    with pytest.raises(PassError, match=r"expected passes that come to an end, got \['drop-one', 'restless'\]"):
        run_to_fixpoint(relus(1), [DropOne(), Restless()])


def test_a_pass_is_applied_by_its_name_or_as_it_is():
    program = traced(nn.Sequential(nn.ReLU(), nn.ReLU(), nn.Linear(8, 2)))
    named, given = apply(program, "eliminate-identities"), apply(program, DropOne())
    assert operators(named) == operators(given)
    assert len(operators(named)) < len(operators(program))


def test_unknown_passes_and_unfit_options_are_refused():
    program = traced(nn.Sequential(nn.ReLU(), nn.Linear(8, 2)))
    with pytest.raises(PassError, match="expected one of the installed passes"):
        apply(program, "no-such-pass")
    with pytest.raises(PassError, match="expected options of the pass 'flush-subnormals', got \\['speed'\\]"):
        apply(program, "flush-subnormals", speed=3)
    with pytest.raises(PassError, match="expected no options beside a pass"):
        apply(program, DropOne(), speed=3)
    with pytest.raises(PassError, match="expected step as text or a Pass"):
        apply(program, 3)
