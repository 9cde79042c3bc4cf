"""How the coefficient of a penalty grows over training."""


def exponential(s: int, start: float, end: float, steps: int) -> float:
    """Return ``start (end / start)^(s / steps)``, and ``end`` from then on (eq. 3 of Tessier et al. 2022)."""
    return float(start * (end / start) ** min(s / steps, 1.0))
