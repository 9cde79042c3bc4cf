"""One network three times over: dense, slim by us, and pruned by Torch-Pruning to the same multiply-adds."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from examples.bench.networks.entry import Entry, call
from examples.bench.networks.randomise import random_network
from examples.bench.peer.peer import magnitude_pruner
from swdc import Program, count, deploy, plan, slim, trace

BUDGET = "macs"
"""What the share that is left is one of."""
CLOSE = 0.03
"""Share of our multiply-adds by which the peer's may differ."""
STEPS = 10
"""Shares of the channels that are tried for the peer, at most."""


@dataclass(frozen=True)
class Variant:
    """A network ready for deployment, and the multiply-adds that it has for one sample."""

    program: Program
    macs: int


def dense_and_ours(network: Entry, share: float, round_to: int, seed: int) -> tuple[nn.Module, Variant, Variant]:
    """Return a network of random weights, its dense variant, and the one with a share of the multiply-adds left.

    Every group of channels loses the same share: random weights do not tell one layer from another.
    """
    model, inputs = random_network(network, seed)
    program = trace(model, inputs)
    chosen = plan(program, 1 - share, budget=BUDGET, scope="group", round_to=round_to)
    return model, _deployed(program), _deployed(slim(program, chosen))


def peers(model: nn.Module, inputs: Any, macs: int, round_to: int, finish: Callable[[nn.Module], None]) -> Variant:
    """Return what Torch-Pruning makes of a network with about as many multiply-adds, its share found by bisection.

    It is used as documented, ``finish`` with what that leaves to the user. Where its rounding allows nothing within
    ``CLOSE``, the closest is taken. Raises what it raises.
    """
    low, high, share = 0.0, 1.0, 0.5
    closest: tuple[float, Program] | None = None
    for _ in range(STEPS):
        program = trace(_pruned(model, inputs, share, round_to, finish), inputs)
        got = count(program).macs
        distance = abs(got / macs - 1)
        if closest is None or distance < closest[0]:
            closest = distance, program
        if distance <= CLOSE:
            break
        low, high = (share, high) if got > macs else (low, share)
        share = (low + high) / 2
    assert closest is not None
    return _deployed(closest[1])


def _pruned(
    model: nn.Module, inputs: Any, share: float, round_to: int, finish: Callable[[nn.Module], None]
) -> nn.Module:
    mine = copy.deepcopy(model)
    magnitude_pruner(mine, call(inputs), share, round_to).step()
    finish(mine)
    with torch.no_grad():
        mine.eval()(*call(inputs)[0], **call(inputs)[1])
    return mine


def _deployed(program: Program) -> Variant:
    return Variant(deploy(program), count(program).macs)
