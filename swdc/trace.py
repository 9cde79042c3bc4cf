"""Capture: from a module and example inputs to a Program."""

from __future__ import annotations

import inspect
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils import _pytree as pytree

from swdc.call import Call, Ref, bind, bind_arguments
from swdc.errors import TraceError
from swdc.modes import modes_kept, training_differences
from swdc.ops import Leaf, lookup
from swdc.ops.base import name_of
from swdc.ops.leaves import path_of
from swdc.program import DTYPE, SCOPE, SHAPE, STACK_TRACE, Facts, Program, tensors_of
from swdc.sizes import simplify

Example = torch.Tensor | tuple[Any, ...] | list[Any] | dict[str, Any]

_UNSEEN = -1
_CHECKS = ("aten._assert_tensor_metadata.default", "aten._assert_scalar.default")
_RETURN_THEIR_INPUT = ("aten.dropout.default", "aten.feature_dropout.default")
_TENSOR_ARGUMENTS = ("weight", "bias", "running_mean", "running_var")


def trace(model: nn.Module, example_inputs: Example) -> Program:
    """Capture a model as a Program that holds the model's own parameters.

    ``example_inputs`` is a tensor, a tuple of positional arguments, or a dict of keyword arguments. The leading
    dimension that all tensors share is the batch and stays dynamic; where they share none (a graph network: node
    features and an edge list) the leading dimension of the first, and every dimension of those that differ from it,
    stay dynamic. All other sizes are those of the example.

    The graph is that of evaluation; leaf modules (convolutions, norms, dropout) train as they should. What else
    differs in training is named in a warning and in ``program.facts.notes``. The model itself is not changed.

    Raises ``TraceError`` if the model cannot be run on the inputs, or cannot be captured.
    """
    if not isinstance(model, nn.Module):
        raise TraceError(f"expected a torch.nn.Module, got {type(model).__name__}; give the model itself")
    args, kwargs = _normalised(example_inputs)
    with modes_kept(model):
        model.eval()
        exported, batched, notes = _export(model, args, kwargs)
        differences = training_differences(model, *_at_least_two(args, kwargs, batched)[:2])
    program = _Raising(model, exported, batched, (args, kwargs), notes, differences).program()
    for note in program.facts.notes:
        warnings.warn(note, stacklevel=2)
    return program.follow_modes(model)


def _normalised(example: Example) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(example, torch.Tensor):
        args = (example,)
    elif isinstance(example, dict):
        kwargs = dict(example)
    elif isinstance(example, list | tuple):
        args = tuple(example)
    if not any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves((args, kwargs))):
        raise TraceError(
            f"expected example inputs as a tensor, a tuple of arguments or a dict of keyword arguments with at least "
            f"one tensor, got {type(example).__name__}"
        )
    return args, kwargs


def _shared_leading_size(inputs: Any) -> int | None:
    """Return the size of the leading dimension that all tensors share, ``None`` if they share none."""
    sizes = {t.shape[0] if t.dim() else None for t in pytree.tree_leaves(inputs) if isinstance(t, torch.Tensor)}
    return sizes.pop() if len(sizes) == 1 else None


def _at_least_two(args: Any, kwargs: Any, batched: bool) -> tuple[Any, Any, Any]:
    """Return the inputs with a batch of at least two, for a size of one cannot be captured as dynamic; and the dims."""
    leading = _shared_leading_size((args, kwargs)) if batched else None

    def doubled(value: Any) -> Any:
        return torch.cat([value, value]) if isinstance(value, torch.Tensor) and leading == 1 else value

    args, kwargs = pytree.tree_map(doubled, (args, kwargs))
    tensors = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    first = tensors[0].shape[:1]

    def dynamic(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dim() == 0:
            return None
        return {0: Dim.AUTO} if value.shape[:1] == first else dict.fromkeys(range(value.dim()), Dim.AUTO)

    dims = pytree.tree_map(dynamic, (args, kwargs))
    return args, kwargs, dims


def _export(model: nn.Module, args: Any, kwargs: Any) -> tuple[ExportedProgram, bool, list[str]]:
    """Return the exported model, whether its inputs share a batch, and what the user should know."""
    batched = _shared_leading_size((args, kwargs)) is not None
    inputs, keywords, dims = _at_least_two(args, kwargs, batched)
    fixed = "the sizes of all inputs are fixed to those of the example inputs, for the model's code depends on them"
    first: Exception | None = None
    for dynamic in (True, False):
        try:
            with _quiet():
                plain = (inputs, keywords) if dynamic else (args, kwargs)
                shapes = _by_name(model, dims) if dynamic else None
                exported = torch.export.export(model, *plain, dynamic_shapes=shapes, strict=False)
        except Exception as error:  # export raises errors of many kinds; all of them mean the same to the user
            first = first or error
            continue
        if not dynamic or not batched or _has_symbolic_input(exported):
            return exported, batched, [] if dynamic else [fixed]
    raise TraceError(_why(model, args, kwargs, first)) from first


def _has_symbolic_input(exported: ExportedProgram) -> bool:
    shapes = [_shape(node.meta.get("val")) for node in exported.graph.nodes if node.op == "placeholder"]
    return any(not isinstance(size, int) for size in _flat(tuple(shapes)))


def _by_name(model: nn.Module, dims: Any) -> dict[str, Any]:
    """Return dynamic dimensions by the names of the parameters of ``forward``."""
    return dict(inspect.signature(model.forward).bind(*dims[0], **dims[1]).arguments)


def _why(model: nn.Module, args: Any, kwargs: Any, error: Exception | None) -> str:
    name = type(model).__name__
    shapes = [tuple(t.shape) for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(*args, **kwargs)
    except Exception as failure:  # whatever the user's model raises
        return (
            f"expected example inputs that {name} can run on, got shapes {shapes}, on which it fails with "
            f"{type(failure).__name__}: {str(failure).splitlines()[0] if str(failure) else failure}; "
            f"give inputs as the model's forward takes them"
        )
    detail = str(error).strip().splitlines()
    return (
        f"expected a model that torch.export can capture, but {name} is not: {detail[0] if detail else error}; make "
        f"its control flow and shapes independent of the values of its inputs (the full report is the cause of this)"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence warnings and logs of capture: what matters to the user is raised."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # a failing export prints its graph
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _Raising:
    """Turns an exported graph of ATen calls with lifted tensors into a Program of leaf modules."""

    def __init__(
        self, model: nn.Module, exported: ExportedProgram, batched: bool, example: Any, notes: list[str],
        differences: list[str],
    ) -> None:
        self.model, self.exported, self.batched, self.example = model, exported, batched, example
        self.graph = fx.Graph()
        self.values: dict[fx.Node, Any] = {}
        self.leaves: dict[str, nn.Module] = {}
        self.leaf_calls: dict[str, Any] = {}
        self.symbols: dict[str, int] = {}
        self.notes = list(notes)
        if differences:
            named = ", ".join(path or "the model" for path in differences[:4])
            more = f" and {len(differences) - 4} more" if len(differences) > 4 else ""
            self.notes.append(
                f"what {named}{more} computes in training differs from evaluation by more than dropout and batch "
                f"norm; train the model itself, then trace and slim it"
            )
        self.tensors = tensors_of(model)
        self.transient = {
            f"{path}.{name}" if path else name
            for path, module in model.named_modules()
            for name in module._non_persistent_buffers_set
        }
        self.occupied = {name for name, _ in model.named_modules()} | {
            name.rpartition(".")[0] for name in self.tensors
        }

    def program(self) -> Program:
        """Return the finished Program."""
        specs = {spec.arg.name: spec for spec in self.exported.graph_signature.input_specs if hasattr(spec.arg, "name")}
        for node in self.exported.graph.nodes:
            if node.op == "placeholder":
                self._place(node, specs[node.name])
            elif node.op == "call_function" and name_of(node.target) not in _CHECKS:
                self._check_supported(node)
                self.values[node] = self._call(node)
            elif node.op == "output":
                self._output(node)
        self._erase_unused()
        self._set_calling_convention()
        facts = Facts(self.symbols, self._batch(), self.example, notes=tuple(self.notes))
        program = Program(self.graph, self.tensors, self.leaves, facts, self.transient)
        program.facts = replace(facts, symbols=_measured(program))
        return program

    # -- nodes --------------------------------------------------------------------------------------------------

    def _place(self, node: fx.Node, spec: Any) -> None:
        if spec.kind == InputKind.USER_INPUT:
            self.values[node] = self.graph.placeholder(node.name)
            self._describe(self.values[node], node)
            return
        if spec.kind == InputKind.PARAMETER or spec.kind == InputKind.BUFFER:
            self.values[node] = Ref(spec.target)
            return
        constant = self.exported.constants.get(spec.target)
        if not isinstance(constant, torch.Tensor):
            raise TraceError(f"expected tensors as constants of the model, got {spec.target}: {type(constant).__name__}")
        name = spec.target
        if self.tensors.get(name) is not constant:
            self.tensors[name] = constant
            self.transient.add(name)
        self.values[node] = Ref(name)

    def _check_supported(self, node: fx.Node) -> None:
        if isinstance(node.target, torch._ops.HigherOrderOperator):
            raise TraceError(
                f"expected a plain graph, got the control-flow operator {node.target} at node {node.name}; take it "
                f"out of the model's forward (torch.set_grad_enabled, torch.autocast and torch.cond make such)"
            )

    def _call(self, node: fx.Node) -> fx.Node:
        target, mutated = self._functional(node)
        args, kwargs = self._mapped(node.args), self._mapped(node.kwargs)
        made = self._leaf(node, target, args, kwargs)
        if made is None:
            made = self.graph.call_function(target, self._fetched(args), self._fetched(kwargs))
            self._note_fixed_mode(made)
        made.meta[STACK_TRACE] = node.meta.get("stack_trace")
        self._describe(made, node)
        if mutated is not None:
            self._replace(mutated, made)
        return made

    def _functional(self, node: fx.Node) -> tuple[Any, fx.Node | None]:
        """Return the operator without side effects that an in-place one stands for, and the input it overwrites."""
        target = node.target
        if not isinstance(target, torch._ops.OpOverload) or not target._schema.is_mutable:
            return target, None
        x = node.args[0]
        functional = _without_side_effects(target)
        if functional is None or not isinstance(x, fx.Node):
            return target, None
        before = self.values[x]
        aliases = (
            _is_view(x)
            or any(_is_view(user) for user in x.users if user < node)
            or (isinstance(before, fx.Node) and _overwrites(before))  # it was kept in place, so it has aliases
        )
        dtype = x.meta["val"].dtype
        same = all(
            v.meta["val"].dtype == dtype
            for v in node.all_input_nodes
            if v.meta["val"].dtype.is_floating_point and dtype.is_floating_point
        )
        if aliases or not same:
            return target, None
        return functional, x

    def _replace(self, mutated: fx.Node, by: fx.Node) -> None:
        """Let later readers of an overwritten value, and of what it overwrote, read the new one."""
        old = self.values[mutated]
        if isinstance(old, Ref):
            self.notes.append(f"the model overwrites {old} in evaluation; the program does not")
        for node, value in self.values.items():
            if value is old:
                self.values[node] = by

    def _leaf(self, node: fx.Node, target: Any, args: Any, kwargs: Any) -> fx.Node | None:
        """Return a call of a leaf module if one computes exactly this call."""
        operator = lookup(name_of(target))
        if not isinstance(operator, Leaf):
            return None
        bound = bind_arguments(target, args, kwargs)
        call = Call(node, name_of(target), bound)
        tensors = [a for a in _TENSOR_ARGUMENTS if bound.get(a) is not None]
        path = path_of(call, *tensors) if tensors else self._free_path(node, name_of(target))
        if path is None or any(p.startswith(path + ".") for p in self.occupied):
            return None
        bound = self._own_momentum(bound, path)
        described = fx.Node(fx.Graph(), node.name, "call_function", target, (), {})
        described.meta[SHAPE] = _shape(node.meta["val"])
        module = operator.build(Call(described, name_of(target), bound), self.tensors)
        if module is None:
            return None
        signature = str(sorted((k, str(v)) for k, v in bound.items() if k != operator.data))
        if path in self.leaves and self.leaf_calls[path] != signature:
            return None
        others = {n for n in self.tensors if n.rpartition(".")[0] == path}
        if others - {f"{path}.{n}" for n in (*module._parameters, *module._buffers)}:
            return None
        if path not in self.leaves:
            self.leaves[path], self.leaf_calls[path] = module, signature
        return self.graph.call_module(path, (self._fetched(bound[operator.data]),))

    def _own_momentum(self, bound: Mapping[str, Any], path: str) -> dict[str, Any]:
        """Take a batch norm's momentum from the user's module: a cumulative average is not visible in evaluation."""
        try:
            module = self.model.get_submodule(path)
        except AttributeError:
            return dict(bound)
        return {**bound, "momentum": module.momentum} if isinstance(module, _BatchNorm) else dict(bound)

    def _free_path(self, node: fx.Node, operator: str) -> str:
        """Return the path of a leaf without tensors: that of the user's module if it is one, a new one otherwise."""
        scope, cls = _scope(node)
        if cls.startswith("torch.nn.modules.dropout."):
            return scope
        base = f"{scope}.{operator.split('.')[1]}" if scope else operator.split(".")[1]
        path, number = base, 1
        while path in self.occupied or path in self.leaves:
            path, number = f"{base}_{number}", number + 1
        return path

    def _note_fixed_mode(self, node: fx.Node) -> None:
        bound = bind(node)
        fixed = {**bound, "use_input_stats": bound.get("use_input_stats", True)}
        drops_nothing = bound.get("dropout") == 0  # recurrent layers have the mode for their dropout only
        if not drops_nothing and any(fixed.get(mode) is False for mode in ("train", "training", "use_input_stats")):
            self.notes.append(
                f"{name_of(node.target)} (node {node.name}) keeps its evaluation mode in training; train the model "
                f"itself, then trace and slim it"
            )

    def _output(self, node: fx.Node) -> None:
        outputs = self.exported.graph_signature.output_specs
        values = node.args[0]
        assert isinstance(values, list | tuple)
        user = [v for v, spec in zip(values, outputs, strict=True) if spec.kind == OutputKind.USER_OUTPUT]
        self.graph.output(tuple(self._fetched(self._mapped(user))))

    # -- helpers ------------------------------------------------------------------------------------------------

    def _mapped(self, argument: Any) -> Any:
        return fx.map_arg(argument, lambda n: self.values[n])

    def _fetched(self, argument: Any) -> Any:
        """Return arguments with tensors replaced by nodes that fetch them."""
        if isinstance(argument, Ref):
            return self.graph.get_attr(argument)
        if isinstance(argument, list | tuple):
            return type(argument)(self._fetched(a) for a in argument)
        if isinstance(argument, dict):
            return {k: self._fetched(v) for k, v in argument.items()}
        return argument

    def _describe(self, made: fx.Node, node: fx.Node) -> None:
        value = node.meta.get("val")
        made.meta[SHAPE] = _shape(value)
        made.meta[DTYPE] = getattr(value, "dtype", None)
        made.meta[SCOPE] = _scope(node)[0]

    def _erase_unused(self) -> None:
        for node in reversed(list(self.graph.nodes)):
            if node.op not in ("placeholder", "output") and not node.users and not _overwrites(node):
                self.graph.erase_node(node)
        called = {n.target for n in self.graph.nodes if n.op == "call_module"}
        self.leaves = {path: module for path, module in self.leaves.items() if path in called}

    def _set_calling_convention(self) -> None:
        signature = self.exported.module_call_graph[0].signature
        assert signature is not None
        spec = self.exported.call_spec.in_spec
        names = list(signature.forward_arg_names or [])
        if not names:
            names = [f"arg_{i}" for i in range(spec.child(0).num_children)] + list(spec.child(1).context)
        self.graph.set_codegen(_PyTreeCodeGen(_PyTreeInfo(names, spec, self.exported.call_spec.out_spec)))

    def _batch(self) -> str | None:
        """Return the symbol of the shared leading dimension, and note the example's value of every symbol."""
        flat = pytree.tree_leaves(self.example)
        placeholders = [n for n in self.graph.nodes if n.op == "placeholder"]
        batch: str | None = None
        for node, value in zip(placeholders, flat, strict=True):
            if not isinstance(value, torch.Tensor):
                continue
            for size, actual in zip(node.meta[SHAPE], value.shape, strict=True):
                if not isinstance(size, int) and len(size.free_symbols) == 1 and size.is_symbol:
                    self.symbols.setdefault(str(size), int(actual))
            if self.batched and batch is None and value.dim() and not isinstance(node.meta[SHAPE][0], int):
                batch = str(node.meta[SHAPE][0])
        for node in self.graph.nodes:
            for size in _flat(node.meta.get(SHAPE)):
                for symbol in () if isinstance(size, int) else size.free_symbols:
                    self.symbols.setdefault(str(symbol), _UNSEEN)
        return batch


class _Measure(fx.Interpreter):
    """Runs a program and notes the values of symbolic sizes that no input shows."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.symbols = dict(program.facts.symbols)

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, and compare its shape with the traced one."""
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            for size, actual in zip(n.meta.get(SHAPE) or (), result.shape, strict=False):
                if self.symbols.get(str(size)) == _UNSEEN:
                    self.symbols[str(size)] = int(actual)
        return result


def _measured(program: Program) -> dict[str, int]:
    """Return the example's value of every symbol, those that depend on the data included."""
    symbols = dict(program.facts.symbols)
    if _UNSEEN not in symbols.values():
        return symbols
    run = _Measure(program)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        run.run(*pytree.tree_leaves(program.facts.example), enable_io_processing=False)
    return {name: 1 if value == _UNSEEN else value for name, value in run.symbols.items()}


def _without_side_effects(target: Any) -> Any:
    """Return the overload that computes what an in-place one does, ``None`` if there is none."""
    name = target._schema.name.removeprefix("aten::")
    packet = getattr(torch.ops.aten, name.removesuffix("_"), None) if name.endswith("_") else None
    wanted = [(a.name, str(a.type)) for a in target._schema.arguments]
    for overload in packet.overloads() if packet is not None else ():
        candidate = getattr(packet, overload)
        found = [(a.name, str(a.type)) for a in candidate._schema.arguments]
        if found[1:] == wanted[1:] and found[0][1] == "Tensor":
            return candidate
    return None


def _overwrites(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _is_view(node: fx.Node) -> bool:
    """Whether the result of a node shares memory with its input without being the input overwritten."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return node.op == "call_function"
    if _overwrites(node):
        return False
    if str(node.target) in _RETURN_THEIR_INPUT:
        return True
    return any(r.alias_info is not None for r in node.target._schema.returns)


def _shape(value: Any) -> Any:
    """Return the Shape of a traced tensor, a tuple of Shapes for several, an empty one for anything else."""
    if isinstance(value, torch.Tensor):
        sizes: list[Any] = list(value.shape)
        return tuple(simplify(s.node.expr) if isinstance(s, torch.SymInt) else int(s) for s in sizes)
    if isinstance(value, list | tuple):
        return tuple(_shape(v) for v in value)
    return ()


def _flat(shape: Any) -> list[Any]:
    if isinstance(shape, tuple):
        return [size for item in shape for size in _flat(item)]
    return [] if shape is None else [shape]


def _scope(node: fx.Node) -> tuple[str, str]:
    """Return the path and the class of the innermost module that a node was traced in."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", ""
    path, cls = stack[-1]
    return path, cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"
