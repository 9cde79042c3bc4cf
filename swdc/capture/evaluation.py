"""Models whose own code writes to parameters where a program cannot: in ``train`` and ``eval``, or past torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import nn

from swdc.capture.restore import Restoring, restored
from swdc.errors import TraceError
from swdc.ir.module_tensors import modes_kept


@contextmanager
def in_evaluation(model: nn.Module) -> Iterator[bool]:
    """Switch a model to evaluation, and back at the end, with all that a ``train`` of its own has changed.

    Yields whether a module of it has a way of its own to switch.

    Raises ``TraceError`` if that changes parameters: the program, which shares them, would be right in one mode only.
    """
    usual = (nn.Module.train, nn.Module.eval)
    switching = next((each for each in model.modules() if (type(each).train, type(each).eval) != usual), None)
    with modes_kept(model), nullcontext() if switching is None else restored(model, parameters=True) as before:
        model.eval()
        changed = "" if before is None else before.overwritten(model)
        if changed:
            raise TraceError(
                f"expected a model whose parameters stay as they are when it is switched to evaluation, but "
                f"{type(switching).__name__}.train changes {changed}; call model.eval() before the trace"
            )
        yield switching is not None


def check_parameters(model: nn.Module, after_a_run: Restoring) -> None:
    """Raise ``TraceError`` if the forward of a model writes to a parameter in a way that torch does not see."""
    changed = after_a_run.overwritten(model)
    if changed:
        raise TraceError(
            f"expected a forward that leaves parameters as they are, got one that writes to {changed} through .data, "
            f"which no program can do; write to it outside of forward, after each step of the optimizer say"
        )
