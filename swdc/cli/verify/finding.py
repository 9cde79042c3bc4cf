"""What ``swdc verify`` finds, and how it makes the programs that it compares with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from swdc.capture.trace import trace
from swdc.cli.terminal.inputs import example_inputs
from swdc.cli.terminal.models import Source, load_model
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.rewriting.certificate import Certificate
from swdc.rewriting.rewrites import insert_batchnorm, mask, slim
from swdc.rewriting.verify import verify


@dataclass(frozen=True)
class Finding:
    """The certificate of the programs made here, whether what was given is the same, and in words why."""

    certificate: Certificate
    same: bool
    finding: str

    @property
    def exact(self) -> bool:
        """Whether what was given computes exactly what the masked model computes."""
        return self.certificate.exact and self.same

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return {"exact": self.exact, "finding": self.finding, "certificate": self.certificate.to_dict()}


def remade(source: Source, example: Any, plan: Plan, attention: str) -> tuple[Program, Program, Certificate]:
    """Trace the model of a source, and return its masked and its slim program and their certificate.

    ``example`` are inputs to trace with if the source names none. Raises ``PlanError`` for a plan of another model.
    """
    model = load_model(source)
    inputs = example_inputs(source.inputs, source.seed) if source.inputs else example
    dense = trace(model.eval(), inputs, attention).under(plan.policy)
    if dense.hash() != plan.program_hash:
        normed = insert_batchnorm(dense)
        dense = normed if normed.hash() == plan.program_hash else dense
    masked, small = mask(dense, plan), slim(dense, plan)
    return masked, small, verify(masked, small, seed=source.seed)
