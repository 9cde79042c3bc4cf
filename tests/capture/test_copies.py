"""Copies of tensors, small and large, of every kind; and a model that is left as it was."""

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.capture.copies import copy_of, end_of_copy, never_written
from swdc.errors import TraceError


@pytest.mark.parametrize("size", [0, 3, 1 << 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int8, torch.complex128, torch.bool])
def test_a_copy_keeps_the_values_when_the_original_is_written(size: int, dtype: torch.dtype) -> None:
    tensor = (torch.rand(size, 1100) * 100).to(dtype)
    before, copy = tensor.clone(), copy_of(tensor)
    tensor.logical_not_() if dtype == torch.bool else tensor.add_(1)
    assert copy.dtype == dtype
    assert torch.equal(copy, before)


@pytest.mark.parametrize("kind", ["numpy", "shared", "gaps", "expanded"])
def test_a_copy_of_memory_that_torch_does_not_own_or_that_has_gaps(kind: str) -> None:
    tensor = torch.randn(1200, 1200)
    if kind == "numpy":
        tensor = torch.from_numpy(np.ones((1200, 1200)))
    elif kind == "shared":
        tensor.share_memory_()  # type: ignore[no-untyped-call]
    elif kind == "gaps":
        tensor = tensor[:, ::2].T
    else:
        tensor = tensor[:1].expand(900, 1200)
    before, copy = tensor.clone(), copy_of(tensor)
    if kind == "expanded":
        tensor = tensor[0]
    tensor.mul_(3)
    assert torch.equal(copy, before)
    assert not torch.equal(tensor, before)


def test_the_original_owns_its_memory_again() -> None:
    tensor = torch.randn(1200, 1200)
    place = tensor.data_ptr()
    copy = copy_of(tensor)
    assert never_written(tensor)
    del copy
    end_of_copy(tensor)
    assert tensor.data_ptr() == place
    assert not never_written(tensor)


class Writes(nn.Module):
    """Writes to a large parameter in a way that torch counts, that it does not count, or not at all."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.fc, self.how = nn.Linear(600, 600, dtype=torch.float64), how

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.how == "data":
            self.fc.weight.data.mul_(0.5)
        if self.how == "numpy":
            self.fc.weight.detach().numpy()[...] *= 0.5
        if self.how == "counted":
            with torch.no_grad():
                self.fc.weight.clamp_(-0.01, 0.01)
        if self.how == "resized":
            self.fc.weight.untyped_storage().resize_(2 * self.fc.weight.nbytes)
        if self.how == "flags":
            self.fc.weight.requires_grad_(False)
            self.fc.weight.grad = torch.ones_like(self.fc.weight)
        y: torch.Tensor = self.fc(x)
        return y


@pytest.mark.filterwarnings("ignore:the model (computes|overwrites) fc")
@pytest.mark.parametrize("how", ["not", "data", "numpy", "counted", "resized", "flags"])
def test_large_parameters_are_as_before_after_capture(how: str) -> None:
    model = Writes(how)
    weight = model.fc.weight
    before, place = weight.detach().clone(), weight.data_ptr()
    try:
        swdc.trace(model, torch.randn(2, 600, dtype=torch.float64))
    except TraceError:
        assert how != "not"
    assert model.fc.weight is weight
    assert torch.equal(weight, before)
    assert not never_written(weight)
    assert weight.requires_grad
    assert weight.grad is None
    if how in ("not", "flags"):
        assert weight.data_ptr() == place


@pytest.mark.filterwarnings("ignore:.*share memory")
@pytest.mark.parametrize("start", [0, 600], ids=["all", "a part"])
def test_large_parameters_that_share_memory_stay_where_they_are(start: int) -> None:
    memory = torch.randn(1200, 600)
    model = nn.Sequential(nn.Linear(600, 600), nn.ReLU(), nn.Linear(600, 600))
    model[0].weight, model[2].weight = nn.Parameter(memory[:600]), nn.Parameter(memory[start : start + 600])
    seen = memory.numpy()
    places = [parameter.data_ptr() for parameter in model.parameters()]
    swdc.trace(model, torch.randn(2, 600))
    assert [parameter.data_ptr() for parameter in model.parameters()] == places
    assert not any(map(never_written, model.parameters()))
    memory.zero_()
    assert not seen.any()
    assert not model[2].weight.any()
