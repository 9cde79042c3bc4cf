"""What a program does not keep of its model, in words: state of its own, shared memory, how code asks of its calls."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import sympy
import torch
from torch import fx, nn

from swdc.capture.reachable import of_the_model
from swdc.ir.call import source_of
from swdc.ops.in_place import operator_of

_LAYOUT, _AUTOCAST = "how a tensor lies in memory", "autocast"
_ASKED: tuple[tuple[Any, str, str], ...] = (
    (torch.Tensor, "is_contiguous", _LAYOUT),
    (torch.Tensor, "stride", _LAYOUT),
    (torch, "is_autocast_enabled", _AUTOCAST),
    (torch.autocast, "__enter__", _AUTOCAST),
)
_TOLD = {
    _LAYOUT: "the model's code asks how a tensor lies in memory ({}); the program does what that code does for tensors "
    "that lie as in the example",
    _AUTOCAST: "the model's code asks for autocast, or switches it ({}); the program does what that code does outside "
    "of autocast: inside of it, run the model itself",
}


@contextmanager
def asked_of_torch() -> Iterator[dict[str, dict[str, None]]]:
    """Yield the lines of models' code that meanwhile ask what a graph does not show, by what they ask."""
    lines: dict[str, dict[str, None]] = {}

    def noting(function: Any, about: str) -> Any:
        def asked(*args: Any, **kwargs: Any) -> Any:
            code = sys._getframe(1)
            if of_the_model(code.f_globals.get("__name__")):
                lines.setdefault(about, {})[f"{code.f_code.co_filename}:{code.f_lineno}"] = None
            return function(*args, **kwargs)

        return asked

    with ExitStack() as stack:
        for owner, name, about in _ASKED:
            stack.enter_context(patch.object(owner, name, noting(getattr(owner, name), about)))
        yield lines


def unasked(lines: dict[str, dict[str, None]]) -> tuple[str, ...]:
    """Return notes on the lines that ``asked_of_torch`` found."""
    return tuple(_TOLD[about].format(", ".join(list(found)[:3])) for about, found in lines.items())


def unchecked(graph: fx.Graph) -> tuple[str, ...]:
    """Return a note on the checks of numbers read from tensors (``torch._check(x.max().item() < 9)``) in a graph."""
    lines: dict[str, None] = {}
    for check in graph.nodes:
        if check.op != "call_function" or not operator_of(check.target).checks or _is_of_a_size(check.args[0]):
            continue
        asked = list(check.all_input_nodes)
        while asked:
            node = asked.pop()
            if node.op == "call_function" and _reads_number(node):
                lines[source_of(check) or check.name] = None
            elif not isinstance(node.meta.get("val"), torch.Tensor):
                asked.extend(node.all_input_nodes)
    if not lines:
        return ()
    found = ", ".join(list(lines)[:3])
    return (f"the model's code checks numbers that it reads from tensors ({found}); the program does not",)


def _is_of_a_size(condition: Any) -> bool:
    """Whether a condition says that a number is not negative, which torch asks of all that become sizes."""
    value = condition.meta.get("val") if isinstance(condition, fx.Node) else None
    asked = getattr(getattr(value, "node", None), "expr", None)
    return isinstance(asked, sympy.GreaterThan) and asked.rhs.is_number and bool(asked.rhs <= 0)


def _reads_number(node: fx.Node) -> bool:
    known = operator_of(node.target) if node.op == "call_function" else None
    return known is not None and known.steers and not known.finds


def left_behind(model: nn.Module) -> tuple[str, ...]:
    """Return notes on extra state, and on parameters that share their memory without being one parameter."""
    own = [
        path or "the model"
        for path, module in model.named_modules()
        if type(module).get_extra_state is not nn.Module.get_extra_state
    ]
    notes = [f"the program does not keep the extra state of {', '.join(own[:3])} (get_extra_state)"] if own else []
    shared = [f"{one} and {other}" for one, other in _sharing(model.named_parameters())]
    if shared:
        notes.append(
            f"{', '.join(shared[:3])} share memory, but are not one parameter: a slim program trains them apart; "
            f"assign the parameter itself, not its data"
        )
    return tuple(notes)


def _sharing(parameters: Iterable[tuple[str, nn.Parameter]]) -> Iterator[tuple[str, str]]:
    seen: dict[Any, str] = {}
    for name, parameter in parameters:
        if parameter.layout != torch.strided or parameter.is_meta or not parameter.numel():
            continue
        place = parameter.untyped_storage()._cdata, parameter.storage_offset()
        if place in seen:
            yield seen[place], name
        seen.setdefault(place, name)
