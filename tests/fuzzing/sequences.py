"""Blocks over sequences: embeddings, recurrent layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.fuzzing.blocks import Draw, Slot, block, normal
from tests.support import Function

VOCABULARY = 7


@block("embedding", "ids", gives="token")
def embedded(draw: Draw, x: Slot) -> nn.Module:
    """Embedded words, with positions or without."""
    width, t = draw.width(), x.shape[1]
    forms: tuple[Callable[..., Any], ...] = (
        lambda p, x: p.words(x),
        lambda p, x: p.words(x) + p.where(torch.arange(x.shape[1])),
        lambda p, x: p.words(x) * width**0.5 + p.table,
        lambda p, x: F.embedding(x, p.words.weight * 2),
        lambda p, x: p.norm(p.words(x) + p.where.weight[:t]),
        lambda p, x: F.linear(F.one_hot(x, VOCABULARY).to(p.table.dtype), p.out),
        lambda p, x: torch.cat([p.words(x), p.where(x)], -1),
        lambda p, x: p.project(p.words(x)),
    )
    return Function(
        draw.choice(forms),
        words=nn.Embedding(VOCABULARY, width, padding_idx=draw.one_of(None, 0)),
        out=normal(width, VOCABULARY),
        where=nn.Embedding(VOCABULARY + 3, width),
        table=normal(t, width),
        norm=nn.LayerNorm(width),
        project=nn.Linear(width, draw.width()),
    )


@block("tied", "ids", gives="token")
def tied_words(draw: Draw, x: Slot) -> nn.Module:
    """Words embedded, changed, and compared with the same embedding."""
    width = draw.width()
    forms: tuple[Callable[..., Any], ...] = (
        lambda p, x: F.linear(p.words(x).relu(), p.words.weight),
        lambda p, x: p.words(x).tanh() @ p.words.weight.t(),
        lambda p, x: p.head(p.middle(p.words(x))),
        lambda p, x: F.linear(p.middle(p.words(x)).relu() + p.words(x), p.words.weight),
    )
    words, head = nn.Embedding(VOCABULARY, width), nn.Linear(width, VOCABULARY, bias=draw.flip())
    head.weight = words.weight
    return Function(draw.choice(forms), words=words, head=head, middle=nn.Linear(width, width))


@block("embedding", "ids", gives="vector")
def bag(draw: Draw, x: Slot) -> nn.Module:
    """The mean or sum of embedded words."""
    width = draw.width()
    if draw.flip():
        return nn.EmbeddingBag(VOCABULARY, width, mode=draw.one_of("mean", "sum"))
    return Function(lambda p, x: (p.words(x) * (x > 0).unsqueeze(-1)).sum(1), words=nn.Embedding(VOCABULARY, width))


@block("recurrent", "token")
def recurrent(draw: Draw, x: Slot) -> nn.Module:
    """A recurrent layer over tokens, with layers, directions and a projection."""
    width, kind = draw.one_of(3, 4, 5), draw.one_of(nn.LSTM, nn.GRU, nn.RNN)
    both = draw.flip(0.4)
    more = {"proj_size": 2} if kind is nn.LSTM and draw.flip(0.3) else {}
    first = draw.flip(0.7)
    layer = kind(
        x.channels, width, draw.one_of(1, 1, 2), batch_first=first, bidirectional=both, bias=draw.flip(0.8), **more
    )
    if first:
        return Function(lambda p, x: p.layer(x)[0], layer=layer)
    return Function(lambda p, x: p.layer(x.transpose(0, 1))[0].transpose(0, 1), layer=layer)


@block("recurrent", "token", gives="vector")
def last_state(draw: Draw, x: Slot) -> nn.Module:
    """The last state of a recurrent layer."""
    width, kind = draw.one_of(3, 4), draw.one_of(nn.LSTM, nn.GRU)
    both = draw.flip(0.3)
    layer = kind(x.channels, width, batch_first=True, bidirectional=both)

    def forward(p: Any, x: Tensor) -> Any:
        states = p.layer(x)[1]
        state = states[0] if isinstance(states, tuple) else states
        return torch.cat(state.unbind(0), -1) if joined else state[-1]

    joined = draw.flip()
    return Function(forward, layer=layer)


@block("recurrent", "token", gives="vector")
def unrolled(draw: Draw, x: Slot) -> nn.Module:
    """A recurrent cell called once for each of the first tokens."""
    width, kind = draw.one_of(3, 4), draw.randrange(3)
    cell = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)[kind](x.channels, width)

    def by_cell(p: Any, x: Tensor) -> Any:
        state = x.new_zeros(x.shape[0], width)
        memory = torch.zeros_like(state)
        for token in x[:, :2].unbind(1):
            if kind == 0:
                state, memory = p.cell(token, (state, memory))
            else:
                state = p.cell(token, state)
        return state

    def by_hand(p: Any, x: Tensor) -> Any:
        state = torch.tanh(p.read(x[:, 0]))
        for t in (1, 2):
            gate = torch.sigmoid(p.gate(torch.cat([x[:, min(t, x.shape[1] - 1)], state], 1)))
            state = gate * state + (1 - gate) * torch.tanh(p.read(x[:, -1]))
        return state

    c = x.channels
    return Function(
        draw.one_of(by_cell, by_hand), cell=cell, read=nn.Linear(c, width), gate=nn.Linear(c + width, width)
    )
