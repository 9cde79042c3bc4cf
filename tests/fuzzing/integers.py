"""Blocks that compute with whole numbers: casts to small types, negative indices, arithmetic on indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzzing.blocks import ANY, Draw, Slot, block
from tests.fuzzing.sequences import VOCABULARY
from tests.support import Function

Form = Callable[..., Any]
DISCRETE = "integers"
"""The family of blocks whose results jump, so that rounding in a narrow type may change them altogether."""


@block("embedding", "ids", gives="token")
def looked_up(draw: Draw, x: Slot) -> nn.Module:
    """Words found by arithmetic on their numbers, or weighted by these."""
    forms: tuple[Form, ...] = (
        lambda p, x: p.words.weight[x - VOCABULARY],
        lambda p, x: p.words.weight[-1 - x] * 2,
        lambda p, x: p.words((x * 37).to(torch.int8).long() % VOCABULARY),
        lambda p, x: p.words((x + 250).to(torch.uint8).long() % VOCABULARY),
        lambda p, x: p.words((x * 2**62 // 2**61) % VOCABULARY) + p.words(x),
        lambda p, x: p.words(x // 2) + p.words(x % 3),
        lambda p, x: p.words((x - 2).clamp(min=0)),
        lambda p, x: p.words(x.bitwise_xor(1).clamp(max=VOCABULARY - 1)),
        lambda p, x: p.words(x.cumsum(1) % VOCABULARY),
        lambda p, x: p.words(x.to(torch.int32)),
        lambda p, x: p.words(x) * x.unsqueeze(-1),
        lambda p, x: p.words(x) / (x.unsqueeze(-1) - VOCABULARY),
        lambda p, x: p.words(x) * (x > 2).unsqueeze(-1) + (x == 0).unsqueeze(-1),
        lambda p, x: p.words.weight.index_select(0, (-x.flatten()) % VOCABULARY).view(x.shape[0], x.shape[1], -1),
    )
    return Function(draw.choice(forms), words=nn.Embedding(VOCABULARY, draw.width()))


@block(DISCRETE, ANY)
def whole(draw: Draw, x: Slot) -> nn.Module:
    """Values cut to whole numbers of small types and brought back; small types wrap around."""
    dim = x.dim
    forms: tuple[Form, ...] = (
        lambda p, x: x + (x.clamp(-3, 3) * 20).to(torch.int8).to(x.dtype) / 20,
        lambda p, x: x + (x.clamp(0, 3) * 50).to(torch.uint8).to(x.dtype) / 50,
        lambda p, x: x + (x.clamp(-9, 9) * 30).to(torch.int32).to(torch.int8).to(x.dtype) / 100,
        lambda p, x: x + (x.clamp(-9, 9) * 30).to(torch.int16).to(torch.uint8) / 100,
        lambda p, x: x * (x.clamp(-9, 9) * 4).to(torch.int16).abs(),
        lambda p, x: x + x.clamp(-9, 9).long() // 2,
        lambda p, x: x + (x > 0.1).to(torch.uint8).neg().to(x.dtype) / 255,
        lambda p, x: x + (x > 0.1).sum(dim, keepdim=True) * 0.1,
        lambda p, x: x + (x > 0.1).long().cumsum(dim) * 0.1,
        lambda p, x: x + x.trunc() - (x * 3).round() * 0.2,
        lambda p, x: x + torch.full_like(x, 3.7, dtype=torch.int64),
        lambda p, x: x * (torch.ones_like(x, dtype=torch.int8) * 100 * 2).to(x.dtype) / 50,
        lambda p, x: torch.where(x > 0.1, x, torch.zeros_like(x, dtype=torch.int64)),
        lambda p, x: x.masked_fill(~(x > 0.1), 1),
        lambda p, x: x + ((x > 0.1) ^ (x < 0.5)).to(x.dtype),
    )
    return Function(draw.choice(forms))


@block("split", ANY)
def from_behind(draw: Draw, x: Slot) -> nn.Module | None:
    """Channels found by negative indices, or by numbers that are computed."""
    dim, c, aside = x.dim, x.channels, x.aside
    order = torch.tensor([draw.randrange(-c, c) for _ in range(c)])
    if c < 2:
        return None
    forms: tuple[Form, ...] = (
        lambda p, x: x.select(dim, -1).unsqueeze(dim) + x,
        lambda p, x: x.narrow(dim, -2, 2),
        lambda p, x: x.transpose(0, dim)[p.order].transpose(0, dim),
        lambda p, x: x.index_select(dim, p.order % c),
        lambda p, x: x.index_select(dim, torch.arange(c - 1, -1, -1)),
        lambda p, x: x + x.gather(dim, x.argmax(dim, keepdim=True)),
        lambda p, x: x + x.gather(dim, x.argsort(dim)),
        lambda p, x: x * F.one_hot(p.order % 3, 3).cumsum(1)[:, 1].view(aside),
    )
    return Function(draw.choice(forms), order=order)


@block("message passing", "node", "edge")
def counted(draw: Draw, x: Slot, edges: Slot) -> nn.Module:
    """Messages between nodes found by negative indices, and counts of neighbours."""

    def behind(p: Any, x: Tensor, edges: Tensor) -> Any:
        return torch.zeros_like(x).index_add(0, edges[1], p.dense(x)[edges[0] - x.shape[0]]) + x

    def without_loops(p: Any, x: Tensor, edges: Tensor) -> Any:
        far = (edges[0] != edges[1]).to(x.dtype).unsqueeze(1)
        return x.new_zeros(x.shape).index_add_(0, edges[1], p.dense(x)[edges[0]] * far) - x

    def degrees(p: Any, x: Tensor, edges: Tensor) -> Any:
        count = torch.zeros(x.shape[0], dtype=torch.int64).scatter_add(0, edges[1], torch.ones_like(edges[1]))
        return p.dense(x) * count.clamp(max=3).unsqueeze(1) + p.table(count.clamp(max=4))

    c = x.channels
    return Function(draw.one_of(behind, without_loops, degrees), dense=nn.Linear(c, c), table=nn.Embedding(5, c))
