"""Deployment: removes all that evaluation does not need from a program, and verifies every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from swdc.errors import PassError, VerificationError
from swdc.ir.argument_types import checked
from swdc.ir.module_tensors import need_values
from swdc.ir.program import Program
from swdc.rewriting.certificate import TOLERANCE
from swdc.rewriting.pass_base import Pass, PassResult, find_pass
from swdc.rewriting.pipeline import run, run_to_fixpoint
from swdc.rewriting.verify import difference

DEPLOY_PIPELINE = (
    "eliminate-identities", "flush-subnormals", "fold-batchnorm", "propagate-constants", "eliminate-unused",
)  # fmt: skip
"""The passes of a deployment, which run in this order until none of them changes anything."""


@checked(PassError, on_cpu=True)
def deploy(program: Program, outputs: str | Sequence[int | str] | None = None) -> Program:
    """Return a copy of a program, in evaluation mode, without the parts that only training needs.

    Batch norms are folded into the layers beside them, subnormal weights become zero, and identities are removed. So
    are nodes, parameters and buffers that no output needs. ``outputs`` are the outputs to keep, by their names in the
    ONNX file or by their positions among the tensors that the program returns; all by default. A dict or a tuple keeps
    its form with fewer items: with one item left, it is still not a bare tensor.

    After every pass the result is compared with the program before it, in float64 on random inputs, with the
    weights before they are rounded to their type. ``program.facts.notes`` says by how much this rounding changes the
    output for the example inputs.

    **The result is not for training**: it computes the same in evaluation only. It counts, saves and exports
    like any program, and knows the plan that it was slimmed by. The given program is not changed. Deploying once more
    changes nothing.

    Raises ``VerificationError``, which names the pass, if a pass changes the output by more than 1e-9, relative to its
    largest magnitude. Raises ``PassError`` for outputs that do not exist, for a program without values, and for a
    program that was recorded on its example inputs.

    Example::

        deployed = swdc.deploy(slim)
    """
    if program.facts.example_only:
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
    """Return a copy in evaluation mode that computes with the stored weights, and no longer counts as masked."""
    copy = program.clone().eval()
    origin = copy.facts.origin
    return copy if origin is None else copy.with_facts(origin=replace(origin, dense=None, folded={}))


def _with_outputs(program: Program, outputs: str | Sequence[int | str]) -> Program:
    """Return a program with some outputs; this runs before the fixpoint, because it changes positions of outputs."""
    chosen = (
        [outputs] if isinstance(outputs, str) else [each if isinstance(each, str) else int(each) for each in outputs]
    )
    step: Any = find_pass("eliminate-unused")(outputs=tuple(chosen))  # type: ignore[call-arg]
    return run(program, [step], lambda _, before, result: _verify(step, before, result, step.kept(before))).program


def _verify(step: Pass, before: Program, result: PassResult, outputs: Sequence[int] | None = None) -> None:
    """Raise ``VerificationError`` unless a pass keeps the function of the program."""
    error = difference(before, result.program, result.exact, outputs)
    if not error <= TOLERANCE:
        raise VerificationError(
            f"expected the pass {step.name()} to keep what the program computes to {TOLERANCE:.0e}, relative to the "
            f"largest output, got {error:.1e}; leave that pass out, and report this"
        )
