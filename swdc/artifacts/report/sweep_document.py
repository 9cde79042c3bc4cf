"""The document of a sweep, as ``swdc sweep --json`` prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swdc.errors import ExportError
from swdc.ir.data_forms import check_form

PLACE = ("target", "a_max", "a_min")
"""What says where a cell stands, besides its seed."""


@dataclass(frozen=True)
class Best:
    """The best bounds of SWD's coefficient for one share, with the mean of the metric over ``seeds`` seeds."""

    target: float
    a_max: float
    a_min: float
    value: float
    seeds: int


@dataclass(frozen=True)
class Sweep:
    """What ``swdc sweep --json`` prints. Cells hold the share (``target``), the bounds, the seed, and the results."""

    study: str
    storage: str
    metric: str
    best: Sequence[Best]
    cells: Sequence[Mapping[str, float | None]]
    failed: Sequence[Mapping[str, Any]]


def check_sweep(data: Mapping[str, Any]) -> None:
    """Raise ``ExportError`` unless data are what ``swdc sweep --json`` prints."""
    try:
        check_form(dict(data), Sweep)
        missing = [name for cell in data["cells"] for name in (*PLACE, "seed") if cell.get(name) is None]
        if missing:
            raise ValueError(f"a cell has no {missing[0]}")
    except ValueError as error:
        raise ExportError(
            f"expected the document that swdc sweep --json prints, got one in which {error}; give it as it is"
        ) from error
