"""The conditions on the sizes of a program's inputs, as JSON data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from swdc.errors import ArtifactError
from swdc.ir.conditions import Condition, FixedSize
from swdc.ir.program_facts import Facts
from swdc.ir.sizes import parse


def encode_sizes(facts: Facts) -> dict[str, Any]:
    """Return the conditions and the fixed sizes of a program as JSON data; empty if there are none."""
    conditions = [{**asdict(one), "size": str(one.size)} for one in facts.conditions]
    fixed = [asdict(one) for one in facts.fixed]
    return {name: value for name, value in (("conditions", conditions), ("fixed", fixed)) if value}


def decode_sizes(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that ``encode_sizes`` wrote; raise ``ArtifactError`` for a condition on unknown symbols."""
    conditions = tuple(Condition(**{**one, "size": _size(one["size"])}) for one in facts.get("conditions", ()))
    for condition in conditions:
        if not condition.symbols <= set(facts["symbols"]):
            raise ArtifactError(
                f"expected a condition on {sorted(facts['symbols'])}, got {condition.text}; save it again"
            )
    return {"conditions": conditions, "fixed": tuple(FixedSize(**one) for one in facts.get("fixed", ()))}


def _size(text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise ArtifactError(f"{error}; save it again") from error
