"""Blocks that move channels: splits, slices, shuffles, reshapes, padding; and blocks that reduce over channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzzing.blocks import ANY, BESIDE, FREE, SAME, Draw, Slot, block, normal, pieces
from tests.support import Function

Form = Callable[..., Any]


@block("split", ANY)
def split(draw: Draw, x: Slot) -> nn.Module | None:
    """Cut the channels into pieces, change some, and put them together again in another order."""
    if x.channels < 3:
        return None
    dim, sizes = x.dim, list(pieces(draw, x.channels))
    order = draw.sample(range(len(sizes)), draw.randint(1, len(sizes)))
    return Function(
        lambda p, x: torch.cat([x.split(sizes, dim)[i].tanh() if i else x.split(sizes, dim)[i] for i in order], dim)
    )


@block("split", ANY)
def one_piece(draw: Draw, x: Slot) -> nn.Module | None:
    """Keep a run of channels."""
    if x.channels < 2:
        return None
    dim, at = x.dim, draw.randint(1, x.channels - 1)
    rest = x.channels - at
    forms: tuple[Form, ...] = (
        lambda p, x: x.narrow(dim, at, rest),
        lambda p, x: x.narrow(dim, 0, at),
        lambda p, x: x.split([at, rest], dim)[1],
        lambda p, x: torch.tensor_split(x, [at], dim)[0],
        lambda p, x: x.transpose(dim, -1)[..., :at].transpose(dim, -1),
        lambda p, x: x.transpose(dim, -1)[..., -rest:].transpose(dim, -1),
        lambda p, x: x.chunk(2, dim)[0],
        lambda p, x: x.split(at, dim)[0],
    )
    return Function(draw.choice(forms))


@block("split", ANY)
def every_second(draw: Draw, x: Slot) -> nn.Module | None:
    """Take every second channel, or one channel, or some by number."""
    if x.channels < 3:
        return None
    dim, chosen = x.dim, torch.tensor(sorted(draw.sample(range(x.channels), 2)))
    at = draw.randrange(x.channels)
    forms: tuple[Form, ...] = (
        lambda p, x: x.transpose(dim, -1)[..., ::2].transpose(dim, -1),
        lambda p, x: x.transpose(dim, -1)[..., 1::2].transpose(dim, -1),
        lambda p, x: x.select(dim, at).unsqueeze(dim),
        lambda p, x: x + x.select(dim, at).unsqueeze(dim),
        lambda p, x: x.index_select(dim, p.chosen),
        lambda p, x: x.transpose(0, dim)[p.chosen].transpose(0, dim),
        lambda p, x: torch.cat([x.transpose(dim, -1)[..., ::2], x.transpose(dim, -1)[..., 1::2]], -1).transpose(
            dim, -1
        ),
    )
    return Function(draw.choice(forms), chosen=chosen)


@block("split", ANY)
def gated(draw: Draw, x: Slot) -> nn.Module | None:
    """A gated linear unit, in many writings."""
    if x.channels % 2:
        return None
    dim, half = x.dim, x.channels // 2
    forms: tuple[Form, ...] = (
        lambda p, x: F.glu(x, dim),
        lambda p, x: x.chunk(2, dim)[0] * F.gelu(x.chunk(2, dim)[1]),
        lambda p, x: x.narrow(dim, 0, half) * x.narrow(dim, half, half).sigmoid(),
        lambda p, x: x.unflatten(dim, (2, half)).unbind(dim)[0] * x.unflatten(dim, (2, half)).unbind(dim)[1].tanh(),
        lambda p, x: x.unflatten(dim, (half, 2)).prod(dim + 1),
        lambda p, x: torch.mul(*x.tensor_split(2, dim)),
        lambda p, x: x.split(half, dim)[0] + x.split(half, dim)[1],
        lambda p, x: x.unflatten(dim, (2, half)).sum(dim),
        lambda p, x: x.unflatten(dim, (2, half)).amax(dim),
        lambda p, x: x.unflatten(dim, (half, 2)).mean(dim + 1),
    )
    return Function(draw.choice(forms))


@block("split", ANY)
def unbound(draw: Draw, x: Slot) -> nn.Module | None:
    """Take the channels apart one by one, and stack them again."""
    if x.channels > 6:
        return None
    dim = x.dim
    return Function(lambda p, x: torch.stack([v * (1 + i) for i, v in enumerate(x.unbind(dim))][::-1], dim))


@block("shuffle", ANY)
def shuffled(draw: Draw, x: Slot) -> nn.Module | None:
    """A channel shuffle, in many writings."""
    groups = draw.divisor(x.channels)
    dim, per = x.dim, x.channels // groups
    if per < 2:
        return None
    tail = list(x.shape[dim + 1 :])
    head = list(x.shape[1:dim])
    forms: tuple[Form, ...] = (
        lambda p, x: x.unflatten(dim, (groups, per)).transpose(dim, dim + 1).flatten(dim, dim + 1),
        lambda p, x: (
            x.view(-1, *head, groups, per, *tail).transpose(dim, dim + 1).reshape(-1, *head, groups * per, *tail)
        ),
        lambda p, x: x.reshape(x.shape[0], *head, groups, per, *tail).swapaxes(dim, dim + 1).contiguous().view(x.shape),
        lambda p, x: torch.stack(x.split(per, dim), dim + 1).flatten(dim, dim + 1),
        lambda p, x: torch.cat([x.unflatten(dim, (groups, per)).select(dim + 1, i) for i in range(per)], dim),
    )
    return Function(draw.choice(forms))


@block("shuffle", ANY)
def permuted(draw: Draw, x: Slot) -> nn.Module:
    """Channels in another order."""
    dim, order = x.dim, torch.tensor(draw.sample(range(x.channels), x.channels))
    by = draw.randint(1, x.channels)
    forms: tuple[Form, ...] = (
        lambda p, x: x.index_select(dim, p.order),
        lambda p, x: x.flip(dim),
        lambda p, x: x.roll(by, dim),
        lambda p, x: torch.roll(x, -by, dim),
        lambda p, x: x.transpose(0, dim)[p.order].transpose(0, dim),
        lambda p, x: torch.take_along_dim(x, p.order.view(x_aside), dim),
        lambda p, x: x + x.flip([dim]),
        lambda p, x: torch.gather(x, dim, p.order.view(x_aside).expand_as(x)),
        lambda p, x: torch.cat([x.narrow(dim, 1, x.shape[dim] - 1), x.narrow(dim, 0, 1)], dim),
    )
    x_aside = (1,) * dim + x.aside
    return Function(draw.choice(forms), order=order)


@block("heads", ANY)
def by_heads(draw: Draw, x: Slot) -> nn.Module | None:
    """Channels seen as heads of channels, and changed head by head."""
    heads = draw.divisor(x.channels)
    dim, width = x.dim, x.channels // heads
    if width < 2:
        return None
    tail = (1,) * (len(x.shape) - dim - 1)
    forms: tuple[Form, ...] = (
        lambda p, x: (x.unflatten(dim, (heads, width)) * p.h.view(heads, 1, *tail)).flatten(dim, dim + 1),
        lambda p, x: (x.unflatten(dim, (heads, width)) + p.w.view(width, *tail)).flatten(dim, dim + 1),
        lambda p, x: (x.unflatten(dim, (heads, -1)) * p.hw.view(heads, width, *tail)).flatten(dim, dim + 1),
        lambda p, x: x.unflatten(dim, (heads, width)).mean(dim),
        lambda p, x: x.unflatten(dim, (heads, width)).sum(dim + 1),
        lambda p, x: (
            F.layer_norm(x.unflatten(dim, (heads, width)).transpose(dim + 1, -1), (width,))
            .transpose(dim + 1, -1)
            .flatten(dim, dim + 1)
        ),
        lambda p, x: F.normalize(x.unflatten(dim, (heads, width)), dim=dim + 1).flatten(dim, dim + 1),
        lambda p, x: x.unflatten(dim, (heads, width)).softmax(dim).flatten(dim, dim + 1) * x,
        lambda p, x: x.unflatten(dim, (heads, width))[(slice(None),) * dim + (slice(1, None),)].flatten(dim, dim + 1),
        lambda p, x: x.unflatten(dim, (heads, width)).amax(dim + 1),
        lambda p, x: x.unflatten(dim, (heads, width)).roll(1, dim).flatten(dim, dim + 1),
    )
    return Function(draw.choice(forms), h=normal(heads), w=normal(width), hw=normal(heads, width))


@block("repeat", ANY)
def repeated(draw: Draw, x: Slot) -> nn.Module | None:
    """Channels more than once."""
    if x.channels > 8:
        return None
    dim, times = x.dim, [1] * len(x.shape)
    times[dim] = 2
    rank = len(x.shape)
    forms: tuple[Form, ...] = (
        lambda p, x: x.repeat(times),
        lambda p, x: x.tile(times),
        lambda p, x: x.repeat_interleave(2, dim),
        lambda p, x: x.unsqueeze(dim + 1).expand(*[-1] * (dim + 1), 2, *[-1] * (rank - dim - 1)).flatten(dim, dim + 1),
        lambda p, x: (
            x.unsqueeze(dim)
            .expand(*[-1] * dim, 3, *[-1] * (rank - dim))
            .reshape(x.shape[0], *x.shape[1:dim], -1, *x.shape[dim + 1 :])
        ),
        lambda p, x: torch.cat([x, x], dim),
        lambda p, x: torch.stack([x, x.sigmoid()], dim + 1).flatten(dim, dim + 1),
        lambda p, x: torch.stack([x, -x], dim).flatten(dim, dim + 1),
    )
    return Function(draw.choice(forms))


@block("pad", ANY)
def padded(draw: Draw, x: Slot) -> nn.Module:
    """Further channels of a constant, or fewer."""
    dim, value = x.dim, draw.one_of(0.0, 0.0, 0.7)
    before, after = draw.randint(0, 2), draw.randint(0, 2)
    if draw.flip(0.3) and x.channels > 2:
        before = -1
    behind = [0, 0] * (len(x.shape) - dim - 1)
    if draw.flip():
        return Function(lambda p, x: F.pad(x, [*behind, before, after], value=value))
    return Function(lambda p, x: torch.cat([x, torch.full_like(x.narrow(dim, 0, 1), value)], dim))


@block("reduce", ANY)
def over_channels(draw: Draw, x: Slot) -> nn.Module:
    """A statistic over the channels, which changes each of them."""
    dim = x.dim
    forms: tuple[Form, ...] = (
        lambda p, x: x - x.mean(dim, keepdim=True),
        lambda p, x: x * torch.sigmoid(x.sum(dim, keepdim=True)),
        lambda p, x: x + x.amax(dim, keepdim=True),
        lambda p, x: x.softmax(dim),
        lambda p, x: x.log_softmax(dim),
        lambda p, x: F.normalize(x, dim=dim),
        lambda p, x: x / (x.norm(dim=dim, keepdim=True) + 0.1),
        lambda p, x: x * torch.rsqrt(x.pow(2).mean(dim, keepdim=True) + 1e-3),
        lambda p, x: x.cumsum(dim),
        lambda p, x: x / torch.sqrt(x.var(dim, keepdim=True, unbiased=False) + 0.1) if x.shape[dim] > 1 else x,
        lambda p, x: x + torch.logsumexp(x, dim, keepdim=True),
        lambda p, x: x - x.amin(dim, keepdim=True),
        lambda p, x: x + torch.linalg.vector_norm(x, dim=dim, keepdim=True),
        lambda p, x: x * x.max(dim, keepdim=True)[0],
        lambda p, x: x + x.std(dim, keepdim=True, correction=0),
        lambda p, x: x.sort(dim)[0],
        lambda p, x: x + x.prod(dim, keepdim=True).tanh(),
        lambda p, x: x.topk(2, dim)[0],
    )
    if x.channels < 2:
        return Function(forms[0])
    return Function(draw.choice(forms))


@block("reduce", "map")
def statistics_of_positions(draw: Draw, x: Slot) -> nn.Module | None:
    """A statistic over some of the positions."""
    dims = sorted(draw.sample(x.spatial, draw.randint(1, len(x.spatial))))
    forms: tuple[Form, ...] = (
        lambda p, x: x - x.mean(dims, keepdim=True),
        lambda p, x: x.amax(dims, keepdim=True) + x,
        lambda p, x: x * x.sum(dims, keepdim=True).tanh(),
        lambda p, x: x.softmax(dims[0]),
        lambda p, x: x / (x.std(dims, keepdim=True, correction=0) + 1),
        lambda p, x: x.cumsum(dims[0]) * 0.3,
        lambda p, x: x * torch.rsqrt(x.var(dims, keepdim=True, unbiased=False) + 0.1),
        lambda p, x: x.flip(dims),
        lambda p, x: x.roll([1] * len(dims), dims),
        lambda p, x: x.max(dims[0], keepdim=True).values + x,
        lambda p, x: x.amin(dims, keepdim=True) - x,
        lambda p, x: torch.std_mean(x, dims, correction=0, keepdim=True)[1] * x,
    )
    return Function(draw.choice(forms))


@block("concat", "map", more=1, relation=SAME)
def along_positions(draw: Draw, x: Slot, y: Slot) -> nn.Module:
    """Two feature maps put together along a dimension of positions."""
    dim = draw.choice(x.spatial)
    if draw.flip():
        return Function(lambda p, x, y: torch.cat([x, y], dim))
    return Function(lambda p, x, y: torch.stack([x, y], dim).flatten(dim, dim + 1))


@block("concat", "token", more=1, relation=SAME)
def more_tokens(draw: Draw, x: Slot, y: Slot) -> nn.Module:
    """Tokens of two values one after another, and a part of them taken."""
    if draw.flip():
        return Function(lambda p, x, y: torch.cat([x, y], 1)[:, 1:])
    return Function(lambda p, x, y: torch.split(torch.cat([x, y], dim=-2), [x.shape[1], y.shape[1]], 1)[0] + y)


@block("sum", ANY, more=1, relation=BESIDE)
def sum_of_some(draw: Draw, x: Slot, y: Slot) -> nn.Module | None:
    """The channels that two values share added, the rest kept or left out."""
    low = min(x.channels, y.channels)
    if x.channels == y.channels:
        return None
    dim = x.dim

    def forward(p: Any, x: Tensor, y: Tensor) -> Any:
        a, b = (x, y) if x.shape[dim] > low else (y, x)
        added = a.narrow(dim, 0, low) + b
        return torch.cat([added, a.narrow(dim, low, a.shape[dim] - low)], dim) if whole else added

    def padded_sum(p: Any, x: Tensor, y: Tensor) -> Any:
        a, b = (x, y) if x.shape[dim] > low else (y, x)
        behind = [0, 0] * (a.dim() - dim - 1)
        return a + F.pad(b, [*behind, 0, a.shape[dim] - low])

    whole = draw.flip()
    return Function(draw.one_of(forward, padded_sum))


@block("product", "vector", more=1, relation=FREE)
def outer(draw: Draw, x: Slot, y: Slot) -> nn.Module | None:
    """All products of two vectors."""
    if x.channels * y.channels > 24:
        return None
    forms: tuple[Form, ...] = (
        lambda p, x, y: (x.unsqueeze(2) * y.unsqueeze(1)).flatten(1),
        lambda p, x, y: torch.einsum("ni,nj->nij", x, y).reshape(x.shape[0], -1),
        lambda p, x, y: torch.bmm(x.unsqueeze(2), y.unsqueeze(1)).flatten(1),
        lambda p, x, y: (x[:, :, None] + y[:, None]).relu().mean(1),
    )
    return Function(draw.choice(forms))
