"""Dropout, parametric activations and softmax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from swdc.call import Call
from swdc.channels import UNKNOWN, Channels, Dead
from swdc.groups import STATISTIC
from swdc.ops.base import Leaf, Operator, register
from swdc.ops.leaves import adopt, bare, refs


@register
class Dropout(Leaf):
    """Dropout, of elements or of whole channels: zero stays zero in training as in evaluation."""

    names = ("aten.dropout.default", "aten.feature_dropout.default")
    modules = (nn.Dropout, nn.Dropout2d)
    repeats = True

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels pass through."""
        channels.set(call, channels.labels(call["input"]))

    def fold(self, call: Call, channels: Channels) -> None:
        """Only zero is a constant under dropout."""
        channels.set_dead(call, [zero_only(d) for d in channels.dead(call["input"])])

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a dropout module, unless the call drops in evaluation, too."""
        if call["train"]:
            return None
        return nn.Dropout(call["p"]) if call.operator == self.names[0] else nn.Dropout2d(call["p"])

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the evaluation-mode call that the module stands for."""
        assert isinstance(module, self.modules)
        return self.names[self.modules.index(type(module))], {"p": module.p, "train": False}


@register
class PReLU(Leaf):
    """A leaky ReLU with a learnt slope, one for all or one for each channel."""

    names = ("aten.prelu.default",)
    modules = (nn.PReLU,)
    data = "self"

    def couple(self, call: Call, channels: Channels) -> None:
        """Slopes go with the channels of the input."""
        x, weight = call["self"], call["weight"]
        labels = channels.labels(x)
        if channels.sizes(weight)[0] > 1:
            channels.bind(weight, 0, labels[1], STATISTIC, call)
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """prelu(0) = 0; other constants take a slope that training moves."""
        channels.set_dead(call, [zero_only(d) for d in channels.dead(call["self"])])

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.PReLU``."""
        module = bare(nn.PReLU, tensors[call["weight"]].shape[0])
        return adopt(module, call, tensors, "weight")

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the call that the module stands for."""
        return "aten.prelu.default", refs(module, path, "weight")


@register
class Softmax(Operator):
    """Softmax along one dimension, which keeps all its channels; the others pass."""

    names = ("aten.softmax.int", "aten.log_softmax.int", "aten._softmax.default", "aten._log_softmax.default")
    repeats = True

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze what the sum runs over."""
        labels = channels.labels(call["self"])
        text = "normalises over the channels, so that none can go"
        channels.freeze(labels[call["dim"]], call.reason(text, edit="weigh each channel on its own, with a sigmoid"))
        channels.set(call, labels)


def zero_only(dead: Dead) -> Dead:
    """Return dead values with all but zero unknown."""
    if isinstance(dead, float):
        return dead if dead == 0.0 else UNKNOWN
    unknown: Dead = dead.copy()
    unknown[dead != 0] = UNKNOWN  # type: ignore[index]
    return unknown
