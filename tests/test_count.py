"""Counts by hand, in the three conventions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import SwdcError
from tests.support import Function, conv, image, random_plan, traced


def by_convention(program: swdc.Program, **options: Any) -> dict[str, int]:
    return {name: swdc.count(program, name, **options).operations for name in ("paper", "reference", "macs")}


def test_strided_convolutions_read_and_write_maps_of_different_sizes() -> None:
    program = traced(nn.Sequential(conv(3, 4, stride=2, bias=False), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 5, 1)))
    assert by_convention(program) == {
        "paper": 3 * 4 * 9 * 64 + 2 * 4 * 16 + 4 * 5 * 16,
        "reference": 3 * 4 * 9 * 16 + 2 * 4 * 16 + 4 * 5 * 16,
        "macs": 3 * 4 * 9 * 16 + 4 * 5 * 16,
    }
    assert swdc.count(program).parameters == 3 * 4 * 9 + 8 + 4 * 5 + 5


def test_grouped_convolutions_read_their_own_group() -> None:
    program = traced(nn.Sequential(conv(3, 8, 1), conv(8, 16, groups=4), conv(16, 16, groups=16)))
    maps = 64
    expected = 3 * 8 * maps + 16 * 2 * 9 * maps + 16 * 1 * 9 * maps
    assert by_convention(program) == {"paper": expected, "reference": expected, "macs": expected}


def test_dense_layers_count_at_every_position() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), image(2, 7, 5))
    paper = 7 * (5 * 8 + 8 + 8 * 3 + 3)
    assert by_convention(program) == {"paper": paper, "reference": paper, "macs": 7 * (5 * 8 + 8 * 3)}
    assert swdc.count(program).parameters == 5 * 8 + 8 + 8 * 3 + 3


def test_a_batch_multiplies_operations_and_not_parameters() -> None:
    program = traced(nn.Sequential(conv(3, 4), nn.Flatten(), nn.Linear(256, 2)))
    one, many = swdc.count(program), swdc.count(program, batch=5)
    assert (many.parameters, many.layers[0].operations) == (one.parameters, 5 * one.layers[0].operations)


def test_a_graph_network_counts_the_example_as_a_whole(gcn: Callable[..., nn.Module]) -> None:
    nodes, edges = 7, torch.tensor([[0, 1, 2, 3, 4, 5, 6, 0], [1, 2, 3, 4, 5, 6, 0, 3]])
    program = traced(gcn(6, 8, 2, 3), (image(nodes, 6), edges))
    counted = swdc.count(program)
    assert counted.parameters == 6 * 8 + 8 + 8 * 3 + 3
    assert counted.macs == nodes * (6 * 8 + 8 * 3)
    assert by_convention(program)["paper"] == nodes * (6 * 8 + 8 + 8 * 3 + 3)


def test_tied_tensors_count_once_and_calls_each_time() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.b(self.a(self.a(x)))
            return y

    counted = swdc.count(traced(Shared(), image(2, 6)))
    assert counted.parameters == 6 * 6 + 6
    assert counted.macs == 3 * 36
    assert [layer.parameters for layer in counted.layers] == [42, 0, 0]


def test_what_the_graph_does_not_read_does_not_count() -> None:
    model = Function(lambda m, x: m.a(x), a=nn.Linear(6, 4), unused=nn.Linear(6, 100), k=torch.ones(50))
    assert swdc.count(traced(model, image(2, 6))).parameters == 28


def test_layers_add_up_and_are_named() -> None:
    model = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Sequential(nn.Flatten(), nn.Linear(256, 2)))
    for convention in ("paper", "reference", "macs"):
        counted = swdc.count(traced(model), convention)
        assert counted.convention == convention
        assert sum(layer.operations for layer in counted.layers) == counted.operations
        assert sum(layer.parameters for layer in counted.layers) == counted.parameters
        assert [layer.name for layer in counted.layers] == ["0", "1", "3.1"]
    assert counted.operations == counted.macs


def test_functions_that_read_parameters_are_named_with_their_module() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.factor

    (layer,) = swdc.count(traced(nn.Sequential(Scale()))).layers
    assert (layer.operator, layer.parameters, layer.operations) == ("aten.mul.Tensor", 3, 0)
    assert layer.name.startswith("0.")


def test_before_and_after() -> None:
    program = traced(nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 2)))
    assert swdc.count(program).before is None
    slim = swdc.slim(program, random_plan(program))
    counted, dense = swdc.count(slim), swdc.count(program)
    assert counted.before == {"parameters": dense.parameters, "operations": dense.operations, "macs": dense.macs}
    assert counted.parameters < dense.parameters


def test_counts_are_plain_data() -> None:
    counted = swdc.count(traced(conv(3, 4)), "macs")
    data = json.loads(json.dumps(counted.to_dict()))
    assert data["convention"] == "macs"
    assert data["macs"] == data["operations"] == 3 * 4 * 9 * 64
    assert data["before"] is None
    assert data["layers"][0]["parameters"] == data["parameters"] == 3 * 4 * 9 + 4


def test_an_unknown_convention() -> None:
    program = traced(conv(3, 4))
    with pytest.raises(SwdcError, match=r"expected a convention of \['paper', 'reference', 'macs'\], got 'flops'"):
        swdc.count(program, "flops")
