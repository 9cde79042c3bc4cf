"""Models made from another configuration hold the given tensors as they are."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from swdc.artifacts.pretrained.making import made_with


class Net(nn.Module):
    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, config.width), nn.BatchNorm1d(config.width), nn.Linear(config.width, 3)
        )

    def tie_weights(self) -> None:
        self.layers[2].weight = nn.Parameter(self.layers[0].weight.T)


def test_parameters_and_buffers_keep_their_types_and_values() -> None:
    model = Net(SimpleNamespace(width=8)).double()
    small = Net(SimpleNamespace(width=4)).double()
    values = small.state_dict()
    for tensor in values.values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, dtype=torch.float64) / 3)  # not a float32 number
    made = made_with(model.eval(), SimpleNamespace(width=4), values)
    assert type(made) is Net
    assert not made.training
    for name in ("layers.0.weight", "layers.1.running_mean", "layers.1.running_var", "layers.2.bias"):
        assert made.state_dict()[name].dtype == torch.float64
        assert torch.equal(made.state_dict()[name], values[name])
    assert torch.equal(made.layers[2].weight, made.layers[0].weight.T)
    made.layers[1].running_mean.zero_()
    assert values["layers.1.running_mean"].any()
