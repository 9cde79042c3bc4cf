"""A language model of the kind that is too large for a machine: grouped queries, rotary positions, gated layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class RMSNorm(nn.Module):
    """Divides by the root of the mean square over the last dimension."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what has the same shape."""
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


class Attention(nn.Module):
    """Attention in which several heads of queries share a head of keys and values."""

    def __init__(self, width: int, heads: int, shared: int) -> None:
        super().__init__()
        self.head_dim = width // heads
        self.query, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, shared * self.head_dim, bias=False)
        self.value = nn.Linear(width, shared * self.head_dim, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Return what has the shape (batch, positions, width) of the input."""
        batch, positions, _ = x.shape
        query, key, value = (
            layer(x).view(batch, positions, -1, self.head_dim).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        query, key = _rotated(query, cos, sin), _rotated(key, cos, sin)
        y = F.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        result: torch.Tensor = self.out(y.transpose(1, 2).reshape(batch, positions, -1))
        return result


def _rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    one, other = x.chunk(2, -1)
    return x * cos + torch.cat([-other, one], -1) * sin


class Block(nn.Module):
    """Attention and a gated layer, each added to its input."""

    def __init__(self, width: int, inner: int, heads: int, shared: int) -> None:
        super().__init__()
        self.before, self.attention = RMSNorm(width), Attention(width, heads, shared)
        self.between = RMSNorm(width)
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Return what has the shape of ``x``."""
        x = x + self.attention(self.before(x), cos, sin)
        y = self.between(x)
        result: torch.Tensor = x + self.down(F.silu(self.gate(y)) * self.up(y))
        return result


class Decoder(nn.Module):
    """Token numbers of shape (batch, positions) to logits of shape (batch, positions, words)."""

    frequencies: torch.Tensor

    def __init__(
        self, blocks: int = 2, width: int = 64, inner: int = 160, heads: int = 8, shared: int = 2, words: int = 100
    ) -> None:
        """``heads`` is the number of heads of queries, ``shared`` that of keys and values."""
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.blocks = nn.ModuleList(Block(width, inner, heads, shared) for _ in range(blocks))
        self.norm, self.head = RMSNorm(width), nn.Linear(width, words, bias=False)
        even = torch.arange(0, width // heads, 2)
        self.register_buffer("frequencies", 1e4 ** (-even / (width // heads)), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the logits of the next token at every position."""
        positions = torch.arange(ids.shape[1], device=ids.device)
        angles = torch.outer(positions, self.frequencies).repeat(1, 2)
        x, cos, sin = self.embedding(ids), angles.cos(), angles.sin()
        for block in self.blocks:
            x = block(x, cos, sin)
        result: torch.Tensor = self.head(self.norm(x))
        return result
