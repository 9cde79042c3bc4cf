"""What tracing found of a program, as JSON data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from swdc.capture.by_recording import Record
from swdc.errors import ArtifactError
from swdc.ir.conditions import Condition, FixedSize
from swdc.ir.program_facts import Facts
from swdc.ir.sizes import parse


def encode_facts(facts: Facts) -> dict[str, Any]:
    """Return what tracing found, without the example and the origin, as JSON data of the form ``Facts``."""
    told = {
        "conditions": [{**asdict(one), "size": str(one.size)} for one in facts.conditions],
        "fixed": [asdict(one) for one in facts.fixed],
        "by_name": list(facts.by_name),
    }
    return {
        "symbols": dict(facts.symbols),
        "batch": facts.batch,
        "notes": list(facts.notes),
        "attention": facts.attention,
        "captured_by": facts.captured_by,
        "example_only": facts.example_only,
        "policy": facts.policy,
        **{name: value for name, value in told.items() if value},
    }


def decode_facts(facts: Mapping[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Return the facts that ``encode_facts`` wrote, but for the symbols and the batch.

    ``arguments`` are those of the program. Raises ``ArtifactError`` for a condition on unknown symbols, and for unknown
    arguments.
    """
    conditions = tuple(Condition(**{**one, "size": _size(one["size"])}) for one in facts.get("conditions", ()))
    for condition in conditions:
        if not condition.symbols <= set(facts["symbols"]):
            raise ArtifactError(
                f"expected a condition on {sorted(facts['symbols'])}, got {condition.text}; save it again"
            )
    by_name = facts.get("by_name", [])
    if by_name != arguments[len(arguments) - len(by_name) :]:
        raise ArtifactError(f"expected by_name as the last of {arguments}, got {by_name}; save it again")
    return {
        "notes": tuple(facts["notes"]),
        "attention": facts["attention"],
        "captured_by": facts["captured_by"],
        "example_only": facts.get("example_only", facts["captured_by"] == Record.name),  # absent from older folders
        "policy": facts["policy"],
        "conditions": conditions,
        "fixed": tuple(FixedSize(**one) for one in facts.get("fixed", ())),
        "by_name": tuple(by_name),
    }


def _size(text: str) -> Any:
    try:
        return parse(text)
    except ValueError as error:
        raise ArtifactError(f"{error}; save it again") from error
