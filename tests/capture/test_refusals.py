"""Models that cannot be captured: one clear line each, and no raw error."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.capture.refusals import told
from swdc.errors import ExportError, PlanError, TraceError
from tests.support import Function, image, traced


@pytest.mark.parametrize(
    ("result", "name"),
    [
        (lambda y: type("Object", (), {"y": y})(), "an Object"),
        (lambda y: (y, print), "a builtin_function_or_method"),
        (lambda y: (y, np.float64(3)), "a float64"),
        (lambda y: {y}, "a set"),
    ],
)
def test_results_that_a_graph_cannot_return_are_refused(result: Any, name: str) -> None:
    with pytest.raises(TraceError, match=f"in the result of Function, .* got {name}; return its tensors"):
        traced(Function(lambda m, x: result(m.layer(x)), layer=nn.Linear(4, 3)), image(2, 4))


def test_lazy_modules_are_refused_until_they_have_run() -> None:
    model = nn.Sequential(nn.LazyLinear(5), nn.ReLU(), nn.LazyLinear(3)).eval()
    with pytest.raises(
        TraceError, match=r"got 4 of lazy modules .*\(0.weight, 0.bias, 2.weight\); call the model once"
    ):
        swdc.trace(model, torch.randn(2, 4))
    model(torch.randn(2, 4))
    assert len(swdc.trace(model, torch.randn(2, 4)).groups) == 1


def test_parameters_that_the_first_run_makes_are_missed_before_it() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        if not hasattr(m, "head"):
            m.head = nn.Linear(x.shape[1], 3)
        return m.head(x)

    model = Function(forward).eval()
    with pytest.raises(TraceError, match=r"one that makes 2 when it runs first \(head.weight, head.bias\); call"):
        swdc.trace(model, torch.randn(2, 4))
    assert not list(model.parameters())
    model(torch.randn(2, 4))
    assert set(swdc.trace(model, torch.randn(2, 4)).tensors) == {"head.weight", "head.bias"}


def test_any_error_becomes_a_trace_error_with_its_cause() -> None:
    full = "got Linear, which fails with KeyError: 'mine'; the full report"
    with pytest.raises(TraceError, match=full) as caught, told(nn.Linear(2, 2)):
        raise KeyError("mine")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(PlanError, match="as it was"), told(nn.Linear(2, 2)):
        raise PlanError("as it was")


def test_modules_that_are_not_set_up_are_refused() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            pass

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    for model, where in ((Bare(), ""), (nn.Sequential(nn.Sequential(nn.Linear(4, 4), Bare())), " at 0.1")):
        with pytest.raises(TraceError, match=rf"__init__ has set up, got Bare{where}; call super\(\).__init__\(\)"):
            swdc.trace(model, torch.randn(2, 4))


def test_what_torchscript_has_compiled_is_named() -> None:
    layers = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript is old
        compiled = torch.jit.script(layers)
    with pytest.raises(TraceError, match=r"TorchScript has compiled itself.*trace the model that was given to"):
        swdc.trace(compiled, torch.randn(2, 8))
    with pytest.raises(TraceError, match=r"got Sequential, which TorchScript has compiled at 1\b"):
        swdc.trace(nn.Sequential(nn.Linear(8, 8), compiled), torch.randn(2, 8))


def test_sparse_buffers_are_refused() -> None:
    model = Function(
        lambda m, x: m.layer(torch.sparse.mm(m.edges, x)), layer=nn.Linear(4, 3), edges=torch.eye(5).to_sparse()
    )
    with pytest.raises(
        TraceError, match=r"expected dense parameters and buffers, got edges, which is torch.sparse_coo"
    ):
        swdc.trace(model, torch.randn(5, 4))


def test_writes_that_torch_does_not_see_are_named() -> None:
    def code(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        m.layer.weight.data = torch.renorm(m.layer.weight.data, p=2, dim=0, maxnorm=0.3)
        result: torch.Tensor = m.layer(x)
        return result

    with pytest.raises(TraceError, match=r"in a way that torch does not see, such as tensor\.data"):
        swdc.trace(Function(code, layer=nn.Linear(4, 3)), torch.randn(5, 4))


@pytest.mark.filterwarnings("ignore:recorded on the example inputs")
def test_a_buffer_written_through_its_data_is_written_by_the_program() -> None:
    def code(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        m.calls.data.add_(1)
        return m.layer(x) * m.calls

    model = Function(code, layer=nn.Linear(4, 3), calls=torch.zeros(())).eval()
    x, other = torch.randn(5, 4), copy.deepcopy(model)
    program = swdc.trace(model, x)
    for _ in range(3):
        assert torch.equal(program(x), other(x))


@pytest.mark.parametrize("kind", ["modules", "parameters and buffers", "arguments"])
def test_names_that_no_file_can_hold_are_refused(kind: str) -> None:
    name = "a\udc80"
    model = Function(lambda m, x, **more: m.layer(x), layer=nn.Linear(4, 3)).double()
    if kind == "modules":
        model.add_module(name, nn.Linear(4, 3))
    if kind == "parameters and buffers":
        model.register_parameter(name, nn.Parameter(torch.ones(3)))
    example = {"x": image(2, 4), name: image(2, 4)} if kind == "arguments" else image(2, 4)
    with pytest.raises(TraceError, match=rf"names of {kind} that UTF-8 can spell, got 'a\\udc80'; give"):
        swdc.trace(model, example)


def test_keys_that_no_file_can_hold_stay_in_what_does_not_spell_them(tmp_path: Path) -> None:
    model = Function(lambda m, x: {"a\udc80": m.layer(x)}, layer=nn.Linear(4, 3))
    program = traced(model, image(2, 4))
    assert list(swdc.load(swdc.save(program, tmp_path / "saved"))(image(2, 4))) == ["a\udc80"]


def test_a_text_that_no_file_can_hold_is_not_exported(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x: torch.Tensor, mode: str) -> Any:
            return self.layer(x) * len(mode)

    program = swdc.trace(Net(), (image(2, 4).float(), "a\udc80"))
    with pytest.raises(ExportError, match="UnicodeEncodeError"):
        swdc.export(program, tmp_path / "net.pt2")
    assert not list(tmp_path.iterdir())
