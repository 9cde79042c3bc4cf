"""torch.nn looks whether a mask is causal, which changes the kernel alone: the length is free all the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import swdc
from tests.support import Function, assert_same, image, randomise

square = nn.Transformer.generate_square_subsequent_mask


def _encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(12, 3, 16, 0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def _decoder() -> nn.Module:
    return nn.TransformerDecoder(nn.TransformerDecoderLayer(12, 3, 16, 0.0, batch_first=True), 1)


def _inputs(length: int, batch: int = 2) -> tuple[torch.Tensor, ...]:
    return image(batch, length, 12), square(length, dtype=torch.float64)


@pytest.mark.parametrize("given", [True, False])
def test_an_encoder_of_any_length(given: bool) -> None:
    def code(m: Any, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return m.t(x, mask=mask if given else square(x.shape[1], dtype=x.dtype) + 0 * mask.sum())

    model = randomise(Function(code, t=_encoder())).eval()
    program = swdc.trace(model, _inputs(7))
    assert "length" in program.facts.symbols
    for length in (4, 7, 11):
        x, mask = _inputs(length, 3 if not given else 2)
        assert_same(program(x, mask), model(x, mask), 1e-12)
        other = torch.where(torch.rand_like(mask) < 0.5, mask, 0.0)  # not causal
        assert_same(program(x, other), model(x, other), 1e-12)


def test_a_decoder_of_any_length() -> None:
    model = Function(lambda m, x, y: m.d(x, y, tgt_mask=square(x.shape[1], dtype=x.dtype)), d=_decoder())
    model = randomise(model).eval()
    program = swdc.trace(model, (image(2, 6, 12), image(2, 9, 12)))
    for length, memory in ((3, 5), (9, 6)):
        x, y = image(3, length, 12), image(3, memory, 12)
        assert_same(program(x, y), model(x, y), 1e-12)
