"""Names that are not taken yet."""

from __future__ import annotations

from collections.abc import Container


def unused(base: str, taken: Container[str]) -> str:
    """Return ``base``, or with the first number from 2 on that makes it a name of its own."""
    name, number = base, 2
    while name in taken:
        name, number = f"{base}_{number}", number + 1
    return name
