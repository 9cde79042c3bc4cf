"""Teach the compiler an operator of your own, in one class.

Without the class, channels that go through the operator are frozen, and the reason names it; with the class, they can
be cut.
"""

import torch
from torch import nn

import swdc


@torch.library.custom_op("examples::scaled_softsign", mutates_args=())
def scaled_softsign(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    """Return gain * x / (1 + |x|) for x of shape (N, C, ...) and one gain for each channel."""
    return gain.view(-1, *[1] * (x.dim() - 2)) * x / (1 + x.abs())


@scaled_softsign.register_fake
def _(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


class Activation(nn.Module):
    """The operator as a layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(channels) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the activation, of the shape of ``x``."""
        return scaled_softsign(x, self.gain)


class ScaledSoftsign(swdc.Operator):
    """Each channel has its own gain, and zero stays zero."""

    names = ("examples.scaled_softsign.default",)

    def couple(self, call: swdc.Call, channels: swdc.Channels) -> None:
        """The gain goes with the second dimension of the input."""
        labels = channels.labels(call["x"])
        channels.bind(call["gain"], 0, labels[1], "writes", call)
        channels.set(call, labels)

    def fold(self, call: swdc.Call, channels: swdc.Channels) -> None:
        """A mask sets the gain of a dead channel to zero."""
        channels.set_dead(call, [0.0] * len(call.shape))


def network() -> nn.Module:
    """Return a small network with the layer in it."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 16, 3), Activation(16), nn.Conv2d(16, 8, 3), nn.Flatten(), nn.Linear(8 * 16, 4))


inputs = torch.randn(2, 3, 8, 8)
print("without the class:")
print(swdc.trace(network(), inputs).explain())

swdc.register(ScaledSoftsign)
program = swdc.trace(network(), inputs)
print("\nwith it:")
print(program.explain())
plan = swdc.plan(program, sparsity=0.5, scope="group")
print(swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan)))
