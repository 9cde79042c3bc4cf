"""What runs under no_grad or autocast becomes part of the graph; other control flow is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import swdc
from swdc.errors import TraceError
from tests.support import Function, assert_equal, assert_slims, conv, image, operators, randomise

BATCH = image(3, 3, 8, 8, seed=9)


def nested(m: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        y = m.a(x)
        with torch.autocast("cpu", enabled=False):
            z = torch.relu(m.b(y))
            with torch.enable_grad():
                z = m.c(z) + y.mean()
    with torch.inference_mode():
        w = torch.tanh(m.d(z))
    return m.e(w + z)


@pytest.mark.filterwarnings("ignore:.*without gradients", "ignore:.*autocast")
def test_nested_wrappers_are_spliced_in() -> None:
    model = Function(nested, a=conv(3, 4), b=conv(4, 6), c=conv(6, 4), d=conv(4, 4), e=conv(4, 2))
    program = assert_slims(model)
    assert operators(program).count("Conv2d") == 5
    assert all("wrap" not in name and "getitem" not in name for name in operators(program))
    for batch in (1, 2, 5):
        assert_equal(model(image(batch, 3, 8, 8)), program(image(batch, 3, 8, 8)))


def test_what_runs_without_gradients_is_named() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            y = m.still(x) * m.scale
        return m.head(y)

    model = randomise(Function(forward, still=conv(3, 4), scale=nn.Parameter(torch.rand(())), head=conv(4, 2))).eval()
    with pytest.warns(UserWarning, match="computes still, the model without gradients.*set requires_grad to False"):
        swdc.trace(model, image())
    model.still.requires_grad_(False)
    model.scale.requires_grad_(False)
    assert not swdc.trace(model, image()).facts.notes


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.filterwarnings("ignore:None of the inputs")
@pytest.mark.filterwarnings("ignore:.*without gradients")
def test_checkpointed_modules_are_part_of_the_graph(reentrant: bool) -> None:
    def forward(m: Any, x: torch.Tensor) -> Any:
        return m.b(checkpoint(m.a, x, use_reentrant=reentrant))

    model = Function(forward, a=nn.Sequential(conv(3, 6), nn.ReLU()), b=conv(6, 2))
    program = assert_slims(model)
    assert_equal(model(BATCH), program(BATCH))


@pytest.mark.filterwarnings("ignore:.*autocast")
def test_autocast_that_changes_nothing_is_part_of_the_graph() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu"):  # leaves float64 alone
            return m.b(torch.relu(m.a(x)))

    model = Function(forward, a=conv(3, 6), b=conv(6, 2))
    assert_equal(assert_slims(model)(BATCH), model(BATCH))


def test_autocast_that_changes_a_dtype_is_named() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return m.a(x)

    with pytest.raises(TraceError, match=r"autocast changes that of aten.conv2d.default.*enabled=False"):
        swdc.trace(Function(forward, a=conv(3, 4)).eval(), image().float())


def test_a_loop_that_depends_on_values_is_named() -> None:
    def forward(m: Any, x: torch.Tensor) -> Any:
        (y,) = torch._higher_order_ops.while_loop(lambda y: y.sum() < 6, lambda y: (m.a(y).abs() + 1,), (x,))
        return y

    with pytest.raises(TraceError, match=r"control-flow operator while_loop.*fixed number of steps"):
        swdc.trace(Function(forward, a=nn.Linear(3, 3)).eval(), image(2, 3).float())
