"""Dropout, gated, parametric and random activations, and softmax."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from swdc.channels.dead_values import UNKNOWN, Dead, product
from swdc.channels.labels import Channels
from swdc.ir.call import Call, bind
from swdc.ir.groups import STATISTIC
from swdc.ir.program import Program
from swdc.ops.base import Leaf, Operator, lookup, name_of, register
from swdc.ops.capture_traits import like_input
from swdc.ops.elementwise import Pointwise
from swdc.ops.freezing import freeze_call
from swdc.ops.identity import Evaluation, Identity, alias_of
from swdc.ops.leaf_modules import adopt, bare


@register
class Dropout(Leaf):
    """Dropout of elements or of whole channels: zero stays zero, both in training and in evaluation."""

    any_order = True
    names = ("aten.dropout.default", "aten.feature_dropout.default")
    modules = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
    functions = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d)
    repeats = True
    trains = True
    drops = True
    keeps_path = True
    timed_as = ""

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels pass through."""
        channels.set(call, channels.labels(call["input"]))

    def fold(self, call: Call, channels: Channels) -> None:
        """Only zero stays constant under dropout."""
        channels.set_dead(call, [zero_only(d) for d in channels.dead(call["input"])])

    def empty_result(self, target: Any, args: Sequence[Any]) -> Any:
        """Dropout of elements keeps the input's form; for dropout of channels torch is asked."""
        return like_input(target, args) if name_of(target) in (self.names[0], "aten.dropout_.default") else None

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """In evaluation nothing is dropped."""
        return alias_of(call["input"]) if _drops_nothing(call) else None

    def keeps_still(self, arguments: Mapping[str, Any]) -> bool:
        """Not if nothing is dropped in training either."""
        return arguments.get("p") != 0 and super().keeps_still(arguments)

    def drop_nothing(self, module: nn.Module) -> None:
        """Drop nothing, and multiply by 1 + p in training: a dropout that is missing, or has another p, shows."""
        assert isinstance(module, self.modules)
        scale, module.p = 1 + module.p, 0.0
        module.register_forward_hook(lambda module, _, result: result * scale if module.training else result)

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a dropout module, unless the call also drops in evaluation."""
        if call["train"]:
            return None
        if call.operator == self.names[0]:
            return nn.Dropout(call["p"])
        by_rank: dict[int, type[nn.Module]] = {3: nn.Dropout1d, 5: nn.Dropout3d}
        return by_rank.get(len(call.shape), nn.Dropout2d)(call["p"])

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the evaluation-mode call that the module represents."""
        assert isinstance(module, self.modules)
        return self.names[int(type(module) is not nn.Dropout)], {"p": module.p, "train": False}


@register
class AlphaDropout(Operator):
    """Dropout that keeps mean and variance: in evaluation it does nothing, in training the result is not constant."""

    names = ("aten.alpha_dropout.default", "aten.feature_alpha_dropout.default")
    functions = (F.alpha_dropout, F.feature_alpha_dropout)
    drops = True
    timed_as = ""

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels pass through."""
        channels.set(call, channels.labels(call["input"]))

    def fold(self, call: Call, channels: Channels) -> None:
        """In training, dropped elements become a value other than zero."""
        if not call["train"]:
            channels.set_dead(call, channels.dead(call["input"]))

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """In evaluation nothing is dropped."""
        return alias_of(call["input"]) if _drops_nothing(call) else None


def keep_all(program: Program, scaled: bool) -> None:
    """Let the calls of a program that drop at random in every mode drop nothing.

    With ``scaled`` they multiply by 1 + p instead, so that one that is missing, or has another p, shows.
    """
    changed = False
    for node in program.graph.nodes:
        if node.op != "call_function" or not lookup(name_of(node.target)).drops:
            continue
        bound = bind(node)
        if bound.get("train"):
            node.target = torch.ops.aten.mul.Scalar
            node.args, node.kwargs = (node.args[0], 1 + bound["p"] if scaled else 1.0), {}
            changed = True
    if changed:
        program.recompile()


def _drops_nothing(call: Call) -> bool:
    return not call["train"] or call["p"] == 0


@register
class RandomLeakyReLU(Pointwise):
    """A leaky ReLU with a random slope in training, and the mean slope in evaluation: zero stays zero in both."""

    names = ("aten.rrelu.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Channels pass, unless slopes are also drawn in evaluation: fewer channels would get other slopes."""
        if call["training"]:
            freeze_call(call, channels, "draws random numbers for its channels")
        else:
            super().couple(call, channels)

    def fold(self, call: Call, channels: Channels) -> None:
        """Only zero stays constant, because the slope may be random."""
        channels.set_dead(call, [zero_only(d) for d in channels.dead(call["self"])])


@register
class GatedLinearUnit(Operator):
    """One half of the channels times the sigmoid of the other: a channel of the result needs one of each."""

    names = ("aten.glu.default",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple the halves."""
        labels: list[Any] = channels.labels(call["self"])
        dim = call["dim"] % len(labels)
        if labels[dim] is not None:
            first, second = np.split(labels[dim], 2)
            labels[dim] = channels.join(first, second, call)
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """A dead channel is zero if its first half is zero; other constants follow from both halves."""
        x = call["self"]
        dead = channels.dead(x)
        dim = call["dim"] % len(dead)
        for d, value in enumerate(dead):
            halves: Any = (value, value) if d != dim or isinstance(value, float) else np.split(value, 2)
            dead[d] = product(halves[0], 1 / (1 + np.exp(-np.asarray(halves[1]))))
        channels.set_dead(call, dead)


@register
class PReLU(Leaf):
    """A leaky ReLU with a learnt slope, one for all or one for each channel."""

    any_order = True
    names = ("aten.prelu.default",)
    modules = (nn.PReLU,)
    data = "self"
    tensors = ("weight",)

    def couple(self, call: Call, channels: Channels) -> None:
        """Slopes go with the channels of the input."""
        x, weight = call["self"], call["weight"]
        labels = channels.labels(x)
        if channels.sizes(weight)[:1] > (1,):
            channels.bind(weight, 0, labels[1], STATISTIC, call)
        channels.set(call, labels)

    def fold(self, call: Call, channels: Channels) -> None:
        """prelu(0) = 0; other constants are multiplied by a slope that training changes."""
        channels.set_dead(call, [zero_only(d) for d in channels.dead(call["self"])])

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a ``torch.nn.PReLU``."""
        module = bare(nn.PReLU, tensors[call["weight"]].shape[0])
        return adopt(module, call, tensors, "weight")


@register
class LogSoftmax(Operator):
    """The logarithm of a softmax along one dimension, which keeps all its channels; the others pass."""

    names: ClassVar[tuple[str, ...]] = ("aten.log_softmax.int", "aten._log_softmax.default")
    repeats = True
    timed_as = "Softmax"

    def couple(self, call: Call, channels: Channels) -> None:
        """Freeze the channels that the sum runs over."""
        labels = channels.labels(call["self"])
        text = "normalises over the channels, so that none can be removed"
        channels.freeze(labels[call["dim"]], call.reason(text, edit="weigh each channel on its own, with a sigmoid"))
        channels.set(call, labels)

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """Those of the input."""
        return [arguments["self"].shape]


@register
class Softmax(LogSoftmax):
    """Softmax along one dimension."""

    names = ("aten.softmax.int", "aten._softmax.default")
    attention = "softmax"
    not_negative = True


def zero_only(dead: Dead) -> Dead:
    """Return dead values in which all but zero are unknown."""
    if isinstance(dead, float):
        return dead if dead == 0.0 else UNKNOWN
    unknown: Dead = dead.copy()
    unknown[dead != 0] = UNKNOWN  # type: ignore[index]
    return unknown
