"""Capture by recording: the model runs once on the real inputs, and every operator that it calls is noted."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn
from torch.fx import traceback
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from swdc.captured import RECORD, Captured, check_autocast, signature, user_line, without_gradients
from swdc.errors import TraceError
from swdc.program import tensors_of
from swdc.restoring import buffers_kept

_MODES = ("_set_grad_enabled", "_exit_autocast", "_enter_inference_mode", "_exit_inference_mode")
_ENTER_AUTOCAST = "_enter_autocast"
NOTE = (
    "recorded on the example inputs, for the model's code depends on their values: the program stands for these "
    "inputs only; use swdc.transplant to slim the model itself"
)


def record(model: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Captured:
    """Return the graph of what a model does with these inputs, every size and every Python number as it is there.

    Tensors of the model are recognised by identity. The model, its buffers and the inputs stay as they are.
    """
    inputs, structure = pytree.tree_flatten((tuple(args), dict(kwargs)))
    found: list[pytree.TreeSpec] = []

    def run(*tensors: torch.Tensor) -> list[Any]:
        given = iter(tensors)
        leaves = [next(given) if isinstance(leaf, torch.Tensor) else leaf for leaf in inputs]
        positional, keywords = pytree.tree_unflatten(leaves, structure)
        with _Sources(model):
            results, spec = pytree.tree_flatten(model(*positional, **keywords))
        found.append(spec)
        return results

    tensors = [leaf.detach().clone() for leaf in inputs if isinstance(leaf, torch.Tensor)]
    with buffers_kept(model), without_gradients(), traceback.preserve_node_meta():
        module = _recorded(run, tensors)
    names = {id(tensor): name for name, tensor in tensors_of(model).items()}
    graph, constants, read = _flat(module, names, inputs)
    return Captured(graph, read, constants, signature(model, structure, found[0]), RECORD, (NOTE,))


def _recorded(run: Callable[..., Any], tensors: list[torch.Tensor]) -> fx.GraphModule:
    recorder = make_fx(run, tracing_mode="real", pre_dispatch=True, _error_on_data_dependent_ops=False)
    return recorder(*tensors)


class _Sources(TorchFunctionMode):
    """Tells the recorder, for each function called, the module and the line of the user's code that calls it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.paths = {module: path for path, module in model.named_modules()}
        self.stack: list[tuple[str, str]] = []
        self.handles: list[Any] = []

    def __enter__(self) -> Any:
        for module in self.paths:
            self.handles += [module.register_forward_pre_hook(self._enter), module.register_forward_hook(self._leave)]
        return super().__enter__()  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        for handle in self.handles:
            handle.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        traceback.get_current_meta()["stack_trace"] = user_line(sys._getframe(1), __file__)
        return func(*args, **(kwargs or {}))

    def _enter(self, module: nn.Module, inputs: Any) -> None:
        cls = type(module)
        self.stack.append((self.paths[module], f"{cls.__module__}.{cls.__qualname__}"))
        self._tell()

    def _leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.stack.pop()
        self._tell()

    def _tell(self) -> None:
        traceback.get_current_meta()["nn_module_stack"] = {str(len(self.stack)): self.stack[-1]} if self.stack else {}


def _flat(
    module: fx.GraphModule, names: Mapping[int, str], inputs: list[Any]
) -> tuple[fx.Graph, dict[str, torch.Tensor], dict[str, str]]:
    """Return the graph with a placeholder for each input, the constants, and the tensor that each node stands for."""
    graph, made = fx.Graph(), {}
    constants: dict[str, torch.Tensor] = {}
    read: dict[str, str] = {}
    placeholders = iter(module.graph.find_nodes(op="placeholder"))
    for number, leaf in enumerate(inputs):
        if isinstance(leaf, torch.Tensor):
            old = next(placeholders)
            made[old] = graph.node_copy(old)
        else:
            graph.placeholder(f"literal_{number}")
    for node in module.graph.nodes:
        if node.op == "placeholder" or _changes_mode(node, module):
            continue
        made[node] = graph.node_copy(node, lambda n: made[n])
        if node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(module)
            name = names.get(id(value)) or f"recorded.{node.target}".replace("._tensor_", ".")
            read[made[node].name] = name
            if id(value) not in names:
                constants[name] = value
    return graph, constants, read


def _changes_mode(node: fx.Node, module: fx.GraphModule) -> bool:
    """Whether a node switches gradients or autocast; raise ``TraceError`` for what cannot stand in a flat graph."""
    if isinstance(node.target, torch._ops.HigherOrderOperator):
        raise TraceError(
            f"expected a plain graph, got the control-flow operator {node.target} at node {node.name}; write it with "
            f"ordinary operators"
        )
    name = getattr(node.target, "__name__", "")
    if node.op == "call_function" and name == _ENTER_AUTOCAST and node.args[2]:
        check_autocast(module.graph.nodes, str(node.args[0]))
    return node.op == "call_function" and name in (*_MODES, _ENTER_AUTOCAST)
