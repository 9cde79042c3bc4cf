"""Capture by ``torch.export``: the model's code is followed once, with symbols for the sizes that may change."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx.graph import _PyTreeInfo

from swdc.capture.captured import Captured, frozen_reads
from swdc.capture.inlining import inlined
from swdc.capture.recurrent_shapes import shapes_alone
from swdc.errors import TraceError
from swdc.ir.options import EXPORT

_OF_THE_MODEL = (InputKind.PARAMETER, InputKind.BUFFER)


def export(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], dims: Any = None) -> Captured:
    """Return the graph of a model. ``dims`` gives the dynamic dimensions of each argument; without, all are fixed.

    Raises ``TraceError`` for control flow that depends on values, and whatever ``torch.export`` raises.
    """
    shapes = None if dims is None else dict(inspect.signature(model.forward).bind(*dims[0], **dims[1]).arguments)
    with shapes_alone():
        exported = torch.export.export(model, args, dict(kwargs), dynamic_shapes=shapes, strict=False)
    flat = inlined(exported.graph_module)
    specs = exported.graph_signature.input_specs
    lifted = {s.arg.name: s for s in specs if s.kind != InputKind.USER_INPUT and hasattr(s.arg, "name")}
    names = {name: str(spec.target) for name, spec in lifted.items()}
    kinds = [spec.kind for spec in exported.graph_signature.output_specs]
    _keep_user_outputs(flat.graph, [kind == OutputKind.USER_OUTPUT for kind in kinds])
    return Captured(
        graph=flat.graph,
        tensors=names,
        constants=_constants(exported, [str(s.target) for s in lifted.values() if s.kind not in _OF_THE_MODEL]),
        signature=_signature(exported),
        by=EXPORT,
        notes=frozen_reads(model, [names[name] for name in flat.without_gradients if name in names]),
    )


def _keep_user_outputs(graph: fx.Graph, theirs: list[bool]) -> None:
    """Leave out what export returns beside the model's results: the new values of buffers that it overwrites."""
    (output,) = graph.find_nodes(op="output")
    output.args = (tuple(value for value, mine in zip(output.args[0], theirs, strict=True) if mine),)


def _constants(exported: ExportedProgram, names: list[str]) -> dict[str, torch.Tensor]:
    constants = {name: exported.constants.get(name) for name in names}
    for name, constant in constants.items():
        if not isinstance(constant, torch.Tensor):
            raise TraceError(
                f"expected tensors as constants of the model, got {name} of type {type(constant).__name__}; take it "
                f"out of the model's forward"
            )
    return constants


def _signature(exported: ExportedProgram) -> _PyTreeInfo:
    signature = exported.module_call_graph[0].signature
    assert signature is not None
    spec = exported.call_spec.in_spec
    names = list(signature.forward_arg_names or [])
    if not names:
        names = [f"arg_{i}" for i in range(spec.child(0).num_children)] + list(spec.child(1).context)
    return _PyTreeInfo(names, spec, exported.call_spec.out_spec)
