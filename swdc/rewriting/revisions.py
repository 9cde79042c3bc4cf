"""What a program may be revised with: its own names, tensors of the same shapes, and values that are known by then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from swdc.errors import PassError
from swdc.ir.argument_types import shown
from swdc.ir.call import Ref, values_in
from swdc.ir.program import Program
from swdc.ops import Leaf, calls, lookup
from swdc.ops.base import is_overload


def check_revision(
    program: Program,
    tensors: Mapping[str, torch.Tensor],
    arguments: Mapping[str, Mapping[str, Any]],
    instead: Mapping[fx.Node, fx.Node],
) -> None:
    """Raise ``PassError`` unless all names are known, and calls read what there is before them."""
    _check_arguments(program, arguments)
    places = {node: place for place, node in enumerate(program.graph.nodes)}
    for node, earlier in instead.items():
        if node not in calls(program) or places.get(earlier, places[node]) >= places[node]:
            raise PassError(
                f"expected instead to map calls of the program to earlier nodes of it, got {node} with {earlier}; "
                f"take nodes of program.graph"
            )
    read = set(program.tensors)
    for node, (_, call) in calls(program).items():
        if node in instead:
            continue
        for value in values_in({**call.arguments, **arguments.get(node.name, {})}.values()):
            if isinstance(value, fx.Node) and places.get(value, places[node]) >= places[node]:
                raise PassError(f"expected arguments of {node} that stand before it, got {value}; take an earlier node")
            if isinstance(value, Ref) and value not in tensors:
                raise PassError(
                    f"expected a tensor for {value}, which {node} reads, got none; give {{**program.tensors, name: "
                    f"tensor}}"
                )
            if isinstance(value, Ref):
                read.add(value)
    _check_tensors(program, tensors, read)


def _check_arguments(program: Program, arguments: Mapping[str, Mapping[str, Any]]) -> None:
    known = {node.name: call.arguments for node, (_, call) in calls(program).items()}
    for name, changed in arguments.items():
        if name not in known:
            raise PassError(
                f"expected arguments by the names of calls, got the name {name!r:.100}; take node.name of a node in "
                f"swdc.calls(program)"
            )
        if not isinstance(changed, Mapping):
            raise PassError(f"expected the changed arguments of {name} by name, got {shown(changed)}; give a dict")
        operator = changed.get("operator")
        if "operator" in changed:
            if not isinstance(operator, str) or not (is_overload(operator) or isinstance(lookup(operator), Leaf)):
                raise PassError(
                    f"expected the operator of {name} by the name of an overload or of a module that swdc knows, got "
                    f"{shown(operator)}; take one as call.operator is in swdc.calls(program)"
                )
            continue
        strange = [each for each in changed if each not in known[name]]
        if strange:
            raise PassError(
                f"expected arguments of {name} among {', '.join(known[name])}, got {strange[0]!r:.100}; "
                f"swdc.calls(program) has them"
            )


def _check_tensors(program: Program, tensors: Mapping[str, torch.Tensor], read: set[str]) -> None:
    own = program.tensors
    for name, tensor in tensors.items():
        if name not in read:
            raise PassError(f"expected names of the program's tensors, got {name!r:.100}; program.tensors has them")
        if name in own and tensor.shape != own[name].shape:
            raise PassError(
                f"expected {name} of shape {tuple(own[name].shape)}, as it is in the program, got "
                f"{tuple(tensor.shape)}; give one of that shape"
            )
