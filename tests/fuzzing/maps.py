"""Blocks over feature maps (N, C, positions) in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tests.fuzzing.blocks import SAME, Draw, Slot, block, normal, positive, sequence
from tests.support import Function

CONV: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED: tuple[type[nn.Module], ...] = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH_NORM: tuple[type[nn.Module], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE_NORM: tuple[type[nn.Module], ...] = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
AVERAGE: tuple[type[nn.Module], ...] = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
MAXIMUM: tuple[type[nn.Module], ...] = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
Form = Callable[..., Any]


def _conv(x: Slot, inputs: int, outputs: int, kernel: int = 1, **options: Any) -> nn.Module:
    return CONV[len(x.positions) - 1](inputs, outputs, kernel, **options)


def _norm(x: Slot, width: int, **options: Any) -> nn.Module:
    return BATCH_NORM[len(x.positions) - 1](width, **options)


def _fits(x: Slot, size: int) -> bool:
    return min(x.positions) >= size


@block("convolution", "map")
def conv(draw: Draw, x: Slot) -> nn.Module:
    """A convolution of any size, padding, stride and dilation."""
    kernel = draw.one_of(1, 2, 3) if _fits(x, 3) else draw.one_of(1, 2) if _fits(x, 2) else 1
    options: dict[str, Any] = {"bias": draw.flip()}
    if kernel == 3:
        options["padding"] = draw.one_of(0, 1, "same", "valid")
        options["padding_mode"] = draw.one_of("zeros", "zeros", "circular", "reflect", "replicate")
        if len(x.positions) == 3 and options["padding_mode"] == "reflect":
            options["padding_mode"] = "zeros"
    if isinstance(options.get("padding", 0), int) and draw.flip(0.3) and _fits(x, 4):
        options["stride"] = 2
    if kernel == 2 and _fits(x, 3) and draw.flip(0.3):
        options["dilation"] = 2
    return _conv(x, x.channels, draw.width(), kernel, **options)


@block("convolution", "map")
def grouped_conv(draw: Draw, x: Slot) -> nn.Module | None:
    """A convolution in groups, as few or as many as there are."""
    groups = draw.divisor(x.channels)
    kernel = draw.one_of(1, 3)
    outputs = groups * draw.one_of(1, 2, 3)
    if outputs > 18:
        return None
    return _conv(x, x.channels, outputs, kernel, groups=groups, padding=kernel // 2, bias=draw.flip())


@block("convolution", "map")
def depthwise(draw: Draw, x: Slot) -> nn.Module:
    """A filter for each channel, then a pointwise convolution."""
    times = draw.one_of(1, 1, 2) if x.channels < 9 else 1
    first = _conv(x, x.channels, x.channels * times, 3, groups=x.channels, padding=1, bias=draw.flip())
    if draw.flip():
        return first
    return sequence(first, nn.ReLU(), _conv(x, x.channels * times, draw.width(), bias=draw.flip()))


@block("convolution", "map")
def transposed(draw: Draw, x: Slot) -> nn.Module | None:
    """A transposed convolution, in groups or not."""
    if x.number > 40:
        return None
    groups = draw.one_of(1, 1, draw.divisor(x.channels))
    outputs = groups * draw.one_of(1, 2, 3)
    kernel, stride = draw.one_of((2, 2), (3, 1), (1, 1), (3, 2))
    more = {"padding": draw.one_of(0, 1) if kernel == 3 else 0, "output_padding": int(stride == 2 and kernel == 3)}
    kind = TRANSPOSED[len(x.positions) - 1]
    return kind(
        x.channels, min(outputs, 18 // groups * groups), kernel, stride=stride, groups=groups, bias=draw.flip(), **more
    )


@block("convolution", "map")
def normed_weight(draw: Draw, x: Slot) -> nn.Module:
    """A convolution whose weight is computed: weight norm, standardised, or scaled."""
    outputs, kind = draw.width(), draw.randrange(4)
    own = _conv(x, x.channels, outputs, 3, padding=1, bias=draw.flip())
    if kind == 0:
        normed: nn.Module = parametrizations.weight_norm(own, dim=0)
        return normed
    run = (F.conv1d, F.conv2d, F.conv3d)[len(x.positions) - 1]
    dims = list(range(1, len(x.shape)))
    ones = (1,) * len(dims)

    def standardised(p: Any, x: Tensor) -> Any:
        w = p.conv.weight
        w = (w - w.mean(dims, keepdim=True)) / (w.var(dims, keepdim=True, unbiased=False) + 1e-3).sqrt()
        return run(x, w * p.g.view(-1, *ones), p.conv.bias, padding=1)

    def scaled(p: Any, x: Tensor) -> Any:
        return run(x, p.conv.weight * p.g.view(-1, *ones), p.s, padding=1)

    def masked(p: Any, x: Tensor) -> Any:
        return run(x, p.conv.weight.abs(), None, padding=1) + p.s.view(-1, *ones[1:])

    return Function((standardised, scaled, masked)[kind - 1], conv=own, g=positive(outputs), s=normal(outputs))


@block("norm", "map")
def map_norm(draw: Draw, x: Slot) -> nn.Module | None:
    """A norm of a feature map: by batch, group, instance or layer."""
    kind = draw.randrange(7)
    affine = draw.flip(0.8)
    if kind <= 2:
        tracks = draw.flip(0.9) or x.number == 1  # torch wants more than one value for statistics
        return _norm(x, x.channels, affine=affine, track_running_stats=tracks)
    if kind == 3:
        groups = draw.one_of(1, x.channels, draw.divisor(x.channels))
        one_value = x.channels // groups * x.number == 1  # torch takes no statistics of it
        return None if one_value else nn.GroupNorm(groups, x.channels, affine=affine)
    if kind == 4 and x.number > 1:
        return INSTANCE_NORM[len(x.positions) - 1](x.channels, affine=affine, track_running_stats=draw.flip(0.3))
    if kind == 5:
        return nn.LayerNorm(x.shape[1:], elementwise_affine=affine)
    return nn.LocalResponseNorm(3) if kind == 6 else None


@block("norm", "map")
def norm_of_channels(draw: Draw, x: Slot) -> nn.Module:
    """A layer norm over the channels of a feature map, in many writings."""
    rank, aside = len(x.positions), x.aside
    there, back = (0, *range(2, rank + 2), 1), (0, rank + 1, *range(1, rank + 1))

    def by_hand(p: Any, x: Tensor) -> Any:
        centred = x - x.mean(1, keepdim=True)
        return centred / torch.sqrt(centred.pow(2).mean(1, keepdim=True) + 1e-4) * p.g.view(aside) + p.s.view(aside)

    def root_mean_square(p: Any, x: Tensor) -> Any:
        return x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-4) * p.g.view(aside)

    def length(p: Any, x: Tensor) -> Any:
        return F.normalize(x, dim=1) * p.g.view(aside) * p.scale

    forms: tuple[Form, ...] = (
        lambda p, x: F.layer_norm(x.permute(there), (x.shape[1],), p.g, p.s, 1e-4).permute(back),
        lambda p, x: F.layer_norm(x.movedim(1, -1), (x.shape[1],), p.g).movedim(-1, 1),
        by_hand,
        root_mean_square,
        length,
    )
    return Function(draw.choice(forms), g=positive(x.channels), s=normal(x.channels), scale=x.channels**0.5)


@block("pooling", "map")
def pooled(draw: Draw, x: Slot) -> nn.Module | None:
    """A pooling that leaves a feature map."""
    number, rank = draw.randrange(7), len(x.positions)
    if not _fits(x, 2):
        return None
    size, stride, padding = draw.one_of((2, 2, 0), (3, 1, 1), (2, 1, 0), (3, 2, 1))
    if number < 2:
        return MAXIMUM[rank - 1](size, stride, padding, ceil_mode=draw.flip(0.3))
    if number < 4 and rank == 3 and not _fits(x, size):
        return None  # torch refuses these, although the padding would make room
    if number < 4:
        return AVERAGE[rank - 1](size, stride, padding, ceil_mode=draw.flip(0.3), count_include_pad=draw.flip())
    if number == 4:
        return (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[rank - 1](draw.one_of(1, 2))
    if number == 5:
        return (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)[rank - 1](draw.one_of(1, 2))
    return (nn.LPPool1d, nn.LPPool2d, nn.LPPool3d)[rank - 1](2, 2) if rank < 3 else None


@block("upsampling", "map")
def upsampled(draw: Draw, x: Slot) -> nn.Module | None:
    """A larger feature map by interpolation."""
    if x.number > 30:
        return None
    rank = len(x.positions)
    smooth = ("linear", "bilinear", "trilinear")[rank - 1]
    mode = draw.one_of("nearest", smooth, "nearest-exact", *(["bicubic", "area"] if rank == 2 else []))
    corners = draw.flip() if mode in (smooth, "bicubic") else None
    size = tuple(s + 1 for s in x.positions)
    if draw.flip():
        return nn.Upsample(scale_factor=2, mode=mode, align_corners=corners)
    return Function(lambda p, x: F.interpolate(x, size=size, mode=mode, align_corners=corners))


@block("upsampling", "map", more=1)
def upsampled_to(draw: Draw, x: Slot, y: Slot) -> nn.Module | None:
    """A feature map brought to the size of another, and put beside it or added to it."""
    if len(x.shape) != len(y.shape):
        return None
    if x.channels == y.channels and draw.flip():
        return Function(lambda p, x, y: y + F.interpolate(x, size=y.shape[2:], mode="nearest"))
    return Function(lambda p, x, y: torch.cat([F.interpolate(x, size=y.shape[2:]), y], 1))


@block("pad", "map")
def framed(draw: Draw, x: Slot) -> nn.Module:
    """A border of a constant, of reflections or of copies; or a crop."""
    rank = len(x.positions)
    mode = draw.one_of("constant", "constant", "replicate", "circular", "crop")
    if mode == "crop" and _fits(x, 3):
        return Function(lambda p, x: x[..., 1:-1])
    mode = "constant" if mode == "crop" else mode
    value = draw.one_of(0.0, 0.5) if mode == "constant" else None
    return Function(
        lambda p, x: F.pad(x, [1, 1] + [0, 0] * (rank - 1) if mode == "constant" else [1, 1] * rank, mode, value)
    )


@block("shuffle", "map")
def pixel_shuffle(draw: Draw, x: Slot) -> nn.Module | None:
    """Channels to positions or positions to channels."""
    if len(x.positions) != 2:
        return None
    even = all(s % 2 == 0 for s in x.positions)
    h, w = x.positions
    if x.channels % 4 == 0 and x.number <= 24 and draw.flip():
        c = x.channels // 4
        return draw.one_of(
            nn.PixelShuffle(2),
            Function(lambda p, x: x.view(-1, c, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(-1, c, 2 * h, 2 * w)),
            Function(lambda p, x: x.view(-1, 2, 2, c, h, w).permute(0, 3, 4, 1, 5, 2).reshape(-1, c, 2 * h, 2 * w)),
        )
    if not even or x.channels > 6:
        return None
    return draw.one_of(
        nn.PixelUnshuffle(2),
        Function(lambda p, x: torch.cat([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)], 1)),
        Function(
            lambda p, x: x.unflatten(2, (h // 2, 2)).unflatten(4, (w // 2, 2)).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)
        ),
        Function(lambda p, x: torch.unflatten(F.unfold(x, 2, stride=2), 2, (h // 2, w // 2))),
    )


@block("unfold", "map")
def unfolded(draw: Draw, x: Slot) -> nn.Module | None:
    """Patches laid out as channels, and folded again."""
    if len(x.positions) != 2 or x.channels > 4:
        return None
    h, w = x.positions
    width = draw.width()
    if draw.flip():
        return Function(
            lambda p, x: p.dense(F.unfold(x, 3, padding=1).transpose(1, 2)).transpose(1, 2).unflatten(2, (h, w)),
            dense=nn.Linear(x.channels * 9, width),
        )
    return Function(lambda p, x: F.fold(F.unfold(x, 3, padding=1).tanh(), (h, w), 3, padding=1))


@block("gate", "map")
def squeeze(draw: Draw, x: Slot) -> nn.Module:
    """Squeeze and excitation, in many writings."""
    width, c, aside = draw.width(), x.channels, x.aside
    act = draw.one_of(nn.Sigmoid(), nn.Hardsigmoid(), nn.Tanh())
    dims = x.spatial
    forms: tuple[Form, ...] = (
        lambda p, x: x * p.act(p.c2(p.c1(x.mean(dims, keepdim=True)).relu())),
        lambda p, x: x * p.act(p.l2(p.l1(x.mean(dims)).relu())).view(-1, *(c, *aside[1:])),
        lambda p, x: x * p.act(p.l2(p.l1(x.flatten(2).mean(-1)).relu()))[(...,) + (None,) * len(dims)],
        lambda p, x: x * p.act(p.c2(p.c1(x.mean(dims, keepdim=True)).relu())).expand_as(x),
        lambda p, x: x + x * p.act(p.c2(F.silu(p.c1(x.amax(dims, keepdim=True))))),
        lambda p, x: x * p.act(p.eca(x.flatten(2).mean(-1).unsqueeze(1)).squeeze(1)).view(-1, *(c, *aside[1:])),
        lambda p, x: x * p.act(p.spatial(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1))),
    )
    return Function(
        draw.choice(forms),
        act=act,
        c1=_conv(x, c, width),
        c2=_conv(x, width, c),
        l1=nn.Linear(c, width),
        l2=nn.Linear(width, c),
        eca=nn.Conv1d(1, 1, 3, padding=1),
        spatial=_conv(x, 2, 1, 3, padding=1),
    )


@block("residual", "map")
def bottleneck(draw: Draw, x: Slot) -> nn.Module:
    """A residual block: some convolutions, and what came in added."""
    c, width = x.channels, draw.width()
    groups = draw.one_of(1, width, draw.divisor(width))
    body = sequence(
        _conv(x, c, width, bias=False),
        _norm(x, width),
        nn.ReLU(inplace=True),
        _conv(x, width, width, 3, padding=1, groups=groups, bias=False),
        _norm(x, width),
        draw.one_of(nn.ReLU(), nn.SiLU()),
        _conv(x, width, c, bias=draw.flip()),
        _norm(x, c),
    )
    scale = normal(c)
    aside = x.aside
    forms: tuple[Form, ...] = (
        lambda p, x: (x + p.body(x)).relu(),
        lambda p, x: x + p.body(x),
        lambda p, x: p.body(x).add_(x),
        lambda p, x: x + p.scale.view(aside) * p.body(x),
        lambda p, x: torch.cat([x, p.body(x)], 1),
    )
    return Function(draw.choice(forms), body=body, scale=scale)


@block("residual", "map")
def dense_block(draw: Draw, x: Slot) -> nn.Module | None:
    """Layers that read all that came before, put side by side."""
    c, growth = x.channels, draw.one_of(2, 3)
    if c > 9:
        return None
    layers = [_conv(x, c + i * growth, growth, 3, padding=1) for i in range(2)]

    def forward(p: Any, x: Tensor) -> Any:
        for layer in p.layers:
            x = torch.cat([x, layer(x).relu()], 1)
        return x

    return Function(forward, layers=nn.ModuleList(layers))


@block("residual", "map")
def two_branches(draw: Draw, x: Slot) -> nn.Module | None:
    """Half of the channels pass, the others are convolved; then all are shuffled."""
    half = x.channels // 2
    if x.channels % 2 or half < 2:
        return None

    def forward(p: Any, x: Tensor) -> Any:
        a, b = x.chunk(2, 1)
        y = torch.cat([a, p.conv(b).relu()], 1)
        return y.view(y.shape[0], 2, half, *y.shape[2:]).transpose(1, 2).flatten(1, 2)

    return Function(forward, conv=_conv(x, half, half, 3, padding=1, groups=draw.one_of(1, half)))


@block("residual", "map")
def ghost(draw: Draw, x: Slot) -> nn.Module:
    """A convolution, and a cheap depthwise one of its result beside it, cut to size."""
    width, keep = draw.width(), draw.randint(0, 1)
    one = _conv(x, x.channels, width)
    two = _conv(x, width, width, 3, padding=1, groups=width)
    return Function(lambda p, x: torch.cat([p.one(x), p.two(p.one(x))], 1)[:, : 2 * width - keep], one=one, two=two)


@block("residual", "map")
def mixture(draw: Draw, x: Slot) -> nn.Module:
    """Several branches weighted by a softmax that the input decides (selective kernels)."""
    c, n = x.channels, 2
    ones = (1,) * len(x.positions)

    def forward(p: Any, x: Tensor) -> Any:
        branches = torch.stack([conv(x) for conv in p.convs], 1)
        weights = p.gate(x.mean(dims)).view(-1, n, width).softmax(1)
        return (branches * weights.view(-1, n, width, *ones)).sum(1)

    width, dims = draw.width(), x.spatial
    convs = nn.ModuleList([_conv(x, c, width, k, padding=k // 2) for k in (1, 3)])
    return Function(forward, convs=convs, gate=nn.Linear(c, n * width))


@block("reshape", "map", gives="vector")
def to_vector(draw: Draw, x: Slot) -> nn.Module | None:
    """A feature map as a vector: flattened, or reduced over positions."""
    rank, dims = len(x.positions), x.spatial
    flat = x.channels * x.number <= 60
    number = draw.randrange(7) if flat else draw.randrange(3, 7)
    pool = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[rank - 1]
    forms: tuple[Form, ...] = (
        lambda p, x: x.flatten(1),
        lambda p, x: x.reshape(x.shape[0], -1),
        lambda p, x: x.movedim(1, -1).flatten(1),
        lambda p, x: x.mean(dims),
        lambda p, x: pool(x, 1).flatten(1),
        lambda p, x: x.flatten(2).amax(-1),
        lambda p, x: torch.cat([x.mean(dims), x.amax(dims)], 1),
    )
    return Function(forms[number])


@block("reshape", "map", gives="token")
def to_tokens(draw: Draw, x: Slot) -> nn.Module | None:
    """Positions as tokens, or channels as tokens."""
    if x.number > 40:
        return None
    c, number = x.channels, x.number
    forms: tuple[Form, ...] = (
        lambda p, x: x.flatten(2).transpose(1, 2),
        lambda p, x: x.flatten(2).permute(0, 2, 1),
        lambda p, x: x.movedim(1, -1).reshape(-1, number, c),
        lambda p, x: x.reshape(-1, c, number).mT,
        lambda p, x: torch.einsum("nct->ntc", x.flatten(2)),
        lambda p, x: x.flatten(2),
    )
    return Function(draw.choice(forms))


@block("attention", "map")
def non_local(draw: Draw, x: Slot) -> nn.Module | None:
    """Attention between the positions of a feature map, with one head."""
    if x.number > 40:
        return None
    c, width = x.channels, draw.width()

    def forward(p: Any, x: Tensor) -> Any:
        q, k, v = (conv(x).flatten(2) for conv in (p.q, p.k, p.v))
        a = (q.transpose(1, 2) @ k * scale).softmax(-1)
        out = (v @ a.mT if first else torch.einsum("ncs,nts->nct", v, a)).reshape(-1, width, *x.shape[2:])
        return x + p.gamma * p.out(out)

    first, scale = draw.flip(), draw.one_of(1.0, width**-0.5)
    convs = {name: _conv(x, c, width) for name in "qkv"}
    return Function(forward, **convs, out=_conv(x, width, c), gamma=normal(1))


@block("matmul", "map", more=1, relation=SAME)
def correlation(draw: Draw, x: Slot, y: Slot) -> nn.Module | None:
    """Products of two feature maps summed over channels, or over positions."""
    if x.number > 20:
        return None
    shape = x.positions
    forms: tuple[Form, ...] = (
        lambda p, x, y: (x * y).sum(1, keepdim=True) + x,
        lambda p, x, y: torch.einsum("nc...,nc...->n...", x, y).unsqueeze(1) * x,
        lambda p, x, y: (x.flatten(2).transpose(1, 2) @ y.flatten(2)).reshape(x.shape[0], -1, *shape).tanh(),
        lambda p, x, y: (x.flatten(2) @ y.flatten(2).mT @ x.flatten(2)).view_as(x) * 0.1,
        lambda p, x, y: F.cosine_similarity(x, y, dim=1).unsqueeze(1) + y,
    )
    return Function(draw.choice(forms))


@block("sample", "map")
def sampled(draw: Draw, x: Slot) -> nn.Module | None:
    """Positions read at places that a convolution computes."""
    if len(x.positions) != 2:
        return None
    return Function(
        lambda p, x: F.grid_sample(x, p.where(x).tanh().permute(0, 2, 3, 1), align_corners=False),
        where=_conv(x, x.channels, 2),
    )


@block("gate", "map", "vector")
def modulated(draw: Draw, x: Slot, v: Slot) -> nn.Module:
    """A feature map scaled and shifted by a vector."""
    c = x.channels
    ones = (None,) * len(x.positions)

    def forward(p: Any, x: Tensor, v: Tensor) -> Any:
        scale, shift = p.dense(v).chunk(2, 1)
        return x * (1 + scale[(..., *ones)]) + shift[(..., *ones)]

    def bias(p: Any, x: Tensor, v: Tensor) -> Any:
        return x + p.one(v).view(*v.shape[:1], c, *[1] * len(ones))

    return Function(draw.one_of(forward, bias), dense=nn.Linear(v.channels, 2 * c), one=nn.Linear(v.channels, c))
