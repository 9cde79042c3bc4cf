"""What a program does not keep of its model, in words: state of its own, shared memory, how code asks of its calls."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from typing import Any
from unittest.mock import patch

import sympy
import torch
from torch import fx, nn
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols, statically_known_true

from swdc.capture.reachable import of_the_model
from swdc.ir.call import source_of
from swdc.ir.program import Program
from swdc.ops.in_place import operator_of

_LAYOUT, _AUTOCAST, _NUMBER = "how a tensor lies in memory", "autocast", "a number that is read from a tensor"
_INFERENCE = "inference mode"
_CHECKS = "the model's code checks numbers that it reads from tensors"
_ASKED: tuple[tuple[Any, str, str], ...] = (
    (torch.Tensor, "is_contiguous", _LAYOUT),
    (torch.Tensor, "stride", _LAYOUT),
    (torch, "is_autocast_enabled", _AUTOCAST),
    (torch.autocast, "__enter__", _AUTOCAST),
    (torch, "is_inference_mode_enabled", _INFERENCE),
    (torch.Tensor, "is_inference", _INFERENCE),
    *((torch, f"_check{kind}", _NUMBER) for kind in ("", "_value", "_index", "_type", "_is_size", "_tensor_all")),
)
_TOLD = {
    _LAYOUT: "the model's code asks how a tensor lies in memory ({}); the program does what that code does for tensors "
    "that lie as in the example",
    _AUTOCAST: "the model's code asks for autocast, or switches it ({}); the program does what that code does outside "
    "of autocast: inside of it, run the model itself",
    _INFERENCE: "the model's code asks for inference mode ({}); the program does what that code does outside of it",
    _NUMBER: f"{_CHECKS} ({{}}); the program does not",
}


@contextmanager
def asked_of_torch() -> Iterator[dict[str, dict[str, None]]]:
    """Yield the lines of models' code that meanwhile ask what a graph does not show, by what they ask."""
    lines: dict[str, dict[str, None]] = {}

    def noting(function: Any, about: str) -> Any:
        def asked(*args: Any, **kwargs: Any) -> Any:
            code = sys._getframe(1)
            known = about == _NUMBER and not (args and _depends_on_values(args[0]))
            if not known and of_the_model(code.f_globals.get("__name__")):
                lines.setdefault(about, {})[f"{code.f_code.co_filename}:{code.f_lineno}"] = None
            return function(*args, **kwargs)

        return asked

    _let_dynamo_look_up()
    with ExitStack() as stack:
        for owner, name, about in _ASKED:
            stack.enter_context(patch.object(owner, name, noting(getattr(owner, name), about)))
        yield lines


def _let_dynamo_look_up() -> None:
    """Have torch.compile note what torch's functions are: it looks once, and would find those that note who asks."""
    rules: Any = import_module("torch._dynamo.trace_rules")  # torch imports it at the first call that is captured
    rules.lookup(torch._check)


def _depends_on_values(condition: Any) -> bool:
    """Whether a condition (a number has to be a size), which code checks during export, depends on unknown values."""
    if isinstance(condition, torch.SymInt):
        condition = condition >= 0
    if isinstance(condition, torch.SymBool):
        return bool(free_unbacked_symbols(condition)) and not statically_known_true(condition)
    return isinstance(condition, torch.Tensor)


def with_what_is_unasked(program: Program, lines: dict[str, dict[str, None]]) -> Program:
    """Return a program with notes on the lines that ``asked_of_torch`` found.

    A recorded program checks all numbers that are read. The lines of other checks of numbers are those that call them,
    in place of what the graph says of them.
    """
    recorded = program.facts.example_only
    told = {about: found for about, found in lines.items() if about != _NUMBER or not recorded}
    notes = [note for note in program.facts.notes if _NUMBER not in told or not note.startswith(_CHECKS)]
    notes += [_TOLD[about].format(", ".join(list(found)[:3])) for about, found in told.items()]
    return program.with_facts(notes=tuple(dict.fromkeys(notes))) if told else program


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
    return (_TOLD[_NUMBER].format(found),)


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
