"""What explain says: the share that can be removed, and what each reason freezes."""

from __future__ import annotations

import torch
from torch import nn

from swdc.ir.explanation import Held
from tests.support import Function, image, traced


def held_by(program: object, text: str) -> Held:
    found = [h for h in program.explanation.held if text in h.reason.text]  # type: ignore[attr-defined]
    assert len(found) == 1
    return found[0]


def gated(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    y = torch.special.bessel_j0(m.get_submodule("b")(torch.relu(m.get_submodule("a")(x))))
    result: torch.Tensor = m.get_submodule("c")(y)
    return result


def unknown_between() -> Function:
    """All of ``a`` can be removed; an operator without a rule freezes ``b`` and ``c``."""
    return Function(gated, a=nn.Linear(5, 7), b=nn.Linear(7, 6), c=nn.Linear(6, 4))


def test_the_share_is_what_one_channel_a_group_leaves() -> None:
    explanation = traced(unknown_between(), image(2, 5)).explanation
    assert explanation.parameters == 5 * 7 + 7 + 7 * 6 + 6 + 6 * 4 + 4
    assert explanation.parameters - explanation.prunable == 5 + 1 + 6 + 6 + 6 * 4 + 4
    assert explanation.share == explanation.prunable / explanation.parameters


def test_a_reason_counts_the_parameters_that_it_freezes_and_the_largest_comes_first() -> None:
    explanation = traced(unknown_between(), image(2, 5)).explanation
    assert [h.reason.operator for h in explanation.held] == ["aten.special_bessel_j0.default", "", ""]
    assert [h.parameters for h in explanation.held] == [
        (6 - 1) + (6 - 1) + (6 * 4 - 4),  # b.weight, b.bias, c.weight
        (6 * 4 - 6) + (4 - 1),  # c.weight, c.bias: the output
        5 - 1,  # a.weight: the input
    ]
    assert explanation.held[0].channels == 6 + 6 + 6


def test_all_positions_of_one_channel_of_a_flattened_feature_map_stay() -> None:
    def forward(m: nn.Module, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = m.get_submodule("a")(x)
        return m.get_submodule("b")(y.flatten(1)), y.sum((2, 3))

    program = traced(Function(forward, a=nn.Conv2d(3, 6, 1), b=nn.Linear(6 * 64, 4)))
    assert held_by(program, "output").parameters == 3 * (6 - 1) + (6 - 1) + (6 * 64 * 4 - 64) + (4 - 1)


def test_a_tied_tensor_counts_once() -> None:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        a: nn.Linear = m.get_submodule("a")  # type: ignore[assignment]
        result: torch.Tensor = m.get_submodule("b")(torch.relu(a(x)))
        return result

    a, b = nn.Linear(6, 6), nn.Linear(6, 6)
    b.weight = a.weight
    assert traced(Function(forward, a=a, b=b), image(2, 6)).explanation.parameters == 36 + 6 + 6


def test_the_text_and_the_data_name_operator_line_and_edit() -> None:
    program = traced(unknown_between(), image(2, 5))
    told = program.explain().splitlines()
    assert told[0] == program.explanation.summary()
    row = next(i for i, line in enumerate(told) if "aten.special_bessel_j0.default: no rule" in line)
    assert "test_explanation.py:" in told[row]
    assert told[row + 1].strip() == "to free them: give aten.special_bessel_j0.default a rule with swdc.register"
    assert told[row + 2].strip() == "holds 30 parameters: b.weight[0] (6), b.bias[0] (6), c.weight[1] (6)"
    data = program.explanation.to_dict()
    first = data["held"][0]
    assert (first["parameters"], first["channels"], first["operator"]) == (30, 18, "aten.special_bessel_j0.default")
    assert first["edit"] == "give aten.special_bessel_j0.default a rule with swdc.register"
    assert first["dimensions"][2] == {"tensor": "c.weight", "dim": 1, "channels": 6}
    assert {f["edit"] for f in data["frozen"] if f["tensor"] == "a.weight"} == {""}


def test_nothing_to_remove() -> None:
    program = traced(nn.Sequential(nn.ReLU(), nn.Flatten()))
    assert program.explanation.share == 0
    assert "nothing is frozen" in program.explain()
