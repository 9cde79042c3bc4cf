"""Whether a plan fits a program."""

from __future__ import annotations

from swdc.errors import PlanError
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ir.trace_options import FREE
from swdc.rewriting.branches import check_branches


def check_plan(plan: Plan, program: Program) -> None:
    """Raise ``PlanError`` if the plan was made for another program or does not fit its groups."""
    if program.hash() != plan.program_hash:
        raise PlanError(
            f"expected a plan of this program (graph hash {program.hash()[:12]}), got one of another "
            f"({plan.program_hash[:12]}); make the plan from the program that it is applied to"
        )
    check_branches(plan, program)
    check_kept(plan, program)


def check_kept(plan: Plan, program: Program) -> None:
    """Raise ``PlanError`` if the channels that a plan keeps are not some of a program's groups.

    A pass asks this where the program is already another than the plan is for: constants were folded, say.
    """
    widths = {group.name: group.width for group in program.groups}
    least = 0 if program.facts.policy == FREE else 1
    for name, kept in plan.kept.items():
        if name not in widths:
            raise PlanError(f"expected groups of this program, got {name!r}; program.groups lists them")
        if plan.widths.get(name) != widths[name]:
            raise PlanError(f"expected {widths[name]} as the width of group {name!r}, got {plan.widths.get(name)}")
        unfit = len(kept) < least or len(set(kept)) != len(kept) or not set(kept) <= set(range(widths[name]))
        if unfit:
            raise PlanError(
                f"expected between {least} and {widths[name]} distinct channels of group {name!r} to be kept, "
                f"got {len(kept)} in {min(kept, default=None)}..{max(kept, default=None)}"
            )
