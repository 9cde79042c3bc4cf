"""Plain data as JSON holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any


def plain(data: Any) -> Any:
    """Return data as JSON can hold it: numbers that are not finite become null, and text any file can hold."""
    if isinstance(data, str):
        return str(data).encode("utf-8", "replace").decode("utf-8")  # a path may hold halves of a character
    if isinstance(data, bool | int | None):
        return data
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {plain(str(key)): plain(value) for key, value in data.items()}
    if isinstance(data, list | tuple | Set):
        return [plain(value) for value in data]
    return plain(str(data))
