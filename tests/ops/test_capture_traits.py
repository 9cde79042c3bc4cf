"""What operators say of the calls that torch makes: results without values, findings, and what is only taken."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from swdc.ops import Operator, lookup
from swdc.ops.base import OPERATORS, called_by, name_of, target_of
from swdc.ops.capture_traits import Dispatched
from swdc.ops.in_place import operator_of

aten: Any = torch.ops.aten
X = torch.randn(2, 6, 4)

EMPTY: list[tuple[Any, list[Any]]] = [
    (aten.relu.default, [X]), (aten.relu_.default, [X]), (aten.gelu.default, [X]), (aten.hardtanh.default, [X]),
    (aten.sigmoid_.default, [X]), (aten.tanh.default, [X.transpose(0, 2)]), (aten.dropout.default, [X, 0.5, True]),
    (aten.dropout_.default, [X, 0.5, True]),
    (aten.linear.default, [X, torch.randn(3, 4), torch.randn(3)]), (aten.linear.default, [X, torch.randn(4)]),
    (aten.batch_norm.default, [X, torch.ones(6), None, None, None, True, 0.1, 1e-5, False]),
    (aten.layer_norm.default, [X, [6, 4], None, None]),
    (aten.group_norm.default, [X, 3]),
]  # fmt: skip


@pytest.mark.parametrize(("target", "args"), EMPTY, ids=lambda value: str(value) if callable(value) else "")
def test_results_without_values_have_the_form_of_real_ones(target: Any, args: list[Any]) -> None:
    real = target(*[a.clone() if isinstance(a, torch.Tensor) else a for a in args])
    given = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in args]
    empty = operator_of(target).empty_result(target, given)
    assert empty.is_meta
    assert (empty.shape, empty.stride(), empty.dtype) == (real.shape, real.stride(), real.dtype)
    assert (empty is given[0]) == target._schema.is_mutable


@pytest.mark.parametrize(
    ("target", "args"),
    [
        (aten.relu.default, [torch.ones(2, dtype=torch.int64)]),
        (aten.linear.default, [X, torch.randn(3, 5)]),
        (aten.batch_norm.default, [X, torch.ones(4), None, None, None]),
        (aten.layer_norm.default, [X, [5]]),
        (aten.group_norm.default, [X, 4]),
        (aten.feature_dropout.default, [X, 0.5, True]),
        (aten.add.Tensor, [X, X]),
    ],
)
def test_torch_is_asked_where_a_form_is_not_known_or_a_call_fails(target: Any, args: list[Any]) -> None:
    given = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in args]
    assert operator_of(target).empty_result(target, given) is None


FOUND: list[tuple[Any, list[Any]]] = [
    (aten.nonzero.default, [X]), (aten.nonzero_numpy.default, [X > 0]), (aten.argwhere.default, [X]),
    (aten.where.default, [X > 0]), (aten.masked_select.default, [X, X > 0]),
    (aten.index.Tensor, [X, [None, torch.ones(6, dtype=torch.bool)]]),
]  # fmt: skip


@pytest.mark.parametrize(("target", "args"), FOUND, ids=lambda value: str(value) if callable(value) else "")
def test_what_finds_can_find_nothing(target: Any, args: list[Any]) -> None:
    operator = lookup(name_of(target))
    assert operator.finds
    found, nothing = (target(*given) for given in (args, operator.found_nowhere(args)))
    found, nothing = (one[0] if isinstance(one, list) else one for one in (found, nothing))
    assert found.numel() > 0
    assert nothing.numel() == 0


def test_boxes_that_are_suppressed_are_all() -> None:
    pytest.importorskip("torchvision")
    boxes, scores = torch.tensor([[0.0, 0, 1, 1], [2, 2, 3, 3]]), torch.tensor([0.5, 0.6])
    target = target_of("torchvision.nms.default")
    found, nothing = target(boxes, scores, 0.5), target(*lookup(name_of(target)).found_nowhere([boxes, scores, 0.5]))
    assert (len(found), len(nothing), nothing.dtype) == (2, 0, found.dtype)


def test_indices_that_are_no_masks_stay() -> None:
    rows = torch.tensor([1, 0])
    assert lookup("aten.index.Tensor").found_nowhere([X, [rows, None]])[1][0] is rows


def test_what_is_taken_of_the_first_argument() -> None:
    rows = torch.tensor([0, 2])
    assert lookup("aten.index_select.default").taken(aten.index_select.default, (X, 1, rows)) == (1, rows)
    for target in (aten.detach.default, aten.clone.default, aten.alias.default, aten.contiguous.default):
        assert lookup(name_of(target)).taken(target, (X,)) == (0, None)
    for target in (aten.to.dtype, aten.conj.default, aten.mul.Tensor):
        assert lookup(name_of(target)).taken(target, (X,)) is None


def test_views_become_reshapes() -> None:
    for target in (aten.view.default, aten._unsafe_view.default):
        assert lookup(name_of(target)).anywhere(target) is aten.reshape.default
    for target in (aten.reshape.default, aten.flatten.using_ints, aten.relu.default):
        assert lookup(name_of(target)).anywhere(target) is target


def test_in_place_operators_are_known_as_their_twins() -> None:
    assert operator_of(aten.relu_.default) is lookup("aten.relu.default")
    assert operator_of(aten.transpose_.default) is lookup("aten.transpose.int")
    assert operator_of(aten.frexp.Tensor) is lookup("nothing.of.this")


def test_facts_of_the_table() -> None:
    def names(fact: Callable[[Operator], bool]) -> set[str]:
        return {name for name, operator in OPERATORS.operators.items() if fact(operator)}

    assert names(lambda o: o.checks) == {"aten._assert_tensor_metadata.default", "aten._assert_scalar.default"}
    assert {"aten.item.default", "aten.nonzero.default", "aten.masked_select.default"} < names(lambda o: o.steers)
    assert {"aten.to.dtype", "aten._to_copy.default", "aten.type_as.default"} < names(lambda o: o.casts)
    assert names(lambda o: o.layout == "given") == {"aten.contiguous.default"}
    assert names(lambda o: o.layout == "read") == {"aten.as_strided.default"}
    assert names(lambda o: o.layout == "chosen") == {"aten.scaled_dot_product_attention.default"}
    trains = {"aten.dropout.default", "aten.feature_dropout.default", "aten.batch_norm.default", "swdc.batch_norm"}
    assert names(lambda o: o.trains) == trains


def test_an_operator_says_nothing_unless_asked() -> None:
    known = Dispatched()
    assert known.anywhere(aten.relu.default) is aten.relu.default
    assert known.found_nowhere((X, 1)) == [X, 1]
    assert known.empty_result(aten.relu.default, (X,)) is None
    assert known.taken(aten.relu.default, (X,)) is None


@pytest.mark.parametrize(
    ("name", "arguments", "still"),
    [
        ("aten.lstm.input", {"dropout": 0.5, "train": False}, True),
        ("aten.lstm.input", {"dropout": 0.0, "train": False}, False),
        ("aten.dropout.default", {"p": 0.5, "train": False}, True),
        ("aten.dropout.default", {"p": 0.5, "train": True}, False),
        ("aten.dropout.default", {"p": 0, "train": False}, False),
        ("aten.batch_norm.default", {"training": False}, True),
        ("aten.instance_norm.default", {"use_input_stats": False}, True),
        ("aten.relu.default", {}, False),
        ("mine.unknown.default", {"training": False}, True),
    ],
)
def test_a_call_keeps_still_if_training_would_change_it(name: str, arguments: dict[str, Any], still: bool) -> None:
    assert lookup(name).keeps_still(arguments) == still


def test_functions_of_torch_are_known_by_their_operators() -> None:
    functions = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout)
    assert all(called_by(function).drops for function in functions)
    assert not any(called_by(function).drops for function in (F.batch_norm, F.relu, torch.lstm, len))
    assert called_by(F.batch_norm).trains
