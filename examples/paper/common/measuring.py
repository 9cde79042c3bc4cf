"""What is measured of a trained network: accuracies around the removal, and for channels the slim network."""

from __future__ import annotations

from typing import Any

from torch import nn

import swdc
from common.tasks import Task, evaluate
from swdc.ir.program import Program
from swdc.sparsity.method import Method

Results = dict[str, Any]


def measure(task: Task, model: nn.Module, method: Method | None, structure: str) -> Results:
    """Return the results of a training, accuracies in percent.

    ``accuracy`` is measured after the removal; ``change`` is by how much the removal changed it. For channels the
    network is slimmed: ``accuracy_slim`` stands beside that of the masked one, with the certificate and
    the paper's operations.
    """
    before = evaluate(task, model)
    parameters = sum(p.numel() for p in model.parameters())
    if method is None:
        counts = _counts(model, "") if isinstance(model, Program) else {"parameters": parameters}
        return {**before, **counts}
    if structure == "weights":
        method.remove_()
        left = sum(int(p.count_nonzero()) for p in model.parameters())
        after = evaluate(task, model)
        found = {"parameters": parameters, "parameters_left": left}
    else:
        assert isinstance(model, Program)
        after, found = _slimmed(task, model, method)
    return {**after, "accuracy_before": before["accuracy"], "change": after["accuracy"] - before["accuracy"], **found}


def _slimmed(task: Task, program: Program, method: Method) -> tuple[dict[str, float], Results]:
    program.eval()
    plan = method.plan()
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    certificate = swdc.verify(masked, slim)
    after = evaluate(task, masked)
    found = {
        "accuracy_slim": evaluate(task, slim)["accuracy"], "exact": certificate.exact,
        "max_relative_error": certificate.max_relative_error, "certificate_notes": list(certificate.notes),
        **_counts(program, ""), **_counts(slim, "_left"),
    }  # fmt: skip
    return after, found


def _counts(program: Program, suffix: str) -> dict[str, int]:
    """Return the counts of a program; operations as the paper's text counts them, and as the authors' code does."""
    counted, by_code = swdc.count(program), swdc.count(program, "reference")
    return {
        f"parameters{suffix}": counted.parameters, f"operations{suffix}": counted.operations,
        f"operations_reference{suffix}": by_code.operations,
    }  # fmt: skip
