"""Seeding torch's random generators, as often as a run is repeated."""

from __future__ import annotations

from functools import cache

import torch


def seed_all(seed: int) -> None:
    """Seed the generators of all devices, as ``torch.manual_seed`` does, but at once where there is nothing but a CPU.

    Without an accelerator ``torch.manual_seed`` keeps a call for each kind of device that may come to be used, together
    with the text of the whole stack. That takes longer than a run of a small network, and what is kept piles up.
    """
    if _has_accelerator():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(int(seed))


@cache
def _has_accelerator() -> bool:
    return torch.accelerator.is_available()
