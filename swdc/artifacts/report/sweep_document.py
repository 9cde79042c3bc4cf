"""The one form of the document of a sweep: ``swdc sweep`` makes it, and a page is drawn from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from swdc.errors import ExportError
from swdc.ir.data_forms import check_form

PLACE = ("target", "a_max", "a_min")
"""What says where a cell stands, besides its seed."""


@dataclass(frozen=True)
class Best:
    """The best bounds for one target."""

    target: Annotated[float, "between 0 and 1"]
    a_max: float
    a_min: float
    value: Annotated[float, "mean of the metric"]
    seeds: Annotated[int, "over how many"]


@dataclass(frozen=True)
class SweepDocument:
    """What ``swdc sweep`` prints; the study itself is a database of optuna."""

    study: str
    storage: str
    metric: Annotated[str, "what the best bounds are best in"]
    best: Sequence[Best]
    cells: Annotated[
        Sequence[Mapping[str, float | None]], "target, a_max, a_min, seed, and the results of the training by name"
    ]
    failed: Annotated[Sequence[Mapping[str, Any]], "the same of those that failed, with a reason"]

    def to_dict(self) -> dict[str, Any]:
        """Return the document as plain data, ready for JSON."""
        return asdict(self)


def check_sweep(data: Mapping[str, Any]) -> None:
    """Raise ``ExportError`` unless data are what ``swdc sweep --json`` prints."""
    try:
        check_form(dict(data), SweepDocument)
        missing = [name for cell in data["cells"] for name in (*PLACE, "seed") if cell.get(name) is None]
        if missing:
            raise ValueError(f"a cell has no {missing[0]}")
    except ValueError as error:
        raise ExportError(
            f"expected the document that swdc sweep --json prints, got one in which {error}; give it as it is"
        ) from error
