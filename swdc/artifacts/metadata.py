"""What a file says of itself: costs, plan, certificate and sizes."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from swdc.artifacts.onnx.signature import example_sizes
from swdc.costs.count import totals
from swdc.ir.program import Program
from swdc.rewriting.certificate import Certificate


def metadata_of(program: Program, source: Program, certificate: Certificate | None) -> dict[str, str]:
    """Return the metadata of the file; ``source`` is the program as exported, ``program`` as given."""
    found: dict[str, Any] = {"swdc.version": version("swdc")}
    found |= {f"swdc.{name}": number for name, number in totals(source).items()}
    origin = program.facts.origin
    if origin is not None:
        found |= {f"swdc.{name}.before": number for name, number in origin.before.items()}
        found |= {"swdc.plan": json.dumps(origin.plan.to_dict()), "swdc.plan.sha256": origin.plan.sha256()}
        found["swdc.attention"] = program.facts.attention
        found["swdc.sizes"] = json.dumps(example_sizes(source))
    if certificate is not None:
        told = ("exact", "max_relative_error", "seed", "dense_hash", "masked_hash", "slim_hash")
        found |= {f"swdc.certificate.{name}": getattr(certificate, name) for name in told}
    return {name: str(fact).lower() if isinstance(fact, bool) else str(fact) for name, fact in found.items()}
