"""Blocks of graph networks: nodes (V, C) that send messages along edges (2, E)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzzing.blocks import Draw, Slot, block, normal, positive, sequence
from tests.support import Function

Form = Callable[..., Any]


def _gather(draw: Draw) -> Form:
    """Return a function that adds up messages (E, C) at the nodes that they go to."""
    forms: tuple[Form, ...] = (
        lambda m, to, n: m.new_zeros(n, m.shape[1]).index_add(0, to, m),
        lambda m, to, n: torch.zeros(n, m.shape[1], dtype=m.dtype).index_add_(0, to, m),
        lambda m, to, n: m.new_zeros(n, m.shape[1]).scatter_add_(0, to.view(-1, 1).expand_as(m), m),
        lambda m, to, n: torch.zeros_like(m[:1]).expand(n, -1).scatter_add(0, to[:, None].expand(-1, m.shape[1]), m),
        lambda m, to, n: m.new_zeros(n, m.shape[1]).scatter_reduce(
            0, to.view(-1, 1).expand_as(m), m, "mean", include_self=False
        ),
        lambda m, to, n: m.new_zeros(n, m.shape[1]).scatter_reduce(
            0, to.view(-1, 1).expand_as(m), m, "amax", include_self=True
        ),
        lambda m, to, n: m.new_zeros(n, m.shape[1]).index_put((to,), m, accumulate=True),
    )
    return draw.choice(forms)


def _read(draw: Draw) -> Form:
    """Return a function that reads the nodes that messages come from."""
    return draw.one_of(lambda x, at: x[at], lambda x, at: x.index_select(0, at), lambda x, at: F.embedding(at, x))


@block("dense", "node")
def dense_of_nodes(draw: Draw, x: Slot) -> nn.Module:
    """A dense layer at every node."""
    layer = nn.Linear(x.channels, draw.width(), bias=draw.flip(0.7))
    return layer if draw.flip() else Function(lambda p, x: p.layer(x).relu(), layer=layer)


@block("norm", "node")
def norm_of_nodes(draw: Draw, x: Slot) -> nn.Module:
    """A norm of node features: by batch, layer, or over the nodes."""
    c = x.channels
    own = Function(
        lambda p, x: (x - x.mean(0) * p.a) / (x.var(0, unbiased=False) + 0.1).sqrt() * p.g, a=normal(c), g=positive(c)
    )
    return draw.one_of(nn.BatchNorm1d(c), nn.LayerNorm(c), own)


@block("message passing", "node", "edge")
def convolved(draw: Draw, x: Slot, edges: Slot) -> nn.Module:
    """A graph convolution, normalised by degrees or not."""
    gather, read, width = _gather(draw), _read(draw), draw.width()

    def normalised(p: Any, x: Tensor, edges: Tensor) -> Any:
        source, to = edges[0], edges[1]
        degree = (
            torch.ones_like(to, dtype=x.dtype)
            .new_zeros(x.shape[0])
            .index_add(0, to, torch.ones_like(to, dtype=x.dtype))
            + 1
        )
        weight = degree.rsqrt()[source] * degree.rsqrt()[to]
        y = p.one(x)
        return gather(weight.unsqueeze(-1) * read(y, source), to, x.shape[0]) + y / degree.unsqueeze(1) + p.b

    def sage(p: Any, x: Tensor, edges: Tensor) -> Any:
        return p.one(gather(read(x, edges[0]), edges[1], x.shape[0])) + p.two(x)

    def isomorphism(p: Any, x: Tensor, edges: Tensor) -> Any:
        return p.mlp((1 + p.eps) * x + gather(read(x, edges[0]), edges[1], x.shape[0]))

    def difference(p: Any, x: Tensor, edges: Tensor) -> Any:
        a, b = read(x, edges[1]), read(x, edges[0])
        return gather(p.pair(torch.cat([a, b - a], -1)).relu(), edges[1], x.shape[0])

    def gated(p: Any, x: Tensor, edges: Tensor) -> Any:
        gate = torch.sigmoid(read(p.one(x), edges[1]) + read(p.two(x), edges[0]))
        return gather(gate * read(p.one(x), edges[0]), edges[1], x.shape[0])

    mlp = sequence(nn.Linear(x.channels, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, width))
    return Function(
        draw.one_of(normalised, sage, isomorphism, difference, gated),
        one=nn.Linear(x.channels, width),
        b=normal(width),
        two=nn.Linear(x.channels, width, bias=draw.flip()),
        mlp=mlp,
        eps=normal(1),
        pair=nn.Linear(2 * x.channels, width),
    )


@block("message passing", "node", "edge")
def attended(draw: Draw, x: Slot, edges: Slot) -> nn.Module:
    """Attention between neighbours, with heads that are put side by side or averaged."""
    h, d = draw.one_of((2, 3), (1, 4), (3, 2))
    side_by_side, second = draw.flip(), draw.flip()

    def forward(p: Any, x: Tensor, edges: Tensor) -> Any:
        source, to, n = edges[0], edges[1], x.shape[0]
        y = p.dense(x).view(-1, h, d)
        if second:
            score = (F.leaky_relu(y[source] + y[to], 0.2) * p.a).sum(-1)
        else:
            score = F.leaky_relu((y * p.a).sum(-1)[source] + (y * p.b).sum(dim=-1)[to], 0.2)
        index = to.view(-1, 1).expand_as(score)
        top = score.new_zeros(n, h).scatter_reduce(0, index, score.detach(), "amax", include_self=True)
        weight = (score - top.index_select(0, to)).exp()
        total = weight.new_zeros(n, h).scatter_add(0, index, weight)[to] + 1e-3
        message = (weight / total).unsqueeze(-1) * y[source]
        out = message.new_zeros(n, h, d).index_add(0, to, message)
        return out.reshape(-1, h * d) if side_by_side else out.mean(1)

    return Function(forward, dense=nn.Linear(x.channels, h * d, bias=draw.flip()), a=normal(1, h, d), b=normal(1, h, d))


@block("message passing", "node", "edge")
def gated_memory(draw: Draw, x: Slot, edges: Slot) -> nn.Module:
    """Messages that enter a gated recurrent cell at each node."""
    c = x.channels
    gather, read = _gather(draw), _read(draw)
    return Function(
        lambda p, x, edges: p.cell(gather(read(p.dense(x), edges[0]), edges[1], x.shape[0]), x),
        dense=nn.Linear(c, c),
        cell=nn.GRUCell(c, c),
    )


@block("reduce", "node")
def with_context(draw: Draw, x: Slot) -> nn.Module:
    """What all nodes have in common, given back to each."""
    forms: tuple[Form, ...] = (
        lambda p, x: x + x.mean(0, keepdim=True),
        lambda p, x: x * p.gate(x.mean(0)).sigmoid(),
        lambda p, x: x + x.amax(0),
        lambda p, x: x * x.softmax(0),
        lambda p, x: torch.cat([x, x.mean(0, keepdim=True).expand_as(x)], 1) if x.shape[1] < 10 else x + 1,
    )
    return Function(draw.choice(forms), gate=nn.Linear(x.channels, x.channels))
