"""Models that are traced for a checkpoint, with the buffers that they compute."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import swdc
from swdc.errors import TraceError
from tests.support import image


class Frequencies(nn.Module):
    """Multiplies by a buffer that no checkpoint holds."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 4)
        self.register_buffer("frequencies", torch.arange(8.0), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(torch.relu(self.up(x * self.frequencies)))


@pytest.mark.parametrize("from_files", [True, False])
def test_buffers_that_are_computed_keep_their_values(from_files: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Frequencies().double().eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    weights = swdc.Checkpoint(tmp_path / "model.safetensors") if from_files else model.state_dict()
    x = image(2, 8)
    skeleton = swdc.trace_skeleton(Frequencies, x, weights)
    assert all(tensor.is_meta for tensor in skeleton.parameters())
    assert skeleton.get_parameter("up.weight").dtype == torch.float64
    plan = swdc.plan(skeleton, 0.5, weights=weights)
    swdc.slim_checkpoint(skeleton, plan, weights, tmp_path / "slim")
    program = swdc.trace(model, x)
    assert plan.kept == swdc.plan(program, 0.5).kept
    wanted = swdc.slim(program, plan)
    assert torch.equal(swdc.load(tmp_path / "slim")(x), wanted(x))


def test_what_makes_no_model() -> None:
    x = image(2, 8)
    with pytest.raises(TraceError, match=r"expected a function that makes a torch.nn.Module, got int from it"):
        swdc.trace_skeleton(lambda: 3, x, {})
    with pytest.raises(TraceError, match=r"expected a function that makes a model .* ZeroDivisionError"):
        swdc.trace_skeleton(lambda: 1 / 0, x, {})
