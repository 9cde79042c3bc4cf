"""Running passes one after another, with the program's invariants checked in between."""

from __future__ import annotations

from collections.abc import Sequence

from swdc.contract import Pass, PassResult, find_pass
from swdc.errors import PassError, SwdcError
from swdc.program import Program, check


def run(program: Program, passes: Sequence[Pass]) -> PassResult:
    """Apply passes in order. The given program stays as it is; an error names the pass and those before it.

    Raises ``PassError`` if the order is not one that the passes declare, or if a pass fails.
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
        except Exception as error:
            if isinstance(error, SwdcError) and not isinstance(error, PassError):
                raise
            before = f" after {', '.join(done)}" if done else ""
            kind = "" if isinstance(error, PassError) else f"{type(error).__name__}: "
            raise PassError(f"the pass {name} failed{before}: {kind}{error}") from error
        program, modified = result.program, modified or result.modified
        done.append(name)
    return PassResult(program, modified)


def _check_order(passes: Sequence[Pass]) -> None:
    names = [step.name() for step in passes]
    for position, step in enumerate(passes):
        late = [name for name in step.after if name in names[position + 1 :]]
        if late:
            raise PassError(f"expected {', '.join(late)} before {step.name()}, got the order {names}; swap them")


def apply(program: Program, name: str, **options: object) -> Program:
    """Apply one installed pass by name, and return the program."""
    return run(program, [find_pass(name)(**options)]).program
