"""Recurrent layers over packed sequences: units go, and every step counts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import swdc
from tests.support import Function, image

LAYERS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


def network(kind: str, padding: float = 0.0, ordered: bool = True, **options: Any) -> nn.Module:
    def forward(m: Any, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(torch.relu(m.a(x)), lengths, m.r.batch_first, enforce_sorted=ordered)
        padded, _ = pad_packed_sequence(m.r(packed)[0], m.r.batch_first, padding)
        return m.d(padded)

    width = 6 * (2 if options.get("bidirectional") else 1)
    return Function(forward, a=nn.Linear(5, 4), r=LAYERS[kind](4, 6, **options), d=nn.Linear(width, 3)).double().eval()


def traced_on(model: nn.Module, lengths: list[int], batch_first: bool = True) -> Any:
    x = image(len(lengths), max(lengths), 5)
    example = (x if batch_first else x.transpose(0, 1), torch.tensor(lengths))
    with pytest.warns(UserWarning, match="recorded on the example inputs"):
        return swdc.trace(model, example)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("options", [{"batch_first": True}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("lengths", [[4, 3], [2, 4]])
def test_units_and_inputs_go(kind: str, options: dict[str, Any], lengths: list[int]) -> None:
    model = network(kind, ordered=lengths[0] > lengths[1], **options)
    program = traced_on(model, lengths, "batch_first" in options)
    assert [group.width for group in program.groups] == [4, 6]
    plan = swdc.plan(program, 0.5)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    certificate = swdc.verify(masked, slim)
    assert certificate.exact, certificate
    assert certificate.effect > 1e-6


@pytest.mark.parametrize("kind", LAYERS)
def test_every_step_of_every_sequence_counts(kind: str) -> None:
    program = traced_on(network(kind, batch_first=True), [4, 3])
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
    steps, places = 4 + 3, 2 * 4
    assert swdc.count(program).macs == places * (5 * 4 + 6 * 3) + steps * gates * 6 * (4 + 6)


def test_padding_with_another_value_than_zero_keeps_the_units() -> None:
    program = traced_on(network("gru", padding=1.0, batch_first=True), [4, 3])
    assert [group.width for group in program.groups] == [4]
    (held,) = (held for held in program.explanation.held if "dead value" in str(held.reason))
    assert "aten.linear" in str(held.reason)
