"""Deployment: a program as lean as what it computes in evaluation allows, verified after every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from swdc.errors import PassError, VerificationError
from swdc.ir.options import RECORD
from swdc.ir.program import Program
from swdc.ir.tensors import need_values
from swdc.rewriting.certificate import TOLERANCE
from swdc.rewriting.contract import Pass, PassResult, find_pass
from swdc.rewriting.pipeline import run, run_to_fixpoint
from swdc.rewriting.verify import difference

DEPLOY_PIPELINE = (
    "eliminate-identities", "flush-subnormals", "fold-batchnorm", "propagate-constants", "eliminate-unused",
)  # fmt: skip
"""The passes of a deployment, which are run in this order until none of them changes anything."""


def deploy(program: Program, outputs: Sequence[int | str] | None = None) -> Program:
    """Return a copy of a program, in evaluation mode, without what only training needs.

    Batch norms are folded into the layers beside them, subnormal weights become zero, identities go, and so do nodes,
    parameters and buffers that no output needs. ``outputs`` are those to keep, by their names in the ONNX file or by
    their positions among the tensors that the program returns; all by default. A dict or a tuple keeps its form with
    fewer items: one of one item is no bare tensor.

    After every pass the result is compared with the program before it, in float64 on random inputs, weights as they
    were before they were rounded to their type. By how much this rounding changes the output for the example
    inputs is said in ``program.facts.notes``.

    **The result is not for training**: what it computes is the same in evaluation only. It counts, saves and exports
    like any program, and knows the plan that it was slimmed by. The given program is not changed. Deploying once more
    changes nothing.

    Raises ``VerificationError``, naming the pass, where a pass changes the output by more than 1e-9, relative to its
    largest magnitude; ``PassError`` for outputs that there are not, for a program without values, and for one that was
    recorded on its example inputs.
    """
    if program.facts.captured_by == RECORD:
        raise PassError(
            "expected a program for inputs of any value, got one recorded on its example inputs; deploy the model that "
            "swdc.transplant gives, with the tools of its library"
        )
    need_values(program, PassError, "a deployment")
    whole = _in_evaluation(program)
    folded: list[str] = []

    def watch(step: Pass, before: Program, result: PassResult) -> None:
        folded.extend(result.exact)
        _verify(step, before, result)

    chosen = whole if outputs is None else _with_outputs(whole, outputs)
    deployed = run_to_fixpoint(chosen, [find_pass(name)() for name in DEPLOY_PIPELINE], watch).program
    if folded:
        error = difference(chosen, deployed, on_example=True)
        note = f"the rounding of folded weights changes the output for the example inputs by {error:.1e}"
        deployed = deployed.with_facts(notes=(*deployed.facts.notes, note))
    return deployed


def _in_evaluation(program: Program) -> Program:
    """Return a copy whose weights are what they are stored as, and that no longer stands for a masked program."""
    copy = program.clone().eval()
    origin = copy.facts.origin
    return copy if origin is None else copy.with_facts(origin=replace(origin, dense=None, folded={}))


def _with_outputs(program: Program, outputs: Sequence[int | str]) -> Program:
    """Return a program of some outputs; this is no part of the fixpoint, for positions change as outputs go."""
    step: Any = find_pass("eliminate-unused")(outputs=(outputs,) if isinstance(outputs, str) else tuple(outputs))  # type: ignore[call-arg]
    return run(program, [step], lambda _, before, result: _verify(step, before, result, step.kept(before))).program


def _verify(step: Pass, before: Program, result: PassResult, outputs: Sequence[int] | None = None) -> None:
    """Raise ``VerificationError`` unless a pass keeps the function of the program."""
    error = difference(before, result.program, result.exact, outputs)
    if not error <= TOLERANCE:
        raise VerificationError(
            f"expected the pass {step.name()} to keep what the program computes to {TOLERANCE:.0e}, relative to the "
            f"largest output, got {error:.1e}; leave that pass out, and report this"
        )
