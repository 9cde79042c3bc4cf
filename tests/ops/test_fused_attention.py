"""Attention in the ways that people write it: heads are found, and slim programs stay rectangular and exact."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.errors import TraceError
from swdc.ops import lookup
from tests.support import Function, assert_slims, certified, group_with, image, plan_of, reason_at, traced

HEADS, WIDTH = 4, 32
Attention = Callable[[Any, torch.Tensor], torch.Tensor]


def separate(m: Any, x: torch.Tensor) -> list[torch.Tensor]:
    """Return queries, keys and values of shape (N, heads, positions, head_dim)."""
    return [t.view(*x.shape[:2], HEADS, -1).transpose(1, 2) for t in m.qkv(x).chunk(3, -1)]


def merged(m: Any, x: torch.Tensor) -> torch.Tensor:
    return m.out(x.transpose(1, 2).reshape(x.shape[0], x.shape[2], -1))


def fused(m: Any, x: torch.Tensor) -> torch.Tensor:
    n, positions, width = x.shape
    q, k, v = m.qkv(x).reshape(n, positions, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
    return merged(m, F.scaled_dot_product_attention(q, k, v))


def by_hand(m: Any, x: torch.Tensor) -> torch.Tensor:
    q, k, v = separate(m, x)
    return merged(m, ((q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)).softmax(-1) @ v)


def causal(m: Any, x: torch.Tensor) -> torch.Tensor:
    q, k, v = separate(m, x)
    return merged(m, F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3))


def heads_in_the_batch(m: Any, x: torch.Tensor) -> torch.Tensor:
    n, positions, _ = x.shape
    q, k, v = (t.transpose(0, 1).reshape(positions, n * HEADS, -1).transpose(0, 1) for t in m.qkv(x).chunk(3, -1))
    return merged(m, torch.bmm(torch.bmm(q, k.transpose(1, 2)).softmax(-1), v).view(n, HEADS, positions, -1))


def einsum(m: Any, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (t.view(*x.shape[:2], HEADS, -1) for t in m.qkv(x).chunk(3, -1))
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k) * 0.3
    return m.out(torch.einsum("bhnm,bmhd->bnhd", scores.softmax(-1), v).flatten(2))


def rotated(m: Any, x: torch.Tensor) -> torch.Tensor:
    def turn(t: torch.Tensor) -> torch.Tensor:
        one, other = t[..., : t.shape[-1] // 2], t[..., t.shape[-1] // 2 :]
        return t * m.cos + torch.cat([-other, one], -1) * m.sin

    q, k, v = separate(m, x)
    return merged(m, F.scaled_dot_product_attention(turn(q), turn(k), v))


def talking(m: Any, x: torch.Tensor) -> torch.Tensor:
    q, k, v = separate(m, x)
    scores = m.before((q @ k.transpose(-2, -1)).permute(0, 2, 3, 1)).softmax(-2)
    return merged(m, m.after(scores).permute(0, 3, 1, 2) @ v)


def biased(m: Any, x: torch.Tensor) -> torch.Tensor:
    q, k, v = separate(m, x)
    return merged(m, F.scaled_dot_product_attention(q, k, v, attn_mask=m.bias))


WAYS: dict[str, Attention] = {
    f.__name__: f for f in (fused, by_hand, causal, heads_in_the_batch, einsum, rotated, talking, biased)
}


def network(attention: Attention) -> nn.Module:
    torch.manual_seed(0)
    parts = {
        "embed": nn.Linear(8, WIDTH), "qkv": nn.Linear(WIDTH, 3 * WIDTH), "out": nn.Linear(WIDTH, WIDTH),
        "head": nn.Linear(WIDTH, 5), "cos": torch.rand(6, 8), "sin": torch.rand(6, 8),
        "before": nn.Linear(HEADS, HEADS), "after": nn.Linear(HEADS, HEADS),
        "bias": nn.Parameter(torch.randn(HEADS, 6, 6)),
    }  # fmt: skip

    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.embed(x)
        return m.head(torch.relu(x + attention(m, x)))

    return Function(forward, **parts)


@pytest.mark.parametrize("name", WAYS)
def test_heads_go_as_a_whole(name: str) -> None:
    program = assert_slims(network(WAYS[name]), image(2, 6, 8))
    of = [g for g in program.groups if g.members[0].tensor == "qkv.weight"]
    assert {g.width for g in of} == {HEADS}
    assert sum(g.members[0].multiplicity for g in of) == 24, "queries and keys; mixed heads part from the values"


@pytest.mark.parametrize("name", ["fused", "by_hand", "heads_in_the_batch", "einsum"])
def test_or_positions_within_the_heads(name: str) -> None:
    program = traced(network(WAYS[name]), image(2, 6, 8))
    program = program.with_facts(attention="head_dim")
    assert {g.width for g in program.groups} == {WIDTH, WIDTH // HEADS}
    for seed in range(3):
        certified(program, seed=seed)


def test_the_choice_is_an_option_of_trace() -> None:
    model = network(by_hand).eval()
    widths = {
        kind: {g.width for g in swdc.trace(model, image(2, 6, 8).float(), attention=kind).groups}
        for kind in ("heads", "head_dim")
    }
    assert widths == {"heads": {32, 4}, "head_dim": {32, 8}}
    with pytest.raises(TraceError, match="expected attention as one of"):
        swdc.trace(model, image(2, 6, 8).float(), attention="width")


def test_rotary_embeddings_keep_the_positions_within_heads() -> None:
    program = traced(network(rotated), image(2, 6, 8))
    program = program.with_facts(attention="head_dim")
    certified(program)
    assert any(g.width == HEADS for g in program.groups), "constant sines are not cut, so heads go"


@pytest.mark.parametrize("weights", [True, False])
def test_multihead_attention_of_torch(weights: bool) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.embed(x)
        return m.head(torch.relu(x + m.attention(x, x, x, need_weights=weights)[0]))

    parts = {
        "embed": nn.Linear(8, WIDTH),
        "attention": nn.MultiheadAttention(WIDTH, HEADS, batch_first=True),
        "head": nn.Linear(WIDTH, 5),
    }
    program = assert_slims(Function(forward, **parts), image(2, 6, 8))
    assert group_with(program, "attention.in_proj_weight[0]").width == HEADS


@pytest.mark.parametrize("repeated", ["expand", "gqa"])
def test_grouped_queries(repeated: str) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        n, positions, _ = x.shape
        x = m.embed(x)
        q = m.q(x).view(n, positions, 4, 8).transpose(1, 2)
        k, v = (part(x).view(n, positions, 2, 8).transpose(1, 2) for part in (m.k, m.v))
        if repeated == "expand":
            k, v = (t[:, :, None].expand(n, 2, 2, positions, 8).reshape(n, 4, positions, 8) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, enable_gqa=repeated == "gqa")
        return m.head(torch.relu(x + merged(m, y)))

    parts = {
        "embed": nn.Linear(8, WIDTH), "q": nn.Linear(WIDTH, 32), "k": nn.Linear(WIDTH, 16),
        "v": nn.Linear(WIDTH, 16), "out": nn.Linear(32, WIDTH), "head": nn.Linear(WIDTH, 3),
    }  # fmt: skip
    program = assert_slims(Function(forward, **parts), image(2, 6, 8))
    group = group_with(program, "v.weight[0]")
    assert group is group_with(program, "q.weight[0]")
    assert (group.width, {m.tensor: m.multiplicity for m in group.members}["q.weight"]) == (2, 16)


def test_one_head_of_keys_for_all_queries_keeps_the_heads() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        n, positions, _ = x.shape
        q = m.q(x).view(n, positions, 4, 8).transpose(1, 2)
        k, v = (part(x)[:, None].expand(n, 4, positions, 8) for part in (m.k, m.v))
        return merged(m, F.scaled_dot_product_attention(q, k, v))

    parts = {"q": nn.Linear(8, 32), "k": nn.Linear(8, 8), "v": nn.Linear(8, 8), "out": nn.Linear(32, 3)}
    program = assert_slims(Function(forward, **parts), image(2, 6, 8))
    assert {g.width for g in program.groups} == {8}, "a dead query still reads the mean of the values"


def test_the_scale_stays_that_of_the_original_head() -> None:
    program = traced(network(fused), image(2, 6, 8))
    program = program.with_facts(attention="head_dim")
    _, slim = certified(program, plan_of(program, {"qkv": [0, 3, 5]}))
    node = next(n for n in slim.graph.nodes if "scaled_dot_product" in str(n.target))
    assert node.kwargs["scale"] == pytest.approx(8**-0.5)


def test_softmax_over_the_channels_keeps_them() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.view(*x.shape[:2], 4, 8).permute(0, 2, 3, 1) for t in m.qkv(m.embed(x)).chunk(3, -1))
        y = (q @ k.transpose(-2, -1)).softmax(-1) @ v
        return m.out(y.permute(0, 3, 1, 2).flatten(2))

    parts = {"embed": nn.Linear(8, 32), "qkv": nn.Linear(32, 96), "out": nn.Linear(32, 4)}
    program = assert_slims(Function(forward, **parts), image(2, 6, 8))
    assert group_with(program, "qkv.weight[0]").width == 4


def test_positions_with_learnt_values_stay() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        k = F.linear(x.transpose(1, 2), m.e).transpose(1, 2)
        return m.out(F.scaled_dot_product_attention(x, k, k))

    program = traced(Function(forward, e=nn.Parameter(torch.randn(3, 6)), out=nn.Linear(8, 4)), image(2, 6, 8))
    assert program.groups == ()
    assert "position by position" in reason_at(program, "e", 0)


def test_what_an_operator_is_in_an_attention() -> None:
    parts = {
        "aten.scaled_dot_product_attention.default": "whole", "aten.softmax.int": "softmax",
        "aten.matmul.default": "product", "aten.bmm.default": "product", "aten.einsum.default": "product",
        "aten.mm.default": "", "aten.log_softmax.int": "", "aten.linear.default": "", "aten.relu.default": "",
    }  # fmt: skip
    assert {name: lookup(name).attention for name in parts} == parts


def masked_rows(activation: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    def forward(m: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        q, k, v = separate(m, x)
        return merged(m, F.scaled_dot_product_attention(q, k, activation(v), attn_mask=mask[:, None, None, :]))

    return Function(forward, qkv=nn.Linear(12, 3 * WIDTH), out=nn.Linear(WIDTH, 5))


def test_a_row_that_is_wholly_masked_is_zero() -> None:
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1, 4:] = False
    program = traced(masked_rows(torch.relu), (image(3, 6, 12), mask))
    masked, slim = certified(program)
    mask[2] = False
    one, other = masked(image(3, 6, 12), mask), slim(image(3, 6, 12), mask)
    assert bool(one.isfinite().all())
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_a_masked_row_keeps_no_constant_but_zero() -> None:
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1, 4:] = False
    program = traced(masked_rows(torch.sigmoid), (image(3, 6, 12), mask))
    assert "its dead value is not a constant" in reason_at(program, "out.weight", 1)


def test_without_a_mask_a_constant_stays() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        q, k, v = separate(m, x)
        return merged(m, F.scaled_dot_product_attention(q, k, torch.sigmoid(v), is_causal=True))

    assert_slims(Function(forward, qkv=nn.Linear(12, 3 * WIDTH), out=nn.Linear(WIDTH, 5)), image(3, 6, 12), seeds=(0,))
