"""Blocks over tokens (N, T, C) and vectors (N, C): dense layers, norms, gated feed-forwards, mixing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.fuzzing.blocks import Draw, Slot, block, normal, positive, sequence
from tests.fuzzing.pointwise import ACTIVATIONS
from tests.support import Function

Form = Callable[..., Any]


@block("dense", "token")
def dense(draw: Draw, x: Slot) -> nn.Module:
    """A dense layer of tokens, in many writings."""
    c, width = x.channels, draw.width()
    forms: tuple[Form, ...] = (
        lambda p, x: p.dense(x),
        lambda p, x: p.dense(x),
        lambda p, x: x @ p.w,
        lambda p, x: torch.matmul(x, p.w) + p.b,
        lambda p, x: torch.einsum("btc,cd->btd", x, p.w),
        lambda p, x: torch.einsum("btc,dc->btd", x, p.dense.weight),
        lambda p, x: F.linear(x, p.w.t(), p.b),
        lambda p, x: torch.tensordot(x, p.w, dims=1),
        lambda p, x: F.linear(x, p.dense.weight * p.b.unsqueeze(1)),
        lambda p, x: torch.baddbmm(p.b, x, p.w.expand(x.shape[0], -1, -1)),
    )
    layer = nn.Linear(c, width, bias=draw.flip(0.7))
    if draw.flip(0.1):
        layer = parametrizations.weight_norm(layer)
    return Function(draw.choice(forms), dense=layer, w=normal(c, width), b=normal(width))


@block("dense", "vector")
def dense_of_vector(draw: Draw, x: Slot) -> nn.Module:
    """A dense layer of a vector, in many writings."""
    c, width = x.channels, draw.width()
    forms: tuple[Form, ...] = (
        lambda p, x: p.dense(x),
        lambda p, x: p.dense(x),
        lambda p, x: torch.addmm(p.b, x, p.w),
        lambda p, x: x.mm(p.w),
        lambda p, x: p.dense(x.unsqueeze(1)).squeeze(1),
        lambda p, x: p.conv(x[:, :, None, None]).flatten(1),
        lambda p, x: torch.einsum("nc,cd->nd", x, p.w),
        lambda p, x: (x.unsqueeze(-1) * p.w).sum(1),
    )
    return Function(
        draw.choice(forms),
        dense=nn.Linear(c, width, bias=draw.flip(0.7)),
        w=normal(c, width),
        b=normal(width),
        conv=nn.Conv2d(c, width, 1),
    )


@block("norm", "vector")
def norm_of_vector(draw: Draw, x: Slot) -> nn.Module:
    """A norm of a vector."""
    c = x.channels
    grouped = nn.GroupNorm(1, c) if c > 1 else nn.LayerNorm(c)  # torch refuses groups of one value
    return draw.one_of(nn.BatchNorm1d(c), nn.BatchNorm1d(c, affine=False), nn.LayerNorm(c), nn.RMSNorm(c), grouped)


@block("norm", "token")
def norm_of_tokens(draw: Draw, x: Slot) -> nn.Module:
    """A norm over the channels of each token, or over the batch, in many writings."""
    c = x.channels

    def root_mean_square(p: Any, x: Tensor) -> Any:
        return p.g * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-4))

    def cast(p: Any, x: Tensor) -> Any:
        y = x.to(torch.float64)
        return p.g * (y * torch.rsqrt((y * y).mean(-1, keepdim=True) + 1e-4)).to(x.dtype)

    def by_hand(p: Any, x: Tensor) -> Any:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, keepdim=True, unbiased=False)
        return (x - mean) / (variance + 1e-4).sqrt() * p.g + p.s

    forms: tuple[Form, ...] = (
        lambda p, x: p.layer(x),
        lambda p, x: p.layer(x),
        lambda p, x: p.rms(x),
        lambda p, x: p.batch(x.mT).mT,
        lambda p, x: p.batch(x.flatten(0, 1)).view(x.shape),
        lambda p, x: F.layer_norm(x, x.shape[-1:]),
        lambda p, x: (1 + p.s) * F.layer_norm(x, (c,)),
        lambda p, x: p.group(x.mT).mT,
        lambda p, x: F.normalize(x, dim=-1) * p.g,
        root_mean_square,
        cast,
        by_hand,
    )
    return Function(
        draw.choice(forms),
        layer=nn.LayerNorm(c, bias=draw.flip(0.8)),
        rms=nn.RMSNorm(c),
        batch=nn.BatchNorm1d(c),
        group=nn.GroupNorm(draw.divisor(c), c),
        g=positive(c),
        s=normal(c),
    )


@block("feed-forward", "token")
def feed_forward(draw: Draw, x: Slot) -> nn.Module:
    """Two dense layers with an activation or a gate between, added to the input or not."""
    c, width = x.channels, draw.width()
    act = ACTIVATIONS[draw.choice(list(ACTIVATIONS))]
    forms: tuple[Form, ...] = (
        lambda p, x: p.down(act(p.up(x))),
        lambda p, x: p.down(act(p.up(x)) * p.gate(x)),
        lambda p, x: p.down(F.glu(p.both(x), -1)),
        lambda p, x: p.down(p.both(x).chunk(2, -1)[0] * act(p.both(x).chunk(2, -1)[1])),
        lambda p, x: p.down(F.silu(p.both(x)[..., :width]) * p.both(x)[..., width:]),
        lambda p, x: p.down(p.norm(act(p.up(x)) * p.gate(x))),
        lambda p, x: p.gate_out(x).sigmoid() * p.down(act(p.up(x))),
        lambda p, x: p.down(p.drop(act(p.up(x)))) * p.s,
    )
    body, whole = draw.choice(forms), draw.flip(0.7)
    return Function(
        (lambda p, x: x + body(p, p.pre(x))) if whole else body,
        up=nn.Linear(c, width, bias=draw.flip()),
        gate=nn.Linear(c, width, bias=draw.flip()),
        both=nn.Linear(c, 2 * width),
        down=nn.Linear(width, c),
        s=normal(c),
        pre=draw.one_of(nn.LayerNorm(c), nn.Identity(), nn.RMSNorm(c)),
        norm=nn.LayerNorm(width),
        gate_out=nn.Linear(c, c),
        drop=nn.Dropout(0.1),
    )


@block("feed-forward", "token")
def experts(draw: Draw, x: Slot) -> nn.Module:
    """Several dense layers weighted by a softmax over them."""
    c, width, n = x.channels, draw.width(), 2
    forms: tuple[Form, ...] = (
        lambda p, x: sum(p.gate(x).softmax(-1)[..., i : i + 1] * e(x) for i, e in enumerate(p.experts)),
        lambda p, x: (torch.stack([e(x) for e in p.experts], -1) * p.gate(x).softmax(-1).unsqueeze(-2)).sum(-1),
        lambda p, x: torch.einsum("bte,bted->btd", p.gate(x).softmax(-1), torch.einsum("btc,ecd->bted", x, p.w)),
        lambda p, x: torch.einsum("btec,ecd->btd", p.split(x).unflatten(-1, (n, c)), p.w),
        lambda p, x: torch.bmm(x.repeat(n, 1, 1).view(n, -1, c), p.w).view(n, -1, x.shape[1], width).mean(0),
    )
    return Function(
        draw.choice(forms),
        experts=nn.ModuleList(nn.Linear(c, width) for _ in range(n)),
        gate=nn.Linear(c, n),
        split=nn.Linear(c, n * c),
        w=normal(n, c, width),
    )


@block("mixing", "token")
def mixed(draw: Draw, x: Slot) -> nn.Module:
    """Tokens mixed with each other, by dense layers or convolutions over positions."""
    t, c = x.shape[1], x.channels
    groups = draw.one_of(1, c, draw.divisor(c))
    forms: tuple[Form, ...] = (
        lambda p, x: p.over(x.transpose(1, 2)).transpose(1, 2),
        lambda p, x: x + p.over(p.norm(x).mT).mT,
        lambda p, x: p.back(F.gelu(p.hidden(x.mT))).mT,
        lambda p, x: p.conv(x.permute(0, 2, 1)).permute(0, 2, 1),
        lambda p, x: p.causal(F.pad(x.mT, (2, 0))).mT,
        lambda p, x: torch.einsum("btc,st->bsc", x, p.w),
        lambda p, x: p.w @ x,
        lambda p, x: x.roll(1, 1) * 0.5 + x,
        lambda p, x: torch.cat([x[:, :1], x[:, :-1]], 1) + x,
        lambda p, x: F.pad(x, (0, 0, 1, 0))[:, :-1] + x,
        lambda p, x: x.cumsum(1) * 0.3,
        lambda p, x: x - x.mean(1, keepdim=True),
        lambda p, x: p.one(x.mT).chunk(2, 1)[0].mT,
    )
    return Function(
        draw.choice(forms),
        over=nn.Linear(t, t),
        hidden=nn.Linear(t, 5),
        back=nn.Linear(5, t),
        norm=nn.LayerNorm(c),
        conv=nn.Conv1d(c, c, 3, padding=1, groups=groups),
        causal=nn.Conv1d(c, c, 3, groups=groups),
        w=normal(t, t),
        one=nn.Conv1d(c, 2 * c, 1),
    )


@block("positions", "token")
def positions(draw: Draw, x: Slot) -> nn.Module:
    """A learnt position added, a token of its own put in front, or tokens left out."""
    t, c = x.shape[1], x.channels
    forms: tuple[Form, ...] = (
        lambda p, x: x + p.where,
        lambda p, x: torch.cat([p.token.expand(x.shape[0], -1, -1), x], 1),
        lambda p, x: torch.cat([p.token.repeat(x.shape[0], 1, 1), x], dim=1) + p.longer,
        lambda p, x: x[:, 1:] + x[:, :1],
        lambda p, x: x + p.table(torch.arange(x.shape[1])),
        lambda p, x: x + p.table.weight[: x.shape[1]],
        lambda p, x: torch.cat([x[:, :1], x[:, 1:] * p.token], 1),
        lambda p, x: x[:, p.order],
        lambda p, x: x + p.rows.unsqueeze(1),
        lambda p, x: x.index_select(1, p.order),
    )
    return Function(
        draw.choice(forms),
        where=normal(1, t, c),
        token=normal(1, 1, c),
        longer=normal(1, t + 1, c),
        table=nn.Embedding(t + 2, c),
        order=torch.tensor(draw.sample(range(t), t)),
        rows=normal(1, c),
    )


@block("tied", "token")
def tied(draw: Draw, x: Slot) -> nn.Module:
    """One weight read twice, in two directions or at two places."""
    c, width = x.channels, draw.width()
    forms: tuple[Form, ...] = (
        lambda p, x: F.linear(F.linear(x, p.w).relu(), p.w.t()),
        lambda p, x: p.square(p.square(x).tanh()),
        lambda p, x: x + F.linear(x @ p.w.t(), p.w.T),
        lambda p, x: p.one(x) * F.linear(x, p.one.weight.roll(1, 0)).sigmoid(),
        lambda p, x: p.one(x).relu() + p.two(x).sigmoid(),
    )
    one, two = nn.Linear(c, width), nn.Linear(c, width)
    two.weight = one.weight
    return Function(draw.choice(forms), w=normal(width, c), square=nn.Linear(c, c), one=one, two=two)


@block("bilinear", "token")
def bilinear(draw: Draw, x: Slot) -> nn.Module:
    """A bilinear form of two dense layers."""
    c = x.channels
    return Function(
        lambda p, x: p.form(p.one(x), p.two(x)),
        one=nn.Linear(c, 3),
        two=nn.Linear(c, 4),
        form=nn.Bilinear(3, 4, draw.width()),
    )


@block("reshape", "token", gives="vector")
def tokens_to_vector(draw: Draw, x: Slot) -> nn.Module | None:
    """One vector of all tokens."""
    t = x.shape[1]
    flat = t * x.channels <= 60
    forms: tuple[Form, ...] = (
        lambda p, x: x.mean(1),
        lambda p, x: x[:, 0],
        lambda p, x: x.select(1, -1),
        lambda p, x: x.amax(1),
        lambda p, x: x.unbind(1)[0],
        lambda p, x: (p.score(x).softmax(1) * x).sum(1),
        lambda p, x: x[:, 1:].mean(1) + x[:, 0],
        lambda p, x: F.adaptive_avg_pool1d(x.mT, 1).squeeze(-1),
        lambda p, x: (p.query @ x.mT).softmax(-1).matmul(x).squeeze(1),
        lambda p, x: torch.max(x, 1)[0],
        *([lambda p, x: x.flatten(1), lambda p, x: x.reshape(x.shape[0], -1)] if flat else []),
    )
    return Function(draw.choice(forms), score=nn.Linear(x.channels, 1), query=normal(1, 1, x.channels))


@block("reshape", "token", gives="map")
def tokens_to_map(draw: Draw, x: Slot) -> nn.Module | None:
    """Tokens as a feature map."""
    t, c = x.shape[1], x.channels
    h = draw.divisor(t)
    w = t // h
    forms: tuple[Form, ...] = (
        lambda p, x: x.transpose(1, 2).reshape(-1, c, h, w),
        lambda p, x: x.mT.unflatten(2, (h, w)),
        lambda p, x: x.view(-1, h, w, c).permute(0, 3, 1, 2),
        lambda p, x: x.permute(0, 2, 1).contiguous().view(-1, c, h, w),
        lambda p, x: x.mT,
        lambda p, x: x.unsqueeze(1) if c <= 6 else x.mT,
    )
    return Function(draw.choice(forms))


@block("reshape", "token")
def halves(draw: Draw, x: Slot) -> nn.Module | None:
    """Neighbouring tokens merged into one of more channels, or channels into tokens."""
    t, c = x.shape[1], x.channels
    forms: list[Form] = []
    if t % 2 == 0 and c <= 9:
        forms += [
            lambda p, x: x.reshape(-1, t // 2, 2 * c),
            lambda p, x: torch.cat([x[:, 0::2], x[:, 1::2]], -1),
            lambda p, x: x.unflatten(1, (2, t // 2)).transpose(1, 2).flatten(2),
            lambda p, x: x.view(-1, t // 2, 2, c).permute(0, 1, 3, 2).reshape(-1, t // 2, 2 * c),
        ]
    if c % 2 == 0 and t <= 6:
        forms += [
            lambda p, x: x.reshape(-1, 2 * t, c // 2),
            lambda p, x: x.unflatten(2, (2, -1)).transpose(1, 2).flatten(1, 2),
        ]
    return Function(draw.choice(forms)) if forms else None


@block("reshape", "vector", gives="token")
def vector_to_tokens(draw: Draw, x: Slot) -> nn.Module | None:
    """A vector cut into tokens, or repeated."""
    c = x.channels
    t = draw.divisor(c)
    if c // t < 2:
        return Function(lambda p, x: x.unsqueeze(1).expand(-1, 3, -1))
    forms: tuple[Form, ...] = (
        lambda p, x: x.view(-1, t, c // t),
        lambda p, x: x.reshape(-1, c // t, t).transpose(1, 2),
        lambda p, x: x.unflatten(1, (t, -1)),
        lambda p, x: torch.stack([x, x.tanh()], 1),
        lambda p, x: x[:, None].repeat(1, 3, 1),
        lambda p, x: torch.stack(x.chunk(t, 1), 1),
        lambda p, x: x.unsqueeze(1) * p.w,
    )
    return Function(draw.choice(forms), w=normal(3, 1))


@block("reshape", "vector", gives="map")
def vector_to_map(draw: Draw, x: Slot) -> nn.Module:
    """A vector as a feature map of one position, or as the seed of a larger one."""
    c = x.channels
    if draw.flip():
        return Function(lambda p, x: x[:, :, None, None].expand(-1, -1, 2, 3))
    if c % 4 == 0 and draw.flip():
        return Function(lambda p, x: x.view(-1, c // 4, 2, 2))
    return Function(lambda p, x: p.dense(x).view(-1, 3, 2, 3), dense=nn.Linear(c, 18))


@block("gate", "token", "vector")
def conditioned(draw: Draw, x: Slot, v: Slot) -> nn.Module:
    """Tokens scaled and shifted by a vector."""
    c = x.channels

    def forward(p: Any, x: Tensor, v: Tensor) -> Any:
        shift, scale, gate = p.dense(F.silu(v)).chunk(3, dim=-1)
        y = p.norm(x) * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)
        return x + gate.unsqueeze(1) * p.out(y)

    forms: tuple[Form, ...] = (
        forward,
        lambda p, x, v: torch.cat([x, p.one(v)[:, None].expand(-1, x.shape[1], -1)], -1),
    )
    return Function(
        draw.choice(forms),
        dense=nn.Linear(v.channels, 3 * c),
        norm=nn.LayerNorm(c, elementwise_affine=False),
        out=nn.Linear(c, c),
        one=nn.Linear(v.channels, 3),
    )


@block("feed-forward", "vector")
def perceptron(draw: Draw, x: Slot) -> nn.Module:
    """Dense layers with norms and dropout."""
    c, width = x.channels, draw.width()
    act = draw.one_of(nn.ReLU(), nn.Sigmoid(), nn.Hardsigmoid(), nn.Softplus(), nn.GELU())
    return sequence(
        nn.Linear(c, width),
        act,
        draw.one_of(nn.BatchNorm1d(width), nn.Dropout(0.2), nn.Identity()),
        nn.Linear(width, c),
    )
