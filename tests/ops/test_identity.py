"""What operators may ask of a program that say what a call gives back."""

from __future__ import annotations

import torch
from torch import fx

from swdc.analysis.identities import Identities
from swdc.ir.call import Ref
from swdc.ops import calls
from swdc.ops.base import OPERATORS, Operator
from swdc.ops.identity import Evaluation, Identity, alias_of, copy_of
from tests.support import Function, conv, traced

TENSORS = {"zeros": torch.zeros(3), "mixed": torch.arange(3.0), "unknown": torch.zeros(3, device="meta")}


def test_a_tensor_of_the_model_is_given_back_by_nothing() -> None:
    node = fx.Graph().placeholder("x")
    assert alias_of(node) == Identity(node, copies=False)
    assert copy_of(node) == Identity(node, copies=True)
    assert alias_of(Ref("a.weight")) is None
    assert copy_of(Ref("a.weight")) is None


def test_constants_of_one_number() -> None:
    evaluation = Evaluation({}, TENSORS, frozenset(), True, {})
    assert evaluation.is_all(0, 0)
    assert evaluation.is_all(1.0, 1)
    assert not evaluation.is_all(0.5, 1)
    assert evaluation.is_all(Ref("zeros"), 0)
    assert not evaluation.is_all(Ref("zeros"), 1)
    assert not evaluation.is_all(Ref("mixed"), 0)
    assert not evaluation.is_all(Ref("unknown"), 0)
    assert not evaluation.is_all(fx.Graph().placeholder("x"), 0)


def test_the_maker_of_a_value_is_found_through_identities() -> None:
    program = traced(Function(lambda m, x: torch.relu(m.c(x)).detach(), c=conv(3, 6)))
    layer, relu, detached = calls(program)
    known = Evaluation(calls(program), program.tensors, frozenset(), True, {detached: relu})
    assert known.maker(layer) is calls(program)[layer][1]
    assert known.maker(detached) is calls(program)[relu][1]
    assert known.maker(layer.all_input_nodes[0]) is None


def test_what_has_another_shape_or_type_is_no_identity() -> None:
    program = traced(Function(lambda m, x: (m.c(x).flatten(1), m.c(x).flatten(1, 1).float()), c=conv(3, 6)))
    found = {str(node.target): Identities(program, {}).of(node) is not None for node in list(calls(program))[1:]}
    assert not found["aten.to.dtype"]
    assert [Identities(program, {}).of(n) is not None for n in program.graph.nodes if "flatten" in n.name] == [
        False,
        True,
    ]


def test_an_operator_gives_back_nothing_unless_it_says_so() -> None:
    program = traced(Function(lambda m, x: torch.special.bessel_j0(m.c(x)), c=conv(3, 6)))
    assert all(Identities(program, {}).of(node) is None for node in calls(program))
    silent = [name for name, one in OPERATORS.operators.items() if type(one).identity is Operator.identity]
    assert {"aten.gelu.default", "aten.t.default", "aten.conv2d.default", "aten.stack.default"} <= set(silent)
