"""Operators that are noted on the meta device, and carried out on the values."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from swdc.artifacts.streaming.tape import Tape
from swdc.capture.meta_model import trace_skeleton
from swdc.errors import PassError
from swdc.ir import weight_sources as values
from swdc.ir.weight_sources import Values
from tests.support import Function, image, traced

Rewrite = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
ROWS, COLUMNS = torch.tensor([0, 2, 3]), torch.tensor([1, 4])


def taped(rewrite: Rewrite, part: int, monkeypatch: pytest.MonkeyPatch) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Return what a rewrite of a weight and a bias makes of the values, what the tape makes, and if in parts."""
    monkeypatch.setattr(values, "PART", part)
    blank = trace_skeleton(lambda: torch.nn.Linear(5, 4), image(2, 5).float(), {})
    generator = torch.Generator().manual_seed(0)
    given = {name: torch.randn(t.shape, generator=generator) for name, t in blank.tensors.items()}
    weight, bias = (blank.tensors[name].detach() for name in given)
    with Tape(blank.tensors, Values(blank, given)) as tape:
        made = torch.nn.Parameter(rewrite(weight, bias))
    assert made.is_meta
    parts = list(tape.parts(made))
    return rewrite(*given.values()), torch.cat(parts), len(parts) > 1


@pytest.mark.parametrize(
    ("rewrite", "in_parts"),
    [
        (lambda w, b: w.index_select(0, ROWS.to(w.device)), True),
        (lambda w, b: w.index_select(1, COLUMNS.to(w.device)).index_select(0, ROWS.to(w.device)), True),
        (lambda w, b: w.clone(), True),
        (lambda w, b: b + (w.double() @ torch.ones(5, dtype=torch.float64).to(w.device)).to(b.dtype), False),
        (lambda w, b: torch.cat([w, w.flip(0)]), False),
        (lambda w, b: w.split(2)[1], False),
        (lambda w, b: torch.zeros(2, 2, device=w.device, dtype=w.dtype) + b[:2], False),
    ],
)
def test_a_rewrite_is_the_same_on_the_values(rewrite: Rewrite, in_parts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, actual, divided = taped(rewrite, 4, monkeypatch)
    assert torch.equal(expected, actual)
    assert divided == in_parts


def test_a_rewrite_in_place_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PassError, match=r"expected a rewrite that makes new tensors, got aten\.mul_\.Tensor"):
        taped(lambda w, b: w.mul_(2), 6, monkeypatch)


def test_a_tensor_from_elsewhere_has_no_values() -> None:
    program = traced(Function(lambda m, x: m.get_submodule("a")(x), a=torch.nn.Linear(5, 4)), image(2, 5))
    with Tape(program.tensors, Values(program)) as tape:
        pass
    with pytest.raises(PassError, match="expected a tensor computed from those of the program"):
        tape.whole(torch.zeros(3, device="meta"))
