"""Attention in the many ways in which models write it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzzing.blocks import Draw, Slot, block, normal
from tests.support import Function

Form = Callable[..., Any]


def _sizes(draw: Draw) -> tuple[int, int]:
    """Return the number of heads and their width."""
    return draw.one_of((2, 3), (3, 2), (2, 4), (4, 2), (1, 4), (3, 4), (2, 2))


def _scores(draw: Draw, scale: float) -> Form:
    """Return a function from queries, keys and values of shape (N, heads, T, D) to attention of the same shape."""
    forms: tuple[Form, ...] = (
        lambda p, q, k, v: F.scaled_dot_product_attention(q, k, v),
        lambda p, q, k, v: F.scaled_dot_product_attention(q, k, v, scale=scale),
        lambda p, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] == k.shape[2]),
        lambda p, q, k, v: ((q @ k.transpose(-2, -1)) * scale).softmax(-1) @ v,
        lambda p, q, k, v: torch.softmax(torch.matmul(q * scale, k.mT), dim=-1).matmul(v),
        lambda p, q, k, v: torch.einsum(
            "bhts,bhsd->bhtd", (torch.einsum("bhtd,bhsd->bhts", q, k) * scale).softmax(-1), v
        ),
        lambda p, q, k, v: p.drop(((q / scale**-1) @ k.mT).softmax(-1)) @ v,
        lambda p, q, k, v: F.relu(q @ k.mT * scale).square() @ v / k.shape[-2],
        lambda p, q, k, v: torch.bmm(
            torch.bmm(q.flatten(0, 1), k.flatten(0, 1).mT).mul(scale).softmax(-1), v.flatten(0, 1)
        ).view(q.shape[0], q.shape[1], q.shape[2], -1),
        lambda p, q, k, v: torch.einsum(
            "bhts,bhsd->bhtd",
            F.softmax(torch.einsum("bhtd,bhsd->bhts", F.normalize(q, dim=-1), F.normalize(k, dim=-1)) * 3, -1),
            v,
        ),
    )
    return draw.choice(forms)


def _merge(draw: Draw, width: int) -> Form:
    """Return a function that puts the heads of (N, heads, T, D) side by side."""
    forms: tuple[Form, ...] = (
        lambda o: o.transpose(1, 2).reshape(o.shape[0], o.shape[2], width),
        lambda o: o.permute(0, 2, 1, 3).flatten(2),
        lambda o: o.transpose(1, 2).contiguous().view(o.shape[0], -1, width),
        lambda o: torch.cat(o.unbind(1), -1) if o.shape[1] < 4 else o.transpose(1, 2).flatten(-2),
    )
    return draw.choice(forms)


@block("attention", "token")
def fused_attention(draw: Draw, x: Slot) -> nn.Module:
    """Self attention whose queries, keys and values come from one dense layer."""
    h, d = _sizes(draw)
    t, width, read, merge = x.shape[1], h * d, _scores(draw, d**-0.5), _merge(draw, h * d)
    forms: tuple[Form, ...] = (
        lambda p, y: y.reshape(-1, t, 3, h, d).permute(2, 0, 3, 1, 4).unbind(0),
        lambda p, y: y.view(y.shape[0], t, 3, h, d).permute(2, 0, 3, 1, 4)[0:3].unbind(),
        lambda p, y: [z.view(-1, t, h, d).transpose(1, 2) for z in y.chunk(3, -1)],
        lambda p, y: y.view(-1, t, h, 3 * d).transpose(1, 2).chunk(3, dim=-1),
        lambda p, y: y.unflatten(-1, (h, 3, d)).permute(3, 0, 2, 1, 4).unbind(0),
        lambda p, y: [y.unflatten(-1, (3, h, d)).select(2, i).transpose(1, 2) for i in range(3)],
        lambda p, y: [
            z.unflatten(-1, (h, d)).transpose(1, 2)
            for z in (y[..., :width], y[..., width : 2 * width], y[..., 2 * width :])
        ],
        lambda p, y: [z.unflatten(-1, (d, h)).permute(0, 3, 1, 2) for z in y.split(width, -1)],
        lambda p, y: tuple(y.reshape(-1, t, 3, h, d).transpose(1, 3).unbind(2)),
    )
    cut, whole = draw.choice(forms), draw.flip()

    def forward(p: Any, x: Tensor) -> Any:
        q, k, v = cut(p, p.qkv(p.norm(x)))
        o = p.out(merge(read(p, q, k, v)))
        return x + o if whole else o

    qkv, out = nn.Linear(x.channels, 3 * width, bias=draw.flip(0.7)), nn.Linear(width, x.channels, bias=draw.flip(0.7))
    norm = draw.one_of(nn.LayerNorm(x.channels), nn.Identity())
    return Function(forward, qkv=qkv, out=out, norm=norm, drop=nn.Dropout(0.1))


@block("attention", "token", more=1)
def cross_attention(draw: Draw, x: Slot, y: Slot) -> nn.Module:
    """Attention from one value to another, each projection a layer of its own; widths of values may differ."""
    h, d = _sizes(draw)
    e = draw.one_of(d, d + 1)
    read, merge = _scores(draw, d**-0.5), _merge(draw, h * e)
    parts = {
        "q": nn.Linear(x.channels, h * d),
        "k": nn.Linear(y.channels, h * d, bias=draw.flip()),
        "v": nn.Linear(y.channels, h * e),
    }
    norms = {"qn": nn.LayerNorm(d), "kn": nn.LayerNorm(d)}
    normed = draw.flip(0.3)

    def forward(p: Any, x: Tensor, y: Tensor) -> Any:
        q, k = (z.unflatten(-1, (h, d)).transpose(1, 2) for z in (p.q(x), p.k(y)))
        v = p.v(y).view(y.shape[0], y.shape[1], h, e).permute(0, 2, 1, 3)
        if normed:
            q, k = p.qn(q), p.kn(k)
        return p.out(merge(read(p, q, k, v)))

    return Function(
        forward, **parts, **norms, out=nn.Linear(h * e, draw.one_of(x.channels, draw.width())), drop=nn.Dropout(0.1)
    )


@block("attention", "token")
def grouped_queries(draw: Draw, x: Slot) -> nn.Module:
    """Attention with fewer heads of keys and values than of queries."""
    h, d = draw.one_of((4, 2), (4, 3), (6, 2), (2, 4))
    groups = draw.one_of(1, 2)
    times, t = h // groups, x.shape[1]
    read, merge = _scores(draw, d**-0.5), _merge(draw, h * d)
    forms: tuple[Form, ...] = (
        lambda z: z.repeat_interleave(times, 1),
        lambda z: z.repeat_interleave(times, dim=1).contiguous(),
        lambda z: z[:, :, None].expand(-1, groups, times, t, d).reshape(-1, h, t, d),
        lambda z: z.unsqueeze(2).expand(-1, -1, times, -1, -1).flatten(1, 2),
        lambda z: z.repeat(1, times, 1, 1),
    )
    spread, native = draw.choice(forms), draw.flip(0.3)

    def forward(p: Any, x: Tensor) -> Any:
        q = p.q(x).view(-1, t, h, d).transpose(1, 2)
        k, v = (z.view(-1, t, groups, d).transpose(1, 2) for z in (p.k(x), p.v(x)))
        if native:
            o = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
        elif folded:
            o = read(p, q.reshape(-1, groups, times * t, d), k, v).reshape(-1, h, t, d)
        else:
            o = read(p, q, spread(k), spread(v))
        return x + p.out(merge(o))

    folded = draw.flip(0.2)
    kv = [nn.Linear(x.channels, groups * d, bias=draw.flip()) for _ in range(2)]
    return Function(
        forward,
        q=nn.Linear(x.channels, h * d),
        k=kv[0],
        v=kv[1],
        out=nn.Linear(h * d, x.channels),
        drop=nn.Dropout(0.1),
    )


@block("attention", "token")
def biased_attention(draw: Draw, x: Slot) -> nn.Module:
    """Attention with a bias on its scores: a table of relative positions, a mask, a slope, or mixed heads."""
    h, d = _sizes(draw)
    t, merge = x.shape[1], _merge(draw, h * d)
    where = torch.arange(t)
    index = (where[:, None] - where[None]) + t - 1
    mask = torch.ones(t, t).tril()
    forms: tuple[Form, ...] = (
        lambda p, a: (a + p.table[p.index.view(-1)].view(t, t, -1).permute(2, 0, 1).unsqueeze(0)).softmax(-1),
        lambda p, a: (a + p.table[p.index].permute(2, 0, 1)).softmax(-1),
        lambda p, a: (a + p.rows[:, p.index]).softmax(-1),
        lambda p, a: (a + p.embedding(p.index).permute(2, 0, 1)[None]).softmax(-1),
        lambda p, a: a.masked_fill(p.mask == 0, float("-inf")).softmax(-1),
        lambda p, a: (a + p.full).softmax(-1),
        lambda p, a: (a + (p.mask - 1) * 1e4).softmax(-1),
        lambda p, a: (a * p.slope[:, None, None]).softmax(-1),
        lambda p, a: p.mix(a.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).softmax(-1),
        lambda p, a: p.conv(a).softmax(-1),
        lambda p, a: p.conv(p.conv(a).softmax(-1)),
        lambda p, a: torch.where(p.mask.bool(), a, -1e4).softmax(dim=-1),
        lambda p, a: torch.einsum("bhts,hg->bgts", a, p.w).softmax(-1),
        lambda p, a: a.sigmoid() * p.slope.view(1, -1, 1, 1),
    )
    weigh, fused = draw.choice(forms), draw.flip(0.2)

    def forward(p: Any, x: Tensor) -> Any:
        q, k, v = (z.unflatten(-1, (h, d)).transpose(1, 2) for z in p.qkv(x).chunk(3, -1))
        if fused:
            o = F.scaled_dot_product_attention(q, k, v, attn_mask=p.rows[:, p.index].unsqueeze(0))
        else:
            o = weigh(p, q @ k.mT * d**-0.5) @ v
        return p.out(merge(o))

    return Function(
        forward,
        qkv=nn.Linear(x.channels, 3 * h * d),
        out=nn.Linear(h * d, x.channels),
        table=normal(2 * t - 1, h),
        index=index,
        rows=normal(h, 2 * t - 1),
        embedding=nn.Embedding(2 * t - 1, h),
        mask=mask,
        full=normal(1, h, t, t),
        slope=normal(h),
        mix=nn.Linear(h, h),
        conv=nn.Conv2d(h, h, 1),
        w=normal(h, h),
    )


@block("attention", "token")
def rotary_attention(draw: Draw, x: Slot) -> nn.Module:
    """Attention whose queries and keys are turned by their position, in halves or interleaved, whole or in part."""
    h, d = draw.one_of((2, 4), (3, 2), (2, 2))
    t, kind = x.shape[1], draw.randrange(4)
    angle = torch.arange(t)[:, None] / 10 ** (torch.arange(d // 2) / d)
    read, merge = _scores(draw, d**-0.5), _merge(draw, h * d)

    def halves(p: Any, z: Tensor) -> Any:
        turned = torch.cat([-z[..., d // 2 :], z[..., : d // 2]], -1)
        return z * p.cos.repeat(1, 2) + turned * torch.cat([p.sin, p.sin], -1)

    def interleaved(p: Any, z: Tensor) -> Any:
        a, b = z[..., ::2], z[..., 1::2]
        return torch.stack([a * p.cos - b * p.sin, a * p.sin + b * p.cos], -1).flatten(-2)

    def by_chunks(p: Any, z: Tensor) -> Any:
        a, b = z.chunk(2, -1)
        return torch.cat([a * p.cos - b * p.sin, b * p.cos + a * p.sin], -1)

    def reshaped(p: Any, z: Tensor) -> Any:
        a, b = z.reshape(*z.shape[:-1], -1, 2).unbind(-1)
        return torch.stack([-b, a], -1).reshape(z.shape) * p.sin.repeat_interleave(2, -1) + z * p.cos.repeat_interleave(
            2, -1
        )

    turn: Form = (halves, interleaved, by_chunks, reshaped)[kind]

    def forward(p: Any, x: Tensor) -> Any:
        q, k, v = (layer(x).view(-1, t, h, d).transpose(1, 2) for layer in (p.q, p.k, p.v))
        return x + p.out(merge(read(p, turn(p, q), turn(p, k), v)))

    qkv = {name: nn.Linear(x.channels, h * d, bias=draw.flip()) for name in "qkv"}
    return Function(
        forward, **qkv, out=nn.Linear(h * d, x.channels), cos=angle.cos(), sin=angle.sin(), drop=nn.Dropout(0.1)
    )


@block("attention", "token")
def module_attention(draw: Draw, x: Slot) -> nn.Module | None:
    """``nn.MultiheadAttention``, or a layer of ``nn.Transformer``."""
    heads = draw.divisor(x.channels)
    kind = draw.randrange(4)
    if kind == 0:
        return nn.TransformerEncoderLayer(
            x.channels, heads, draw.width(), 0.1, batch_first=True, norm_first=draw.flip()
        )
    attention = nn.MultiheadAttention(x.channels, heads, 0.1, bias=draw.flip(), batch_first=kind < 3)
    if kind < 3:
        return Function(lambda p, x: x + p.attention(x, x, x, need_weights=kind == 1)[0], attention=attention)
    return Function(
        lambda p, x: p.attention(x.transpose(0, 1), x.mT.mT.transpose(0, 1), x.transpose(0, 1))[0].transpose(0, 1),
        attention=attention,
    )


@block("attention", "token", more=1)
def module_cross_attention(draw: Draw, x: Slot, y: Slot) -> nn.Module:
    """``nn.MultiheadAttention`` between two values of different widths."""
    heads = draw.divisor(x.channels)
    attention = nn.MultiheadAttention(x.channels, heads, kdim=y.channels, vdim=y.channels, batch_first=True)
    return Function(lambda p, x, y: x + p.attention(x, y, y)[0], attention=attention)


@block("attention", "token")
def linear_attention(draw: Draw, x: Slot) -> nn.Module:
    """Attention without a softmax over positions: linear, across channels, or external."""
    h, d = _sizes(draw)
    merge, width = _merge(draw, h * d), h * d

    def linear(p: Any, x: Tensor) -> Any:
        q, k, v = (z.unflatten(-1, (h, d)).transpose(1, 2) for z in p.qkv(x).chunk(3, -1))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        norm = 1 / (q @ k.sum(-2, keepdim=True).mT + 0.1)
        return p.out(merge(q @ (k.mT @ v) * norm))

    def softened(p: Any, x: Tensor) -> Any:
        q, k, v = (z.unflatten(-1, (h, d)).transpose(1, 2) for z in p.qkv(x).chunk(3, -1))
        return p.out(
            merge(torch.einsum("bhtd,bhde->bhte", q.softmax(-1), torch.einsum("bhtd,bhte->bhde", k.softmax(-2), v)))
        )

    def across(p: Any, x: Tensor) -> Any:
        q, k, v = p.qkv(x).unflatten(-1, (3, h, d)).permute(2, 0, 3, 4, 1).unbind(0)
        a = (F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * p.temperature).softmax(-1)
        return p.out((a @ v).permute(0, 3, 1, 2).flatten(2))

    def external(p: Any, x: Tensor) -> Any:
        q = p.q(x)
        return p.out((q @ p.keys.t()).softmax(-1) @ p.values)

    return Function(
        draw.one_of(linear, softened, across, external),
        qkv=nn.Linear(x.channels, 3 * width),
        q=nn.Linear(x.channels, width),
        out=nn.Linear(width, x.channels),
        temperature=normal(h, 1, 1),
        keys=normal(5, width),
        values=normal(5, width),
    )


@block("attention", "map")
def window_attention(draw: Draw, x: Slot) -> nn.Module | None:
    """Attention within windows of a feature map, shifted or not, with a table of relative positions or without."""
    if len(x.positions) != 2 or any(s % 2 for s in x.positions) or x.number > 40:
        return None
    (height, width), c = x.positions, x.channels
    h, d = _sizes(draw)
    shift, biased = draw.one_of(0, 1), draw.flip()
    index = torch.randint(0, 9, (4, 4))

    def forward(p: Any, x: Tensor) -> Any:
        y = p.norm(x.permute(0, 2, 3, 1))
        y = torch.roll(y, (-shift, -shift), (1, 2)) if shift else y
        w = y.view(-1, height // 2, 2, width // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
        q, k, v = p.qkv(w).reshape(-1, 4, 3, h, d).permute(2, 0, 3, 1, 4).unbind(0)
        a = (q * d**-0.5) @ k.transpose(-2, -1)
        a = a + p.table[p.index.view(-1)].view(4, 4, h).permute(2, 0, 1) if biased else a
        o = p.out((a.softmax(-1) @ v).transpose(1, 2).reshape(-1, 4, h * d))
        o = o.view(-1, height // 2, width // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, c)
        o = torch.roll(o, (shift, shift), (1, 2)) if shift else o
        return x + o.permute(0, 3, 1, 2)

    return Function(
        forward,
        norm=nn.LayerNorm(c),
        qkv=nn.Linear(c, 3 * h * d),
        out=nn.Linear(h * d, c),
        table=normal(9, h),
        index=index,
    )


@block("attention", "map")
def attention_of_convolutions(draw: Draw, x: Slot) -> nn.Module | None:
    """Attention between positions whose projections are convolutions, heads first."""
    if x.number > 40:
        return None
    h, d = _sizes(draw)
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(x.positions) - 1]

    def forward(p: Any, x: Tensor) -> Any:
        if fused:
            q, k, v = p.qkv(x).view(x.shape[0], 3, h, d, -1).unbind(1)
        else:
            q, k, v = (z.flatten(2).unflatten(1, (h, d)) for z in p.qkv(x).chunk(3, 1))
        a = (q.transpose(-2, -1) @ k * d**-0.5).softmax(-1)
        o = (v @ a.transpose(-2, -1)).reshape(x.shape[0], h * d, *x.shape[2:])
        return x + p.out(o)

    fused = draw.flip()
    return Function(forward, qkv=conv(x.channels, 3 * h * d, 1, bias=draw.flip()), out=conv(h * d, x.channels, 1))
