"""Counts of parameters and operations, by hand, in the three conventions."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.costs.count import CONVENTIONS, totals
from swdc.errors import SwdcError
from swdc.ir.program import Program
from tests.support import Function, conv, image, random_plan, traced

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what torch_geometric uses of torch is deprecated
    from torch_geometric.datasets import KarateClub
    from torch_geometric.nn.models import GCN


def operations(program: Program, batch: int | None = None) -> list[int]:
    return [swdc.count(program, convention, batch).operations for convention in CONVENTIONS]


def test_the_conventions() -> None:
    assert CONVENTIONS == ("paper", "reference", "macs")


def test_a_strided_convolution() -> None:
    program = traced(nn.Sequential(conv(3, 8, stride=2)))
    each = 3 * 8 * 3 * 3
    assert operations(program) == [each * 8 * 8, each * 4 * 4, each * 4 * 4]
    assert swdc.count(program).parameters == each + 8


def test_a_grouped_convolution() -> None:
    program = traced(nn.Sequential(conv(6, 8, groups=2, bias=False)), image(1, 6, 8, 8))
    assert operations(program) == [3 * 8 * 9 * 64] * 3
    assert swdc.count(program).parameters == 3 * 8 * 9


def test_a_depthwise_convolution() -> None:
    program = traced(nn.Sequential(conv(3, 6, 5, groups=3, stride=4, bias=False)))
    assert operations(program) == [6 * 25 * 64, 6 * 25 * 4, 6 * 25 * 4]


def test_convolutions_in_one_and_three_dimensions() -> None:
    program = traced(nn.Sequential(nn.Conv1d(3, 4, 3, stride=3)), image(1, 3, 9))
    assert operations(program) == [3 * 4 * 3 * 9, 3 * 4 * 3 * 3, 3 * 4 * 3 * 3]
    program = traced(nn.Sequential(nn.Conv3d(2, 4, 2)), image(1, 2, 3, 4, 5))
    assert operations(program) == [2 * 4 * 8 * 60, 2 * 4 * 8 * 2 * 3 * 4, 2 * 4 * 8 * 2 * 3 * 4]


def test_a_batch_norm() -> None:
    program = traced(nn.Sequential(nn.BatchNorm2d(3)))
    assert operations(program) == [2 * 3 * 64, 2 * 3 * 64, 0]
    assert swdc.count(program).parameters == 6


def test_a_dense_layer() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 7)), image(1, 5))
    assert operations(program) == [5 * 7 + 7, 5 * 7 + 7, 5 * 7]
    assert swdc.count(program).parameters == 5 * 7 + 7


def test_a_dense_layer_at_many_positions() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 7)), image(2, 9, 5))
    assert operations(program) == [9 * (5 * 7 + 7), 9 * (5 * 7 + 7), 9 * 5 * 7]


def test_of_a_batch_all_samples_count() -> None:
    layers = nn.Sequential(
        conv(3, 8, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 4),
    )
    program = traced(layers)
    assert operations(program, batch=5) == [5 * each for each in operations(program)]
    assert swdc.count(program, batch=5).parameters == swdc.count(program).parameters


def test_frames_folded_into_the_batch_count() -> None:
    class Frames(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(conv(3, 4), nn.BatchNorm2d(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.layers(x.flatten(0, 1))
            return result

    program = traced(Frames(), image(2, 7, 3, 8, 8))
    assert operations(program) == [7 * (27 * 4 + 2 * 4) * 64, 7 * (27 * 4 + 2 * 4) * 64, 7 * 27 * 4 * 64]


def test_a_graph_network_counts_dense_layers_at_each_node() -> None:
    data = KarateClub()[0]
    program = swdc.trace(GCN(34, 8, 2, 4).eval(), (data.x, data.edge_index))
    nodes = 34
    paper = nodes * (34 * 8 + 8) + nodes * (8 * 4 + 4)
    assert operations(program) == [paper, paper, nodes * (34 * 8 + 8 * 4)]
    assert operations(program, batch=3) == operations(program)
    assert swdc.count(program).parameters == 34 * 8 + 8 + 8 * 4 + 4


def test_tied_weights_count_once() -> None:
    first, second = nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    counted = swdc.count(traced(nn.Sequential(first, nn.ReLU(), second), image(2, 6)))
    assert counted.parameters == 36 + 6 + 6
    assert counted.operations == 2 * (36 + 6)
    assert [layer.parameters for layer in counted.layers] == [42, 6]


def test_a_layer_that_is_called_twice_has_its_parameters_once() -> None:
    layer = nn.Linear(6, 6)
    counted = swdc.count(traced(nn.Sequential(layer, nn.ReLU(), layer), image(2, 6)))
    assert (counted.parameters, counted.operations) == (42, 84)


def test_unused_parameters_do_not_count() -> None:
    model = nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 2))
    model[1].register_module("unused", nn.Linear(50, 50))
    counted = swdc.count(traced(model))
    assert counted.parameters == 27 * 4 + 4 + 36 * 2 + 2


def test_parameters_without_operations_and_those_handed_out() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.extra = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(3))
            self.register_buffer("shift", torch.ones(5))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x * self.scale + self.get_buffer("shift"), self.extra

    counted = swdc.count(traced(Scaled(), image(2, 5)))
    assert (counted.parameters, counted.operations, counted.macs) == (8, 0, 0)
    handed_out = [layer for layer in counted.layers if layer.operator == "output"]
    assert [(layer.name, layer.parameters) for layer in handed_out] == [("extra", 3)]


def test_layers_add_up_and_have_the_names_of_the_model() -> None:
    program = traced(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3)))
    for convention in CONVENTIONS:
        counted = swdc.count(program, convention)
        assert counted.convention == convention
        assert [layer.name for layer in counted.layers] == ["0", "1", "4"]
        assert sum(layer.operations for layer in counted.layers) == counted.operations
        assert sum(layer.parameters for layer in counted.layers) == counted.parameters
        assert counted.macs == swdc.count(program, "macs").operations


def test_an_unknown_convention_is_refused() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 7)), image(1, 5))
    with pytest.raises(
        SwdcError,
        match=r"expected a convention of \['paper', 'reference', 'macs'\], got 'flops'",
    ):
        swdc.count(program, "flops")


def test_a_slim_program_knows_what_it_was() -> None:
    program = traced(nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.ReLU(), conv(8, 2)))
    assert swdc.count(program).before is None
    plan = random_plan(program)
    whole = {
        "parameters": 27 * 8 + 8 + 16 + 146,
        "operations": 64 * (27 * 8 + 16 + 144),
        "macs": 64 * (27 * 8 + 144),
    }
    assert totals(program) == whole
    masked = swdc.mask(program, plan)
    kept = len(plan.kept["0"])
    for slim in (swdc.slim(program, plan), swdc.slim(masked, plan)):
        counted = swdc.count(slim)
        assert counted.before == whole
        assert counted.operations == 64 * kept * (27 + 2 + 18)
        assert counted.parameters == kept * (27 + 1 + 2 + 18) + 2
    assert swdc.count(masked).before == whole
    assert swdc.count(masked).operations == whole["operations"]


def test_to_dict_is_json() -> None:
    program = traced(nn.Sequential(conv(3, 4), nn.ReLU(), conv(4, 2)))
    for counted in (swdc.count(program, "macs"), swdc.count(swdc.slim(program, random_plan(program)))):
        data = json.loads(json.dumps(counted.to_dict()))
        assert data == counted.to_dict()
        assert data["parameters"] == counted.parameters
        assert [layer["name"] for layer in data["layers"]] == ["0", "2"]


def test_sizes_by_name() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 7)), image(2, 9, 5), dynamic=["batch"])
    assert swdc.count(program, "macs").sizes == {"batch": 1}
    for counted in (swdc.count(program, "macs", sizes={"batch": 6}), swdc.count(program, "macs", batch=6)):
        assert counted.sizes == counted.to_dict()["sizes"] == {"batch": 6}
        assert counted.macs == counted.operations == 6 * 9 * 5 * 7


def test_without_a_shared_leading_size_the_batch_is_that_of_the_first_input() -> None:
    model = Function(
        lambda m, images, texts, scale: (scale * m.a(images)) @ m.b(texts).t(), a=nn.Linear(8, 4), b=nn.Linear(6, 4)
    )
    program = traced(model, (image(2, 8), image(7, 6), image(2, 1)))
    for batch, images in ((None, 2), (1, 1), (5, 5)):
        assert swdc.count(program, batch=batch).macs == images * 8 * 4 + 7 * 6 * 4 + images * 4 * 7
    texts = next(name for name, size in program.facts.symbols.items() if size == 7)
    assert swdc.count(program, batch=1, sizes={texts: 3}).macs == 8 * 4 + 3 * 6 * 4 + 4 * 3


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sizes": {"lenght": 3}}, r"expected sizes by the names .* batch \(such as 1\), got \['lenght'\]"),
        ({"batch": 0}, "expected a batch of at least 1, got 0"),
        ({"sizes": {"batch": -1}}, "expected a batch of at least 1, got -1"),
        ({"batch": 2, "sizes": {"batch": 3}}, "expected one batch, got batch=2 and sizes="),
    ],
)
def test_wrong_sizes_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SwdcError, match=message):
        swdc.count(traced(nn.Linear(5, 7), image(2, 5)), **given)


def test_a_recorded_program_counts_its_example() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.a(x) if float(x.sum()) > 0 else m.b(x)

    with pytest.warns(UserWarning, match="recorded on the example inputs"):
        program = swdc.trace(Function(forward, a=nn.Linear(5, 7), b=nn.Linear(5, 7)).eval(), torch.ones(3, 5))
    assert swdc.count(program, "macs").macs == swdc.count(program, "macs", batch=1).macs == 3 * 5 * 7
    with pytest.raises(SwdcError, match="of which this program has none"):
        swdc.count(program, sizes={"length": 2})


def test_where_one_sample_has_no_sizes_the_first_batch_counts() -> None:
    def code(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] < 2:
            raise ValueError("give two samples")
        return m.b(m.a(x)[:: x.shape[0] // 2].relu())

    program = traced(Function(code, a=nn.Linear(4, 8), b=nn.Linear(8, 3)), torch.randn(5, 4, dtype=torch.float64))
    assert swdc.count(program).macs == 2 * (4 * 8 + 8 * 3)
    assert swdc.plan(program, sparsity=0.5, budget="operations").kept
    with pytest.raises(SwdcError, match="expected sizes for which the program stands, batch >= 2"):
        swdc.count(program, batch=1)
