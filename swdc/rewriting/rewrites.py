"""The rewrites that users apply to a program: insert batch norms, mask, slim, relax norms."""

from __future__ import annotations

import warnings
from dataclasses import replace

from swdc.errors import PassError, PlanError
from swdc.ir.argument_types import checked
from swdc.ir.module_tensors import is_meta, need_whole
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.rewriting.added_code import added_code
from swdc.rewriting.branches import without_branches
from swdc.rewriting.fitting import check_plan
from swdc.rewriting.pass_base import find_pass
from swdc.rewriting.pipeline import apply, run

SLIM_PIPELINE = ("fold-constant-channels", "eliminate-dead-channels")


@checked(PassError, on_cpu=True)
def insert_batchnorm(program: Program) -> Program:
    """Return a program with a batch norm after every sum of two feature maps, before its activation.

    Each starts as the identity in evaluation (section 3.3 of Tessier et al. 2022: the norm decides which channels of
    the sum live). The result holds the given program's own parameters, and new ones for the new norms; so train the
    result from here on. Raises ``PassError`` for what is no program.

    Example::

        program = swdc.insert_batchnorm(swdc.trace(model, x))      # before training
    """
    return apply(program, "insert-batchnorm")


@checked(PlanError, on_cpu=True)
def mask(program: Program, plan: Plan) -> Program:
    """Return a copy of a program with everything that writes a removed channel set to zero.

    Raises ``PlanError`` if the plan was not made for this program, or the program is on the meta device.

    Example::

        masked = swdc.mask(program, plan)
    """
    _warn_of_added_code(program)
    return _masked(_fitting(program, plan), plan)


@checked(PlanError, on_cpu=True)
def slim(program: Program, plan: Plan) -> Program:
    """Return the program with the removed channels gone. It computes what the masked program computes.

    Takes the program itself or a masked copy, and shares no tensor with it. Raises ``PlanError`` if the plan was
    not made for this program.

    Example::

        slim = swdc.slim(program, plan)
    """
    _warn_of_added_code(program)
    program = _as_stored(_fitting(program, plan))
    carried = plan
    if plan.emptied:  # a layer needs at least one channel, so one stays and is zero
        program = _masked(program, plan)
        carried = replace(plan, kept={name: kept or (0,) for name, kept in plan.kept.items()})
    result = run(program, [find_pass(name)(plan=carried) for name in SLIM_PIPELINE]).program  # type: ignore[call-arg]
    result = without_branches(result, plan, program)
    origin = result.facts.origin
    assert origin is not None
    return result.with_facts(origin=replace(origin, plan=plan))


def _masked(program: Program, plan: Plan) -> Program:
    if is_meta(program):
        raise PlanError("expected a program with values to mask, got one on the meta device; give it values first")
    return apply(program, "mask-channels", plan=plan)


def _warn_of_added_code(program: Program) -> None:
    found = added_code(program)
    if found:
        warnings.warn(
            f"expected a program that is its graph alone, got one with hooks, or another forward, at {found}, which are"
            f" not rewritten; add them to the result",
            stacklevel=4,  # the caller of the function that is checked
        )


def _fitting(program: Program, plan: Plan) -> Program:
    """Return the program under the policy of a plan; ``PlanError`` if it is not the one that the plan is for."""
    program = program.under(plan.policy)
    check_plan(plan, program)
    need_whole(program, PlanError, "removing channels")
    return program


def _as_stored(program: Program) -> Program:
    """Return a program whose biases are as they are stored: the exact values of an earlier cut are no longer meant."""
    origin = program.facts.origin
    return program if origin is None else program.with_facts(origin=replace(origin, folded={}))


@checked(PassError, on_cpu=True)
def relax_norms(program: Program) -> Program:
    """Return a slim program whose norms and statistics ignore the removed channels: **another function**.

    ``slim`` keeps the divisor of every layer, RMS and group norm, mean, variance and extremum that runs over channels,
    which makes it exact. This goes back to the fused operators of torch over the channels that are left, as other
    pruning libraries do; train the result. By how much the output changes is said in a warning and in
    ``program.facts.notes``. The result shares no tensor with the given program, and has no plan to be verified against.
    A program with nothing to relax is returned as it is. Raises ``PassError`` for what is no program.

    Example::

        relaxed = swdc.relax_norms(slim)
    """
    relaxed = apply(program, "relax-norms")
    for note in relaxed.facts.notes[len(program.facts.notes) :]:
        warnings.warn(note, stacklevel=3)  # the caller of the function that is checked
    return relaxed
