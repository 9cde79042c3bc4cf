"""What a call of the sweep is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bad_arguments.values import Takes


@dataclass(frozen=True)
class Target:
    """A public function, arguments by name that work, and what each parameter takes."""

    name: str
    function: Callable[..., Any]
    takes: Mapping[str, Takes]
    arguments: Mapping[str, Any] = field(default_factory=dict)
