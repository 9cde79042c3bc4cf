"""Runs passes one after another, and checks the program's invariants in between."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from swdc.errors import PassError, SwdcError, told_as
from swdc.ir.argument_types import checked
from swdc.ir.graph import SHAPE
from swdc.ir.program import Program
from swdc.rewriting.pass_base import Pass, PassResult, find_pass
from swdc.rewriting.read_checks import without_checks_of_weights

ROUNDS = 100
"""Most rounds of passes; if some still modify the program then, they undo each other's work."""

Watch = Callable[[Pass, Program, PassResult], None]
"""Is called after each pass that modified a program, with the pass, the program before it, and its result."""


def run(program: Program, passes: Sequence[Pass], watch: Watch | None = None) -> PassResult:
    """Apply passes in order. The given program stays as it is; an error names the pass and those before it.

    ``watch`` is called after each pass that modified the program. Raises ``PassError`` if the order is not one that the
    passes declare, or if a pass fails.
    """
    _check_order(passes)
    done: list[str] = []
    modified = False
    check(program)
    for step in passes:
        name = step.name()
        try:
            step.requires(program)
            result = step.apply(program)
            check(result.program)
            step.ensures(result.program)
        except Exception as error:  # passes may be the user's
            if isinstance(error, SwdcError) and not isinstance(error, PassError):
                raise
            before = f" after {', '.join(done)}" if done else ""
            kind = "" if isinstance(error, PassError) else f"{type(error).__name__}: "
            raise PassError(f"the pass {name} failed{before}: {kind}{error}") from error
        if watch is not None and result.modified:
            watch(step, program, result)
        program, modified = result.program, modified or result.modified
        if result.modified:
            program = without_checks_of_weights(program)
        done.append(name)
    return PassResult(program, modified)


def run_to_fixpoint(program: Program, passes: Sequence[Pass], watch: Watch | None = None) -> PassResult:
    """Apply passes in order, again and again, until none of them modifies the program.

    Raises as ``run`` does, and ``PassError`` if the passes never stop modifying the program.
    """
    modified = False
    for _ in range(ROUNDS):
        result = run(program, passes, watch)
        if not result.modified:
            return PassResult(program, modified)
        program, modified = result.program, True
    names = [step.name() for step in passes]
    raise PassError(
        f"expected passes that come to an end, got {names}, some of which still modify the program after {ROUNDS} "
        f"rounds; let each report modified only if it changed something, and none undo another's work"
    )


def _check_order(passes: Sequence[Pass]) -> None:
    names = [step.name() for step in passes]
    for position, step in enumerate(passes):
        late = [name for name in step.after if name in names[position + 1 :]]
        if late:
            raise PassError(f"expected {', '.join(late)} before {step.name()}, got the order {names}; swap them")


@checked(PassError)
def apply(program: Program, step: str | Pass, **options: object) -> Program:
    """Apply one pass, and return the program; the given one stays as it is.

    ``step`` is the kebab-case name of an installed pass (``swdc.pass_names`` lists them), whose fields ``options`` are,
    or a pass itself. Raises ``PassError`` if no pass has the name, if it does not take the options, or if it fails::

        program = swdc.apply_pass(program, "eliminate-identities")
    """
    if isinstance(step, Pass):
        if options:
            raise PassError(f"expected no options beside a pass, got {sorted(options)}; give them to the pass itself")
        return run(program, [step]).program
    with told_as(PassError, f"options of the pass {step!r}, got {sorted(options)}", "its fields are its options"):
        made = find_pass(step)(**options)
    return run(program, [made]).program


def check(program: Program) -> None:
    """Verify the invariants of a program; ``PassError`` names the first that does not hold."""
    tensors = program.tensors
    for node in program.graph.nodes:
        if node.op == "get_attr" and str(node.target) not in tensors:
            raise PassError(f"expected a tensor {node.target!r} for node {node.name}, but the program has none")
        if node.op in ("call_function", "call_module") and SHAPE not in node.meta:
            raise PassError(f"expected a shape on node {node.name} ({node.target}); set node.meta['{SHAPE}']")
    try:
        program.lint()
    except (RuntimeError, ValueError) as error:
        raise PassError(f"expected a well-formed graph: {error}") from error
