"""Small models whose forward needs sizes of many kinds."""

from __future__ import annotations

from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import nn


class Attention(nn.Module):
    """Heads and their width are attributes; the scale is a number computed once."""

    def __init__(self, width: int = 12, heads: int = 6, head_dim: int = 4) -> None:
        super().__init__()
        self.num_heads, self.head_dim, self.scale = heads, head_dim, head_dim**-0.5
        self.q, self.k, self.v = (nn.Linear(width, heads * head_dim) for _ in range(3))
        self.out = nn.Linear(heads * head_dim, width)

    def split(self, x):
        return x.view(x.shape[0], -1, self.num_heads, self.head_dim).transpose(1, 2)

    def forward(self, x):
        q, k, v = self.split(self.q(x)), self.split(self.k(x)), self.split(self.v(x))
        weights = (q @ k.transpose(-2, -1) * self.scale).softmax(-1)
        merged = (weights @ v).transpose(1, 2).reshape(x.shape[0], -1, self.num_heads * self.head_dim)
        return x + self.out(merged)


class DerivedAttention(nn.Module):
    """The width of a head is derived from that of the input, which no integer can make right."""

    def __init__(self, width: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.num_heads, self.scale = heads, (width // heads) ** -0.5
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, width // self.num_heads).permute(2, 0, 3, 1, 4)
        return x + self.out((q @ k.mT * self.scale).softmax(-1).matmul(v).transpose(1, 2).flatten(2))


class Configured(nn.Module):
    """Reads the width of its hidden layer from an object that other modules share."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.config = config
        self.up, self.down = nn.Linear(config.width, config.hidden), nn.Linear(config.hidden, config.width)

    def forward(self, x):
        return x + self.down(self.up(x).relu().view(-1, self.config.hidden))


class ChannelsInTuple(nn.Module):
    """A size stands in a tuple attribute, and is used in a view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 10, 3, padding=1), nn.Linear(10 * 4, 5)
        self.shape = (10, 2, 2)

    def forward(self, x):
        return self.head(F.adaptive_avg_pool2d(self.conv(x).relu(), 2).view(-1, *self.shape).flatten(1))


class Cell(nn.Module):
    """Says how wide its state is, and does not need it itself."""

    def __init__(self, state: int) -> None:
        super().__init__()
        self.state = state
        self.mix = nn.Linear(state, state)

    def forward(self, state, x):
        return torch.tanh(self.mix(state)) + x


class ReadsItsPart(nn.Module):
    """Splits by the width that one of its modules holds."""

    def __init__(self) -> None:
        super().__init__()
        self.context, self.cell, self.head = nn.Linear(7, 18), Cell(12), nn.Linear(18, 3)

    def forward(self, x):
        context = self.context(x)
        state, rest = torch.split(context, [self.cell.state, context.shape[-1] - self.cell.state], -1)
        return self.head(torch.cat([self.cell(state.tanh(), state), rest.relu()], -1))


class SqueezeExcitation(nn.Module):
    """A gate over the channels that its own attribute counts."""

    def __init__(self) -> None:
        super().__init__()
        self.channels = 12
        self.conv, self.last = nn.Conv2d(3, 12, 3, padding=1), nn.Conv2d(12, 4, 1)
        self.down, self.up = nn.Linear(12, 6), nn.Linear(6, 12)

    def forward(self, x):
        x = self.conv(x).relu()
        gate = self.up(self.down(x.mean((2, 3))).relu()).sigmoid()
        return self.last(x * gate.view(-1, self.channels, 1, 1))


class Depthwise(nn.Module):
    """Grouped and depthwise convolutions, batch norms, and a functional one that counts its groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.weight, self.groups = nn.Parameter(torch.randn(8, 1, 3, 3)), 8
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = self.depthwise(self.norm(self.stem(x)).relu()).relu()
        return self.last(F.conv2d(x, self.weight, padding=1, groups=self.groups).relu())


class Shuffle(nn.Module):
    """A channel shuffle that reads sizes from its input."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(12, 4, 1)

    def forward(self, x):
        x = torch.cat([self.one(x).relu(), self.two(x).relu()], 1)
        n, c, h, w = x.size()
        return self.last(x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w))


class HardCoded(nn.Module):
    """A number in the code of its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x):
        return self.down(self.up(x).relu().view(-1, 8))


class Auxiliary(nn.Module):
    """A second head that only training uses."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.aux = nn.Linear(6, 8), nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        x = self.body(x).relu()
        return self.head(x) + self.aux(x) if self.training else self.head(x)


class Tied(nn.Module):
    """The rows of the embedding are the weights of the head."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.up, self.down = nn.Embedding(20, 6), nn.Linear(6, 10), nn.Linear(10, 6)
        self.head = nn.Linear(6, 20, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x):
        x = self.words(x)
        return self.head(x + self.down(self.up(x).relu()))


class HandNorm(nn.Module):
    """An RMS norm written by hand: the mean over what is left is another one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight
