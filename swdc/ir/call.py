"""One operator call of a program, its arguments bound by name, for a function node and a module node alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import fx

from swdc.ir.graph import SHAPE, STACK_TRACE
from swdc.ir.groups import Reason
from swdc.ir.sizes import Shape


class Ref(str):
    """The name of a parameter or buffer that an operator reads."""

    __slots__ = ()


Value = fx.Node | Ref


@dataclass(frozen=True)
class Call:
    """An operator applied in a graph.

    ``arguments`` binds every parameter of the operator's schema, defaults included: a node or a ``Ref`` for a
    tensor, the literal otherwise.
    """

    node: fx.Node
    operator: str
    arguments: Mapping[str, Any]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def shape(self) -> Shape:
        """The shape of the result; if the result is a tuple, read ``node.meta`` instead."""
        shape: Shape = self.node.meta[SHAPE]
        return shape

    def tensors(self) -> list[Value]:
        """Return the nodes and tensor names among the arguments, including those in lists."""
        return values_in(self.arguments.values())

    def reason(self, text: str, edit: str = "") -> Reason:
        """Return a reason that names this operator, its node and the user's source line.

        ``edit`` says what to change in the model to free the channels.
        """
        return Reason(text, self.operator, self.node.name, source_of(self.node), edit)


def values_in(arguments: Any) -> list[Value]:
    """Return the nodes and tensor names in nested lists of arguments, in order."""
    found: list[Value] = []
    for argument in arguments:
        if isinstance(argument, fx.Node | Ref):
            found.append(argument)
        elif isinstance(argument, list | tuple):
            found.extend(values_in(argument))
    return found


def tensors_behind(operands: Iterable[Value]) -> set[str]:
    """Return the tensors of the model that those operands are computed from which need nothing else."""
    found: set[str] = set()
    for operand in operands:
        tensors, pending, seen = set[str](), [operand], set[Value]()
        while pending:
            value = pending.pop()
            if isinstance(value, Ref):
                tensors.add(str(value))
            elif value.op == "call_function" and value not in seen:
                seen.add(value)
                pending += [resolve(before) for before in value.all_input_nodes]
            elif value not in seen:
                break  # an input, or a layer
        else:
            found |= tensors
    return found


@cache
def schema_names(target: Any) -> tuple[tuple[str, Any], ...]:
    """Return the names and defaults of the parameters of an operator."""
    return tuple((a.name, a.default_value) for a in target._schema.arguments)


def bind(node: fx.Node) -> dict[str, Any]:
    """Bind the arguments of a ``call_function`` node by name, or by position if it calls a Python builtin."""
    keywords = {k: resolve(v) for k, v in node.kwargs.items()}
    return bind_arguments(node.target, [resolve(a) for a in node.args], keywords)


def bind_arguments(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Bind arguments to the names in an operator's schema, defaults included."""
    if not isinstance(target, torch._ops.OpOverload):
        return {str(i): a for i, a in enumerate(args)} | dict(kwargs)
    names = schema_names(target)
    bound = dict(names)
    bound.update({name: value for (name, _), value in zip(names, args, strict=False)})
    bound.update(kwargs)
    return bound


def resolve(argument: Any) -> Any:
    """Return an argument in which every node that fetches a tensor is replaced by the name of that tensor."""
    if isinstance(argument, fx.Node):
        return Ref(argument.target) if argument.op == "get_attr" else argument
    if isinstance(argument, list | tuple):
        return [resolve(a) for a in argument]
    return argument


def unbind(target: Any, bound: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return positional and keyword arguments that pass ``bound``; trailing defaults are left out."""
    schema = target._schema.arguments
    positional = [bound[a.name] for a in schema if not a.kwarg_only]
    defaults = [a.default_value for a in schema if not a.kwarg_only]
    while positional and not isinstance(positional[-1], fx.Node) and positional[-1] == defaults[len(positional) - 1]:
        positional.pop()
    keywords = {a.name: bound[a.name] for a in schema if a.kwarg_only and bound[a.name] != a.default_value}
    return tuple(positional), keywords


def source_of(node: fx.Node) -> str:
    """Return ``file:line`` of the user's code that a node was traced from (the innermost frame outside torch)."""
    best = ""
    for line in str(node.meta.get(STACK_TRACE) or "").splitlines():
        if not line.lstrip().startswith('File "'):
            continue
        path, _, rest = line.strip().removeprefix('File "').partition('", line ')
        inside_torch = "/torch/" in path.replace("\\", "/")
        if not best or not inside_torch:
            best = f"{path}:{rest.split(',')[0]}"
    return best
