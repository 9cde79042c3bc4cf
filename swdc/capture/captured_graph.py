"""The result of capture: a flat graph of operator calls, in the same form for every way of capture."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, TypeGuard

import torch
from torch import fx, nn
from torch.fx.graph import _PyTreeInfo
from torch.utils import _pytree as pytree

from swdc.errors import TraceError
from swdc.ir.conditions import Condition, FixedSize
from swdc.ir.result_classes import sizes_as_tuples
from swdc.ir.sizes import Shape, simplify
from swdc.ops.copies import detaches
from swdc.ops.in_place import operator_of, overwrites

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)

STILL = "still"
"""Key of a node's meta: whether the model calls the operator with gradients switched off."""


@dataclass(frozen=True)
class Value:
    """A tensor whose shape and type are known, but not its values."""

    shape: Shape
    dtype: torch.dtype


@dataclass(frozen=True)
class Captured:
    """A captured model.

    Some nodes (placeholders or ``get_attr``) stand for a tensor of the model: ``tensors`` maps the name of the node to
    the name of the tensor. Tensors that the model does not own are in ``constants``. The remaining placeholders are
    the inputs, one for each leaf of the arguments, and the output node holds the leaves of the result.
    ``replaced`` maps each buffer in whose place the model puts another tensor to the node of that tensor.
    ``counted`` says how far counters of batch norms count that the model's code trains in evaluation, too.
    ``differences`` are the paths of the modules that compute something else in training than in evaluation; ``None``
    if nobody has looked for them.

    ``doubtful`` are batches that the way of capture did not reason about, so that program and model may differ there.

    ``empties`` says that the way did not reason about searches that find nothing, but claims to be right there.
    ``assumed`` are places that ask whether a condition holds anywhere, or everywhere, and that were answered so that
    code does more; where the answer is another, nobody has looked.

    ``conditions`` say for which sizes the graph is right, and ``fixed`` which sizes the model's code has fixed.

    ``by`` names the way of capture; ``example_only`` is the way's. ``attempts`` names the ways that were tried before
    it, each with the reason why it failed. A way leaves these as they are; ``swdc.capture.ways`` fills them in.
    """

    graph: fx.Graph
    tensors: Mapping[str, str]
    constants: Mapping[str, torch.Tensor]
    signature: _PyTreeInfo
    notes: tuple[str, ...] = ()
    replaced: Mapping[str, fx.Node] = field(default_factory=dict)
    counted: Mapping[str, int] = field(default_factory=dict)
    differences: tuple[str, ...] | None = None
    doubtful: tuple[int, ...] = ()
    empties: bool = False
    assumed: frozenset[str] = frozenset()
    conditions: tuple[Condition, ...] = ()
    fixed: tuple[FixedSize, ...] = ()
    by: str = ""
    example_only: bool = False
    attempts: tuple[tuple[str, str], ...] = ()

    @property
    def fixes_batch(self) -> bool:
        """Whether the leading size of the first tensor is a number."""
        first: Shape = next((shape for shape in self.input_shapes() if shape), ())
        return bool(first) and isinstance(first[0], int)

    def input_shapes(self) -> list[Shape]:
        """Return the shapes of the inputs, in order; an input that is not a tensor has an empty shape."""
        placeholders = self.graph.find_nodes(op="placeholder")
        return [shape_of_value(n.meta.get("val")) for n in placeholders if n.name not in self.tensors]


def shape_of_value(value: Any) -> Any:
    """Return the Shape of a traced tensor, a tuple of Shapes for several tensors, and ``()`` for anything else."""
    if isinstance(value, Value):
        return value.shape
    if isinstance(value, torch.Tensor):
        sizes: list[Any] = list(value.shape)
        return tuple(simplify(s.node.expr) if isinstance(s, torch.SymInt) else int(s) for s in sizes)
    if isinstance(value, list | tuple):
        return tuple(shape_of_value(v) for v in value)
    return ()


def signature(model: nn.Module, inputs: pytree.TreeSpec, outputs: pytree.TreeSpec) -> _PyTreeInfo:
    """Return how a model is called, given the structure of its positional and keyword arguments and of its result."""
    positional, keywords = inputs.children()
    named = [p.name for p in inspect.signature(model.forward).parameters.values() if p.kind in _POSITIONAL]
    names = named[: positional.num_children]
    names += [f"arg_{i}" for i in range(len(names), positional.num_children)]
    return _PyTreeInfo([*names, *keywords.context], sizes_as_tuples(inputs), outputs)


def fixed_batch(size: int) -> str:
    """Return the note on a leading size of the inputs that is that of the example."""
    return f"the leading size of the inputs is fixed to {size}, because the model's code depends on it"


def frozen_reads(model: nn.Module, read: list[str]) -> tuple[str, ...]:
    """Return a note on the trainable parameters among ``read``, which the model reads with gradients switched off."""
    learnt = {name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter.requires_grad}
    paths = list(dict.fromkeys(name.rpartition(".")[0] or "the model" for name in read if name in learnt))
    if not paths:
        return ()
    more = f" and {len(paths) - 4} more" if len(paths) > 4 else ""
    return (
        f"the model computes {', '.join(paths[:4])}{more} without gradients, but the program computes them with "
        f"gradients; to train the program, set requires_grad to False there",
    )


def stopped_gradients(model: nn.Module, captured: Captured) -> tuple[str, ...]:
    """Return a note on the modules that go on without gradients from a tensor that has some, or overwrite it so."""
    learnt = {name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter.requires_grad}
    owned = {node for node in captured.graph.nodes if node.name in captured.tensors}
    carrying: set[fx.Node] = set()
    stopped: set[fx.Node] = set()
    paths: dict[str, None] = {}
    for node in captured.graph.nodes:
        still, read = bool(node.meta.get(STILL)), node.all_input_nodes
        if still and overwrites(node) and read and (read[0] in stopped or read[0] in carrying - owned):
            paths[_path(node)] = None
        if not still:
            paths.update(dict.fromkeys(_path(n) for n in read if n in stopped))
        if captured.tensors.get(node.name) in learnt:
            carrying.add(node)
        elif detaches(node.target) or overwrites(node) or not _is_differentiable(node):  # buffers take no gradients
            continue
        elif still and any(n in stopped or (n in carrying and n.name not in captured.tensors) for n in read):
            stopped.add(node)
        elif not still and any(n in carrying for n in read):
            carrying.add(node)
    if not paths:
        return ()
    return (
        f"{', '.join(list(paths)[:4])} computes without gradients what the program computes with gradients; to train, "
        f"detach it where the model switches gradients off",
    )


def _path(node: fx.Node) -> str:
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return (stack[-1][0] if stack else "") or "the model"


def _is_differentiable(node: fx.Node) -> bool:
    dtype = getattr(node.meta.get("val"), "dtype", None)
    return dtype is not None and (dtype.is_floating_point or dtype.is_complex)


def dropped_buffers(names: Iterable[str]) -> tuple[str, ...]:
    """Return a note on buffers in whose place the model puts tensors of another form."""
    named = ", ".join(names)
    if not named:
        return ()
    return (
        f"the model replaces {named} by a tensor of another shape or type; the program does not keep it for its next "
        f"call; give the buffer its final form before tracing",
    )


def user_line(frame: FrameType | None, capture: str) -> str:
    """Return the innermost frame outside torch as a line of a traceback. If the model has no code of its own, return
    the innermost frame in a module of torch. ``capture`` is the file that runs the model. Modes of functions, through
    which calls of torch go, are passed over.
    """  # fmt: skip
    module: FrameType | None = None
    while frame is not None:
        file = frame.f_code.co_filename.replace("\\", "/")
        if "/torch/" not in file and frame.f_code.co_name != "__torch_function__":
            break
        module = module or (frame if "/torch/nn/modules/" in file else None)
        frame = frame.f_back
    found = module if frame is None or frame.f_code.co_filename == capture else frame
    return f'File "{found.f_code.co_filename}", line {found.f_lineno}, in {found.f_code.co_name}' if found else ""


@contextmanager
def without_gradients() -> Iterator[None]:
    """Run models without gradients, and without the fused paths that torch.nn would then take in evaluation."""
    with unfused(), torch.no_grad():
        yield


@contextmanager
def unfused() -> Iterator[list[bool]]:
    """Keep torch.nn from fused paths, which compute something else where inputs are padded.

    Yields a list that gets an entry whenever a module of torch asks whether it may take such a path.
    """
    ask, asked = torch.backends.mha.get_fastpath_enabled, list[bool]()
    fused = ask()

    def noting() -> bool:
        asked.append(ask())
        return asked[-1]

    torch.backends.mha.set_fastpath_enabled(False)
    torch.backends.mha.get_fastpath_enabled = noting
    try:
        yield asked
    finally:
        torch.backends.mha.get_fastpath_enabled = ask
        torch.backends.mha.set_fastpath_enabled(fused)


def check_autocast(nodes: Iterable[fx.Node], device: str) -> None:
    """Raise ``TraceError`` if autocast changes the dtype of an operator, because the graph would not show the cast."""
    for node in nodes:
        if node.op == "call_function":
            values = [n.meta.get("val") for n in (*node.all_input_nodes, node)]
            check_cast(node.target, f"node {node.name}", values, device)


def check_cast(target: Any, name: str, values: Iterable[Any], device: str) -> None:
    """Raise ``TraceError`` if autocast changes the dtype of an operator; ``values`` are its inputs and results."""
    if not operator_of(target).casts and len({v.dtype for v in values if _floats(v, device)}) > 1:
        raise TraceError(
            f"expected a model that computes in the dtype of its weights, but autocast changes that of {target} "
            f"({name}); switch it off in the model's forward: torch.autocast({device!r}, enabled=False)"
        )


def _floats(value: Any, device: str) -> TypeGuard[torch.Tensor]:
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.device.type in (device, "meta")
