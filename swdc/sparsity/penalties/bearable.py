"""How strong a pull by the gradient may be before the optimizer diverges under it.

SGD with rate ``lr``, momentum ``m`` and dampening ``d`` moves a weight under a pull ``c w`` by ``v <- m v + (1 - d)
c w``, ``w <- w - lr v``. The characteristic polynomial is ``z^2 - (1 + m - lr c (1 - d)) z + m``. Both of its roots lie
in the unit circle if and only if ``lr c (1 - d) < 2 (1 + m)``. With Nesterov's momentum the bound is ``2 (1 + m) /
(1 + 2 m)``.

Adam, AdamW and NAdam divide gradients by their own size, so that no number bounds ``c``: they do not diverge. Under
them the pull does not enter the gradients (``swdc.sparsity.penalties.adaptive``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import ASGD, SGD, Adam, AdamW, NAdam, Optimizer

_PLAIN, _ADAPTIVE = (SGD, ASGD), (Adam, AdamW, NAdam)


def is_plain(optimizer: Optimizer | None) -> bool:
    """Whether an optimizer adds gradients up without dividing them by their size, in a way that is known here."""
    return isinstance(optimizer, _PLAIN)


def is_adaptive(optimizer: Optimizer | None) -> bool:
    """Whether an optimizer divides gradients by their second moments, in a way that is known here."""
    return isinstance(optimizer, _ADAPTIVE)


def limit(group: Mapping[str, Any]) -> float:
    """Return from which ``lr c`` on plain descent diverges, for the options of a parameter group of SGD or ASGD."""
    momentum = float(group.get("momentum", 0.0))
    if group.get("nesterov", False):
        return 2 * (1 + momentum) / (1 + 2 * momentum)
    dampening = float(group.get("dampening", 0.0)) if momentum else 0.0
    return 2 * (1 + momentum) / max(1 - dampening, 1e-12)


def bearable(group: Mapping[str, Any]) -> float:
    """Return the largest ``lr c`` at which the pull is held: half of the limit, and at most 1.

    At half of the limit the noise of the gradients moves pulled weights least. With 1, a single step takes a weight to
    zero, and more only takes it past.
    """
    return min(1.0, limit(group) / 2)
