"""Sizes that depend on the batch note at which batches what is asked of them turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from swdc.capture.watched_sizes import WatchedSizes

ASKED: dict[str, tuple[Callable[[torch.Tensor], Any], set[int]]] = {
    "a width": (lambda x: x.shape[1] == 4, set()),
    "itself": (lambda x: x.shape[:1] == (x.size(0),), set()),
    "less than nine": (lambda x: x.shape[0] < 9, {8, 9}),
    "elements": (lambda x: x.numel() == 12, {2, 3}),
    "a sum": (lambda x: x.size(0) * 2 + 3 == 13, {4, 5}),
    "between widths": (lambda x: 3 * x.shape[0] > x.shape[0] + 8, {3, 4}),
    "beyond the run": (lambda x: x.shape[0] > 20000, {19999, 20000, 20001}),
    "a remainder": (lambda x: x.shape[0] % 3, {3, 4, 5}),
    "text": (lambda x: f"{x.shape[0]}", set(range(3, 9))),
    "a key": (lambda x: {3: 1}.get(x.shape[0]), set(range(3, 9))),
    "a length": (len, set(range(3, 9))),
}


@pytest.mark.parametrize("name", ASKED)
def test_the_batches_at_which_an_answer_turns(name: str) -> None:
    ask, turns = ASKED[name]
    x = torch.empty(10009, 4, device="meta")
    wanted = ask(x)
    with WatchedSizes(10009) as sizes:
        assert ask(x) == wanted
    assert sizes.turns == turns


def test_torch_takes_watched_sizes() -> None:
    x = torch.empty(10009, 4, device="meta")
    with WatchedSizes(10009) as sizes:
        batch, width = x.shape
        made = x.view(batch, 2, width // 2).expand(batch, -1, -1) + torch.zeros(batch, 1, 1, device="meta")
    assert made.shape == (10009, 2, 2)
    assert not sizes.turns
