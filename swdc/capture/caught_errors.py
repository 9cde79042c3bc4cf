"""Code that catches errors: a program goes the way of the example, whatever the values are."""

from __future__ import annotations

import dis
from collections.abc import Iterator
from itertools import pairwise
from types import CodeType, FunctionType

from torch import fx, nn

from swdc.capture.reachable import of_the_model
from swdc.ops.base import name_of
from swdc.ops.failing import fails_by_values


def caught_errors(model: nn.Module, graph: fx.Graph) -> tuple[str, ...]:
    """Return a note if a model calls what fails for some values, and its code catches errors."""
    failing = next(filter(fails_by_values, graph.nodes), None)
    lines = [] if failing is None else [line for code in _codes(model) for line in _catching(code)]
    if failing is None or not lines:
        return ()
    return (
        f"{name_of(failing.target)} fails for some values, and the model's code catches errors "
        f"({', '.join(dict.fromkeys(lines[:3]))}); the program does what the model does where nothing fails",
    )


def _codes(model: nn.Module) -> Iterator[CodeType]:
    """Yield the code of the model's own classes, and what is nested in it."""
    classes = {cls for module in model.modules() for cls in type(module).__mro__ if of_the_model(cls.__module__)}
    pending = [f.__code__ for cls in classes for f in vars(cls).values() if isinstance(f, FunctionType)]
    while pending:
        code = pending.pop()
        yield code
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _catching(code: CodeType) -> Iterator[str]:
    """Yield the lines of a code's ``except``, with a class of errors or without."""
    for before, instruction in pairwise(dis.get_instructions(code)):
        every = (before.opname, instruction.opname) == ("PUSH_EXC_INFO", "POP_TOP")
        if every or instruction.opname == "CHECK_EXC_MATCH":
            line = instruction.positions.lineno if instruction.positions is not None else None
            yield f"{code.co_filename}:{line or code.co_firstlineno}"
