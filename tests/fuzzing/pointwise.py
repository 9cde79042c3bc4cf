"""Blocks that work element by element, on values of any layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzzing.blocks import ANY, BESIDE, SAME, Draw, Slot, block, normal, positive
from tests.support import Function

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardtanh": F.hardtanh,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "softplus": F.softplus,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "softsign": F.softsign,
    "mish": F.mish,
    "rrelu": F.rrelu,
    "logsigmoid": F.logsigmoid,
    "tanhshrink": F.tanhshrink,
    "softshrink": lambda x: F.softshrink(x, 0.1),
    "hardshrink": lambda x: F.hardshrink(x, 0.2),
    "threshold": lambda x: F.threshold(x, 0.1, 0.3),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "squared_relu": lambda x: torch.relu(x).square(),
    "swish_by_hand": lambda x: x / (1 + torch.exp(-x)),
    "hardswish_by_hand": lambda x: x * F.relu6(x + 3) / 6,
}

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": lambda x: torch.exp(-x.abs()),
    "abs": torch.abs,
    "square": torch.square,
    "sin": torch.sin,
    "cos": torch.cos,
    "neg": lambda x: -x,
    "rsub": lambda x: 1 - x,
    "reciprocal": lambda x: 1 / (1 + x * x),
    "reciprocal_of": lambda x: torch.reciprocal(x.abs() + 1),
    "rsqrt": lambda x: torch.rsqrt(x * x + 1),
    "sqrt": lambda x: torch.sqrt(x.abs() + 0.1),
    "log1p": lambda x: torch.log1p(x.abs()),
    "erf": torch.erf,
    "log": lambda x: (x.abs() + 0.5).log(),
    "pow": lambda x: x.clamp(-2, 2).pow(2),
    "cube": lambda x: x.tanh() ** 3,
    "root": lambda x: (x.abs() + 0.1) ** 0.5,
    "clamp": lambda x: x.clamp(-0.5, 1.5),
    "atan": torch.atan,
    "clamp_away": lambda x: x.clamp(0.1, 2.0),
    "clamp_min": lambda x: x.clamp_min(-0.3),
    "floor_div": lambda x: x / 3,
    "expm1": lambda x: torch.expm1(x.clamp(max=1)),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "fill": lambda x: x.masked_fill(x < -0.5, -0.5),
    "fill_zero": lambda x: x.masked_fill(x < 0, 0.0),
    "by_mask": lambda x: x * (x > 0),
    "by_mask_cast": lambda x: x * (x > 0).to(x.dtype),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "scaled": lambda x: x * 0.7 + 0.3,
    "ones_like": lambda x: x + torch.ones_like(x),
    "cast": lambda x: x.to(torch.float32).to(torch.float64),
    "type_as": lambda x: (x * 2).type_as(x),
    "detached": lambda x: x + x.detach() * 0.5,
    "clone": lambda x: x.clone() + x,
    "lerp": lambda x: torch.lerp(x, x.tanh(), 0.3),
    "addcmul": lambda x: torch.addcmul(x, x.sigmoid(), x, value=0.5),
    "sign": lambda x: x.sign() * x.abs().sqrt(),
    "nan_to_num": lambda x: torch.nan_to_num(x) * 2,
    "logit": lambda x: torch.logit(x.sigmoid() * 0.5 + 0.2),
    "hypot": lambda x: torch.sqrt(x**2 + x.sin() ** 2 + 0.1),
    "xlogy": lambda x: torch.log(1 + torch.exp(x.clamp(max=2))),
    "rounded": lambda x: x + (x.detach() * 0).round(),
}

IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "relu_": F.relu_,
    "clamp_": lambda x: x.clamp_(-1, 1),
    "mul_": lambda x: x.mul_(0.6),
    "add_": lambda x: x.add_(0.4),
    "sigmoid_": torch.Tensor.sigmoid_,
    "silu_": lambda x: F.silu(x, inplace=True),
    "div_": lambda x: x.div_(2),
    "hardswish_": lambda x: F.hardswish(x, inplace=True),
    "leaky_relu_": lambda x: F.leaky_relu_(x, 0.1),
    "masked_fill_": lambda x: x.masked_fill_(x < 0, 0.0),
    "elu_": F.elu_,
    "tanh_": torch.Tensor.tanh_,
}


@block("activation", ANY)
def activation(draw: Draw, x: Slot) -> nn.Module:
    """An activation function."""
    function = ACTIVATIONS[draw.choice(list(ACTIVATIONS))]
    return Function(lambda p, x: function(x))


@block("activation", ANY)
def slopes(draw: Draw, x: Slot) -> nn.Module | None:
    """A leaky ReLU with a learnt slope."""
    if x.layout == "token":
        return nn.PReLU()
    return nn.PReLU(draw.one_of(1, x.channels))


@block("pointwise", ANY)
def pointwise(draw: Draw, x: Slot) -> nn.Module:
    """A function of each element."""
    function = FUNCTIONS[draw.choice(list(FUNCTIONS))]
    return Function(lambda p, x: function(x))


@block("in place", ANY)
def in_place(draw: Draw, x: Slot) -> nn.Module:
    """Operators that overwrite a value that was just made."""
    one, two = (IN_PLACE[draw.choice(list(IN_PLACE))] for _ in range(2))
    return Function(lambda p, x: two(one(x * 0.9)))


@block("in place", ANY)
def overwritten(draw: Draw, x: Slot) -> nn.Module:
    """Overwrite a value in place whose earlier form is read again, through a view or a copy."""
    one = IN_PLACE[draw.choice(list(IN_PLACE))]

    def forward(p: Any, x: Tensor) -> Any:
        y = x * 1.1
        before = y.clone() if draw_copy else y.sigmoid()
        one(y)
        return y + before

    draw_copy = draw.flip()
    return Function(forward)


@block("in place", ANY, more=1, relation=SAME)
def added_in_place(draw: Draw, x: Slot, y: Slot) -> nn.Module:
    """A sum that overwrites its first operand."""
    if draw.flip():
        return Function(lambda p, x, y: (x * 1.0).add_(y))

    def forward(p: Any, x: Tensor, y: Tensor) -> Any:
        z = torch.zeros_like(x)
        z += x
        z *= y.sigmoid()
        return z

    return Function(forward)


@block("in place", ANY)
def part_in_place(draw: Draw, x: Slot) -> nn.Module | None:
    """Overwrite some of the channels through a view."""
    if x.channels < 2:
        return None
    at, dim, by = draw.randint(1, x.channels - 1), x.dim, draw.one_of(0.5, 0.0, 1.5)

    def forward(p: Any, x: Tensor) -> Any:
        y = x.clone()
        y.narrow(dim, 0, at).mul_(by)
        return y

    return Function(forward)


@block("dropout", ANY)
def dropout(draw: Draw, x: Slot) -> nn.Module:
    """Dropout of elements or of channels, as a module or as a function."""
    if x.layout == "map" and draw.flip():
        return {1: nn.Dropout1d, 2: nn.Dropout2d, 3: nn.Dropout3d}[len(x.positions)](0.3)
    if draw.flip():
        return nn.Dropout(0.3, inplace=False)
    return Function(lambda p, x: F.dropout(x, 0.2, training=p.training))


@block("affine", ANY)
def gain(draw: Draw, x: Slot) -> nn.Module:
    """A gain for each channel, given or computed."""
    shape = x.aside
    g, s = positive(x.channels), normal(x.channels)
    forms: tuple[Callable[..., Any], ...] = (
        lambda p, x: x * p.g.view(shape),
        lambda p, x: x * p.g.view(shape) + p.s.view(shape),
        lambda p, x: x * F.softplus(p.s.view(shape)),
        lambda p, x: x / (p.g.view(shape) + 1),
        lambda p, x: x * p.s.exp().view(shape),
        lambda p, x: torch.tanh(p.a * x) * p.g.view(shape),
        lambda p, x: x - p.s.view(shape),
        lambda p, x: torch.addcmul(p.s.view(shape), x, p.g.view(shape)),
        lambda p, x: (1 + p.s.view(shape)) * x,
        lambda p, x: p.a * x + (1 - p.a) * x.sigmoid(),
    )
    return Function(draw.choice(forms), g=g, s=s, a=normal(1))


@block("affine", ANY)
def gain_of_shape(draw: Draw, x: Slot) -> nn.Module:
    """A parameter that is stored in the shape in which it is used."""
    shape = [1] * len(x.shape)
    shape[x.dim] = x.channels
    for d in x.spatial:
        shape[d] = draw.one_of(1, x.shape[d])
    if draw.flip():
        return Function(lambda p, x: x + p.w, w=normal(*shape))
    return Function(lambda p, x: x * p.w, w=normal(*shape[1:]))


@block("sum", ANY, more=1, relation=SAME)
def residual(draw: Draw, x: Slot, y: Slot) -> nn.Module:
    """A sum or another function of two values of one shape."""
    forms: tuple[Callable[..., Any], ...] = (
        lambda p, x, y: x + y,
        lambda p, x, y: x + y,
        lambda p, x, y: x - y,
        lambda p, x, y: x + p.a * y,
        lambda p, x, y: torch.maximum(x, y),
        lambda p, x, y: torch.minimum(x, y),
        lambda p, x, y: x * y,
        lambda p, x, y: x * y.sigmoid(),
        lambda p, x, y: torch.lerp(x, y, 0.3),
        lambda p, x, y: x / (y.abs() + 1),
        lambda p, x, y: torch.where(x > y, x, y * 0.5),
        lambda p, x, y: torch.add(x, y, alpha=2),
        lambda p, x, y: (1 - x.sigmoid()) * y + x.sigmoid() * x,
        lambda p, x, y: torch.stack([x, y]).sum(0),
        lambda p, x, y: torch.stack([x, y], -1).mean(-1),
        lambda p, x, y: sum([x, y]),
        lambda p, x, y: torch.stack([x, y], 1).amax(1),
        lambda p, x, y: torch.atan2(x, y.abs() + 1),
    )
    return Function(draw.choice(forms), a=normal(1))


@block("sum", ANY, more=2, relation=SAME)
def sum_of_three(draw: Draw, x: Slot, y: Slot, z: Slot) -> nn.Module:
    """Three values of one shape, weighted and added."""
    forms: tuple[Callable[..., Any], ...] = (
        lambda p, x, y, z: x + y + z,
        lambda p, x, y, z: torch.addcmul(x, y, z.tanh()),
        lambda p, x, y, z: sum(w * v for w, v in zip(p.w.softmax(0).unbind(0), (x, y, z), strict=True)),
        lambda p, x, y, z: (torch.stack([x, y, z]) * p.w.view(3, *[1] * x.dim())).sum(0),
        lambda p, x, y, z: torch.stack([x, y, z], 0)[1:].mean(0) + x,
    )
    return Function(draw.choice(forms), w=normal(3))


@block("sum", ANY, more=1, relation=SAME)
def broadcast(draw: Draw, x: Slot, y: Slot) -> nn.Module | None:
    """A sum or a product with a value that is reduced over positions or over channels first."""
    dims = draw.one_of(x.spatial, [x.dim])
    if not dims:
        return None
    forms: tuple[Callable[..., Any], ...] = (
        lambda p, x, y: x + y.mean(dims, keepdim=True),
        lambda p, x, y: x * y.sum(dims, keepdim=True).sigmoid(),
        lambda p, x, y: x - x.mean(dims, keepdim=True) + y,
        lambda p, x, y: x * y.amax(dims, keepdim=True).tanh(),
        lambda p, x, y: x + y.mean(dims, keepdim=True).expand_as(x),
        lambda p, x, y: torch.broadcast_to(y.mean(dims, keepdim=True), x.shape) + x,
    )
    return Function(draw.choice(forms))


@block("concat", ANY, more=1, relation=BESIDE)
def beside(draw: Draw, x: Slot, y: Slot) -> nn.Module:
    """The channels of two values one after another."""
    dim = x.dim
    return Function(lambda p, x, y: torch.cat([x, y], dim))


@block("concat", ANY, more=2, relation=BESIDE)
def beside_each_other(draw: Draw, x: Slot, y: Slot, z: Slot) -> nn.Module:
    """The channels of three values one after another, one of them activated, one of them twice."""
    dim, order = x.dim, draw.sample(range(3), 3)
    twice = draw.flip(0.3)

    def forward(p: Any, *given: Tensor) -> Any:
        values = [given[i] for i in order]
        return torch.concat([*values, values[0].sigmoid()] if twice else [values[0], values[1].relu(), values[2]], dim)

    return Function(forward)
