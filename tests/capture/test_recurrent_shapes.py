"""Shapes of recurrent layers during capture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from swdc.capture.recurrent_shapes import shapes_alone
from swdc.capture.training_differences import empty_result
from tests.support import Function, assert_equal, image, randomise, traced

OPTIONS: list[dict[str, Any]] = [
    {}, {"batch_first": True}, {"bidirectional": True, "num_layers": 2}, {"bidirectional": True, "batch_first": True},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_results_have_the_shapes_and_strides_of_real_ones(layer: Any, options: dict[str, Any]) -> None:
    def results(projected: bool) -> list[Any]:
        made = layer(4, 6, **options, **({"proj_size": 3} if projected else {}), dtype=torch.float64)
        flat = pytree.tree_leaves(made(torch.randn(2, 7, 4, dtype=torch.float64)))
        return [(tuple(t.shape), t.stride(), t.dtype) for t in flat]

    for projected in (False, True) if layer is nn.LSTM else (False,):
        real = results(projected)
        with FakeTensorMode(), shapes_alone():
            assert results(projected) == real


def test_layers_compute_again_afterwards() -> None:
    layer, x = nn.GRU(4, 6), torch.randn(2, 7, 4)
    before = layer(x)
    with pytest.raises(KeyError), shapes_alone():
        raise KeyError
    assert_equal(before, layer(x))
    with FakeTensorMode():
        assert nn.GRU(4, 6)(torch.empty(2, 7, 4))[0].shape == (2, 7, 6)


def test_a_captured_layer_computes_what_the_model_does() -> None:
    layer = nn.LSTM(5, 6, 2, bidirectional=True, batch_first=True)
    model = randomise(Function(lambda m, x: m.d(m.r(x)[0]), r=layer, d=nn.Linear(12, 3)))
    x = image(3, 500, 5)
    assert_equal(model.eval()(x), traced(model, image(2, 500, 5))(x))


def test_results_on_the_meta_device() -> None:
    with torch.device("meta"):
        layer, x, state = nn.GRU(4, 6), torch.empty(2, 7, 4), torch.empty(1, 7, 6)
    arguments = (x, state, layer._flat_weights, True, 1, 0.0, False, False, False)
    results = empty_result(torch.gru, arguments)
    assert results is not None
    assert [t.shape for t in results] == [(2, 7, 6), (1, 7, 6)]
    assert empty_result(torch.relu, (x,)) is None
    assert empty_result(torch.gru, (torch.zeros(2, 7, 4), *arguments[1:])) is None  # it has values
    packed = (x, torch.tensor([7, 7]), state, layer._flat_weights, True, 1, 0.0, False, False)
    assert empty_result(torch.gru, packed) is None
