"""Operations as expressions over dynamic sizes."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import sympy
import torch
import torchvision
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

import swdc
from swdc.costs.count import CONVENTIONS, Count
from swdc.errors import SwdcError
from swdc.ir.call import Call
from swdc.ops import register
from swdc.ops.base import OPERATORS, Operator
from swdc.ops.call_cost import Cost, ShapeOf
from tests.support import Function, conv, image, random_plan, traced


def test_by_hand() -> None:
    layers = (conv(3, 8, stride=2), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 4))
    program = traced(nn.Sequential(*layers), dynamic=["batch"])
    assert [str(swdc.count(program, convention).formula) for convention in CONVENTIONS] == [
        f"{216 * 64 + 2 * 128 + 512 + 4}*batch", f"{216 * 16 + 2 * 128 + 512 + 4}*batch", f"{216 * 16 + 512}*batch",
    ]  # fmt: skip


def attention(m: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    queries, keys = (part(z).unflatten(-1, (2, 4)).transpose(0, 1) for part, z in ((m.q, x), (m.k, y)))
    return m.out(scaled_dot_product_attention(queries, keys, keys).transpose(0, 1).flatten(1))


def test_positions_that_are_multiplied_with_each_other() -> None:
    model = Function(attention, q=nn.Linear(8, 8), k=nn.Linear(8, 8), out=nn.Linear(8, 8))
    program = traced(model, (image(5, 8), image(7, 8)))
    one, other = (next(n for n, size in program.facts.symbols.items() if size == rows) for rows in (5, 7))
    formula = swdc.count(program, "macs").formula
    n, m = sympy.symbols([one, other])
    assert formula == 64 * n + 64 * m + 64 * n + 2 * 2 * 4 * n * m
    for rows, columns in ((1, 1), (3, 11), (64, 2)):
        counted = swdc.count(program, "macs", sizes={one: rows, other: columns})
        assert counted.macs == formula.subs({one: rows, other: columns})
        assert counted.formula == formula


def test_the_formula_of_a_slim_program() -> None:
    program = traced(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 2)))
    plan = random_plan(program)
    kept = len(plan.kept["0"])
    assert str(swdc.count(swdc.slim(program, plan)).formula) == f"{(27 + 18) * kept}*batch*height*width"


def test_a_program_without_dynamic_sizes_has_a_number() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.a(x) if float(x.sum()) > 0 else m.b(x)

    with pytest.warns(UserWarning, match="recorded on the example inputs"):
        program = swdc.trace(Function(forward, a=nn.Linear(5, 7), b=nn.Linear(5, 7)).eval(), torch.ones(3, 5))
    assert swdc.count(program, "macs").formula == 3 * 5 * 7


def test_a_network_of_every_kind() -> None:
    with torch.device("meta"):
        model = torchvision.models.SwinTransformer([4, 4], 24, [1, 2], [2, 4], [4, 4], stochastic_depth_prob=0.0).eval()
    program = swdc.trace(model, torch.empty(2, 3, 64, 64, device="meta"))
    for convention in CONVENTIONS:
        formula = swdc.count(program, convention).formula
        for sizes in ({"batch": 1, "height": 64, "width": 64}, {"batch": 3, "height": 48, "width": 60}):
            assert formula.subs(sizes) == swdc.count(program, convention, sizes=sizes).operations


def test_an_expression_that_is_not_the_count_is_refused() -> None:
    class Wrong(Operator):
        names = ("aten.erfinv.default",)

        def cost(self, call: Call, shape_of: ShapeOf) -> tuple[Cost, ...]:
            x = call["self"]
            rows = shape_of(x)[0]
            return (Cost(((x, 1),), 0, 0, rows if isinstance(rows, int) else 2),)

    former = OPERATORS.operators["aten.erfinv.default"]
    register(Wrong)
    try:
        program = traced(Function(lambda m, x: torch.erfinv(x)), image(2, 5))
        with pytest.raises(
            SwdcError, match=r"expected an expression that gives 5 for batch 1, length 5, got 2\*length, which"
        ):
            _ = swdc.count(program, "macs").formula
    finally:
        OPERATORS.operators["aten.erfinv.default"] = former


def test_a_count_can_be_kept_without_its_program() -> None:
    counted = swdc.count(traced(nn.Linear(5, 7), image(2, 5)))
    bare = Count(**{**counted.to_dict(), "layers": counted.layers})
    assert bare == counted
    with pytest.raises(SwdcError, match="expected a count with its program"):
        _ = bare.formula
    assert pickle.loads(pickle.dumps(bare)) == bare


def test_sizes_that_a_program_does_not_stand_for_are_refused() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.a(x) if x.shape[1] <= 16 else m.b(m.a(x))

    program = traced(Function(forward, a=nn.Linear(4, 4), b=nn.Linear(4, 4)), image(2, 9, 4))
    assert swdc.count(program, "macs", sizes={"length": 16}).macs == 16 * 16
    assert str(swdc.count(program, "macs").formula) == "16*batch*length"
    with pytest.raises(SwdcError, match=r"expected sizes for which the program stands, length <= 16"):
        swdc.count(program, sizes={"length": 17})
