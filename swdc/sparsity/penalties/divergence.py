"""Notices when weights begin to diverge, by the largest magnitude of those that are pulled."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import torch
from torch import nn

from swdc.errors import PlanError
from swdc.ir.distributed import Together, local

EVERY = 8
"""Steps between two looks: one look reads all weights once."""
LOOKS = 8
GROWTH = 10.0


class Watch:
    """Looks at the pulled weights every eighth step, and raises if the largest has grown tenfold within 64 steps.

    Training moves the largest weight by a few percent in that time. Under a pull that the optimizer cannot bear, each
    step multiplies weights by a factor below -1, and tenfold is reached within a few steps.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        self._together = Together(self._parameters)
        self._seen: deque[float] = deque(maxlen=LOOKS)

    def look(self, step: int, a: float, strength: float) -> None:
        """Look at the weights before step ``step``; ``strength`` is ``a mu``. Collective."""
        if step % EVERY:
            return
        largest = self._largest()
        least = min(self._seen, default=largest)
        if largest > GROWTH * least > 0:
            raise PlanError(
                f"expected weights that stay bounded, but training has begun to diverge before step {step}: within "
                f"{EVERY * len(self._seen)} steps the largest weight that SWD may pull grew from {least:.3g} to "
                f"{largest:.3g}, under a = {a:.4g} (a mu = {strength:.3g}); SGD bears lr a mu up to 2 (1 + momentum). "
                f"Give SWD the optimizer, so that the pull is held (optimizer=, hold=True), or take "
                f"penalty='proximal', or lower a_max or the rate; and go on from a state saved before step "
                f"{max(step - EVERY * len(self._seen), 0)}"
            )
        self._seen.append(largest)

    def _largest(self) -> float:
        parts = [local(p.detach()) for p in self._parameters]
        norms = torch._foreach_norm([part for part in parts if part.numel()], float("inf"))
        device = self._parameters[0].device
        most = torch.stack([norm.to(device, torch.float64) for norm in norms]).max() if norms else torch.zeros(())
        return float(self._together.max_(most.to(device)))
