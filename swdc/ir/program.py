"""The Program: a traced model, and the facts about it that the compiler keeps."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import networkx as nx
import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from swdc.errors import InputError, PlanError
from swdc.ir.distributed import plain_name
from swdc.ir.explanation import Explanation, explain
from swdc.ir.graph import SHAPE, copy_graph, describe
from swdc.ir.groups import ChannelGroup, Coupling, Frozen
from swdc.ir.options import HEADS, POLICIES, TIED
from swdc.ir.tensors import tensors_of
from swdc.rewriting.contract import find_pass

if TYPE_CHECKING:
    from swdc.ir.plan import Plan

T = TypeVar("T")

_DEVICE = re.compile(r"device\(type='\w+'(, index=\d+)?\)")


@dataclass(frozen=True)
class Origin:
    """Where a rewritten program comes from: the plan, and the counts of the program that the plan was made for.

    ``dense`` is that program, kept by a masked one. ``folded`` holds biases that a rewrite computed, in float64:
    what they were before they were rounded to the type of the weights.
    """

    plan: Plan
    before: Mapping[str, int]
    dense: Program | None = None
    folded: Mapping[str, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What tracing found out about a model besides its graph.

    ``symbols`` gives each symbolic size its value in the example inputs; ``batch`` names the symbol of the batch, or
    is ``None`` where the inputs have no common leading dimension (a graph network). ``example`` holds positional and
    keyword example inputs. ``attention`` says what attentions lose, ``heads`` or ``head_dim``; ``policy`` whether the
    sides of a residual sum are ``tied`` or ``free``. ``captured_by`` is ``"export"``, or ``"record"`` for a program
    that stands for the example inputs only.
    """

    symbols: Mapping[str, int]
    batch: str | None
    example: tuple[tuple[Any, ...], dict[str, Any]] = field(repr=False)
    origin: Origin | None = None
    notes: tuple[str, ...] = ()
    attention: str = HEADS
    captured_by: str = "export"
    policy: str = TIED

    def sizes(self, batch: int = 1) -> dict[str, int]:
        """Return a value for each symbol, with the given batch size."""
        return {name: batch if name == self.batch else value for name, value in self.symbols.items()}


class _OperatorTable:
    version = 0


_operator_table = _OperatorTable()


def operators_changed() -> None:
    """Say that what is known of operators has changed, so that programs are analysed anew."""
    _operator_table.version += 1


class Program(fx.GraphModule):
    """A traced model: a ``torch.fx.GraphModule`` that holds the caller's own parameters under their own names.

    It trains, evaluates, prints and loads state like any module. Make one with ``swdc.trace``.
    """

    facts: Facts

    def __init__(
        self,
        graph: fx.Graph,
        tensors: Mapping[str, torch.Tensor],
        leaves: Mapping[str, nn.Module],
        facts: Facts,
        transient: Iterable[str] = (),
    ) -> None:
        """Assemble a program.

        ``tensors`` are all parameters and buffers by name, in order; those below a path in ``leaves`` belong to
        that module and are attached with it. ``transient`` names buffers that ``state_dict`` leaves out.
        """
        super().__init__(nn.Module(), fx.Graph(), "Program")
        left_out = set(transient)
        for name, tensor in tensors.items():
            path, _, attribute = name.rpartition(".")
            if path in leaves:
                _attach_module(self, path, leaves[path])
                continue
            owner = _container(self, path)
            if isinstance(tensor, nn.Parameter):
                owner.register_parameter(attribute, tensor)
            else:
                owner.register_buffer(attribute, tensor, persistent=name not in left_out)
        for path, module in leaves.items():
            _attach_module(self, path, module)
        self.facts = facts
        self.graph = graph

    # -- data ---------------------------------------------------------------------------------------------------

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """All parameters and buffers by name; tied ones under each of their names."""
        return tensors_of(self)

    @property
    def leaves(self) -> dict[str, nn.Module]:
        """The modules that the graph calls, by path."""
        return {str(n.target): self.get_submodule(str(n.target)) for n in self.graph.nodes if n.op == "call_module"}

    @property
    def transient(self) -> set[str]:
        """Names of the buffers that ``state_dict`` leaves out."""
        return {
            f"{path}.{name}" if path else name
            for path, module in self.named_modules(remove_duplicate=False)
            for name in module._non_persistent_buffers_set
        }

    def read_tensors(self) -> set[str]:
        """Return the names of the tensors that the graph reads."""
        read = {str(n.target) for n in self.graph.nodes if n.op == "get_attr"}
        for path, module in self.leaves.items():
            own = [*module._parameters, *module._buffers]
            read.update(f"{path}.{name}" for name in own if getattr(module, name) is not None)
        return read

    def read_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the graph reads by name, in order; a tied one once."""
        read = self.read_tensors()
        parameters = {name: t for name, t in self.tensors.items() if name in read and isinstance(t, nn.Parameter)}
        first = {id(t): name for name, t in reversed(parameters.items())}
        return {name: t for name, t in parameters.items() if first[id(t)] == name}

    # -- analysis -----------------------------------------------------------------------------------------------

    @property
    def coupling(self) -> Coupling:
        """The result of the dependency analysis, computed at first use."""
        return self.derived("coupling", self._analyse)

    def _analyse(self) -> Coupling:
        analysis: Any = find_pass("couple-channels")()
        coupling: Coupling = analysis.analyse(self)
        return coupling

    @property
    def groups(self) -> tuple[ChannelGroup, ...]:
        """Groups of channels that can be removed together."""
        return self.coupling.groups

    @property
    def frozen(self) -> tuple[Frozen, ...]:
        """Channels that may not be removed, with the reason, the operator and the user's source line."""
        return self.coupling.frozen

    @property
    def explanation(self) -> Explanation:
        """How many of the parameters can go, in which groups, and what holds the others."""
        shapes = {name: tuple(t.shape) for name, t in self.read_parameters().items()}
        return explain(self.coupling, shapes, self.facts.notes)

    def explain(self) -> str:
        """Return a readable account: the share that can go, the groups, and what holds the rest, where, and why."""
        return str(self.explanation)

    def to_networkx(self) -> nx.Graph:
        """Return the coupling graph: groups on one side, dimensions of tensors on the other."""
        return self.coupling.to_networkx()

    def recompile(self) -> Any:
        """Regenerate the code after the graph was changed, and forget what was derived from it."""
        self.__dict__.pop("_derived", None)
        return super().recompile()

    def hash(self) -> str:
        """Return a hash of the graph and of all shapes; values of parameters and devices do not enter."""
        return self.derived("hash", self._hashed)

    def _hashed(self) -> str:
        lines = [
            f"{n.op} {n.name} {_named(n.target)} {n.args} {n.kwargs} {n.meta.get(SHAPE)}" for n in self.graph.nodes
        ]
        lines += [f"{path} {plain_name(module)}" for path, module in self.leaves.items()]
        lines.append(f"{self.facts.attention} {self.facts.policy}")
        lines += [f"{name} {tuple(t.shape)}" for name, t in sorted(self.tensors.items())]
        return hashlib.sha256(_DEVICE.sub("device", "\n".join(lines)).encode()).hexdigest()

    def derived(self, name: str, make: Callable[[], T]) -> T:
        """Return what ``make`` computes from the graph; once, until the graph or the operator table changes."""
        store: dict[str, tuple[int, Any]] = self.__dict__.setdefault("_derived", {})
        if name not in store or store[name][0] != _operator_table.version:
            store[name] = (_operator_table.version, make())
        value: T = store[name][1]
        return value

    # -- copies -------------------------------------------------------------------------------------------------

    def clone(self, dtype: torch.dtype | None = None) -> Program:
        """Return a program of the same function that shares no tensor and no module with this one.

        Its floating-point tensors have the given type, where one is given.
        """
        copies: dict[int, torch.Tensor] = {}

        def fresh(tensor: torch.Tensor) -> torch.Tensor:
            if id(tensor) not in copies:
                data = tensor.detach().to(dtype if tensor.is_floating_point() else None, copy=True)
                is_parameter = isinstance(tensor, nn.Parameter)
                copies[id(tensor)] = nn.Parameter(data, tensor.requires_grad) if is_parameter else data
            return copies[id(tensor)]

        tensors = {name: fresh(t) for name, t in self.tensors.items()}
        leaves = {path: _with_tensors(module, fresh) for path, module in self.leaves.items()}
        program = Program(copy_graph(self.graph), tensors, leaves, self.facts, self.transient)
        return program.follow_modes(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        program = self.clone()
        memo[id(self)] = program
        return program

    def follow_modes(self, model: nn.Module) -> Program:
        """Take over, by path, which modules of a model are in training, and return this program.

        A module that the model lacks (one made for a call of ``F.dropout``) follows the nearest one above it.
        """
        modes = {path: module.training for path, module in model.named_modules(remove_duplicate=False)}
        for path, module in self.named_modules(remove_duplicate=False):
            above = path
            while above not in modes:
                above = above.rpartition(".")[0]
            module.training = modes[above]
        return self

    def under(self, policy: str | None) -> Program:
        """Return a program of the same tensors whose residual sums are ``tied`` or ``free``.

        That is this one where they are, or where ``policy`` is ``None``.
        """
        if policy in (None, self.facts.policy):
            return self
        if policy not in POLICIES:
            raise PlanError(f"expected a policy for residual sums of {list(POLICIES)}, got {policy!r}")
        facts = replace(self.facts, policy=policy)
        return Program(copy_graph(self.graph), self.tensors, self.leaves, facts, self.transient).follow_modes(self)

    def with_origin(self, origin: Origin) -> Program:
        """Record where this program comes from, and return it."""
        self.facts = replace(self.facts, origin=origin)
        return self

    # -- use ----------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the traced model computes; ``InputError`` for inputs that do not look like the example's."""
        try:
            return super().__call__(*args, **kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            self._check_inputs(args, kwargs, error)
            raise

    def _check_inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> None:
        """Raise ``InputError`` if the inputs of a call that failed do not look like the example inputs."""
        expected = [n for n in self.graph.nodes if n.op == "placeholder"]
        given = pytree.tree_leaves((args, kwargs))
        wanted = ", ".join(f"{n.name}: {describe(n.meta.get(SHAPE))}" for n in expected)
        if len(given) != len(expected):
            raise InputError(
                f"expected {len(expected)} inputs ({wanted}), got {len(given)}; call the program with the arguments "
                f"of the traced model"
            ) from error
        for node, value in zip(expected, given, strict=True):
            shape = node.meta.get(SHAPE)
            if shape is None or not isinstance(value, torch.Tensor):
                continue
            fits = len(shape) == value.dim() and all(
                not isinstance(size, int) or size == actual for size, actual in zip(shape, value.shape, strict=True)
            )
            if not fits:
                raise InputError(
                    f"expected {node.name} of shape {describe(shape)}, got {tuple(value.shape)}; give inputs of that "
                    f"shape, or trace the model again with these"
                ) from error


def _named(target: Any) -> str:
    """Return the name of a node's target; that of a Python function without its address."""
    return str(target) if isinstance(target, str | torch._ops.OpOverload) else str(getattr(target, "__name__", target))


def _container(root: nn.Module, path: str) -> nn.Module:
    """Return the submodule at ``path``, making plain modules on the way."""
    for name in path.split(".") if path else ():
        child = root._modules.get(name)
        if child is None:
            child = nn.Module()
            root.add_module(name, child)
        root = child
    return root


def _attach_module(root: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    owner = _container(root, parent)
    before = owner._modules.get(name)
    if before is not module:
        module._modules.update(before._modules if before is not None else {})
        owner.add_module(name, module)


def _with_tensors(module: nn.Module, replace_tensor: Any) -> nn.Module:
    """Return a copy of a leaf module, without what stands below it, with every parameter and buffer replaced."""
    new = module.__new__(type(module))
    new.__dict__ = {k: v.copy() if isinstance(v, dict | set) else v for k, v in module.__dict__.items()}
    new._modules = {}
    for store in (new._parameters, new._buffers):
        for name, tensor in store.items():
            if tensor is not None:
                store[name] = replace_tensor(tensor)
    return new
