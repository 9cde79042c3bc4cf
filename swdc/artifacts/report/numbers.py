"""Numbers and texts as a reader sees them."""

from __future__ import annotations

NONE = "–"


def number(value: int | float | str | None) -> str:
    """Return a number with separators of thousands, and about four digits if it is not whole; text as it is."""
    if value is None:
        return NONE
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (value.is_integer() and abs(value) >= 1000):
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.1f}"
    return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.4g}"


def error(value: float | None) -> str:
    """Return a relative error; one that is missing in the data was not finite."""
    return "not finite" if value is None else f"{value:.2e}"


def percent(share: float) -> str:
    """Return a share in percent, with one digit, never rounded up to everything or down to nothing."""
    shown = f"{100 * share:.1f}"
    if share < 1 and shown == "100.0":
        return "more than 99.9 %"
    if share > 0 and shown == "0.0":
        return "less than 0.1 %"
    return f"{shown} %"


def share(target: float) -> str:
    """Return a share that was asked for in percent, with the digits that it has."""
    return f"{100 * target:.6g} %"


def removed(pair: dict[str, float]) -> float:
    """Return the share of a pair of numbers, before and after, that is gone; 0 if there was nothing."""
    return 1 - pair["after"] / pair["before"] if pair["before"] else 0.0


def sentence(text: str) -> str:
    """Return a text whose first letter is large; the others are left, because names stand in it."""
    return text[:1].upper() + text[1:]
