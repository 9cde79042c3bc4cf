"""The Program: a traced model that trains and runs like any module, and knows which of its channels are coupled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import networkx as nx
import torch
from torch import fx, nn
from torch.fx.graph import PythonCode
from torch.utils import _pytree as pytree

from swdc.errors import InputError, PlanError, SwdcError
from swdc.ir.argument_types import checked
from swdc.ir.cloning import Cloning
from swdc.ir.explanation import Explanation, explain
from swdc.ir.graph import copy_graph
from swdc.ir.graph_hash import fingerprint
from swdc.ir.groups import ChannelGroup, Coupling, Frozen
from swdc.ir.input_check import InputCheck
from swdc.ir.memo import Derived
from swdc.ir.module_tensors import tensors_of, transient_of
from swdc.ir.module_tree import attach_module, check_names, container
from swdc.ir.name_mangling import accepting, spelled, without_self
from swdc.ir.program_facts import Facts, told_sizes
from swdc.ir.trace_options import POLICIES
from swdc.ir.value_checks import told_as_unmet

T = TypeVar("T")

Analyse = Callable[["Program"], Coupling]
"""The dependency analysis that a program is made with."""


class Program(fx.GraphModule):
    """A traced model: a ``torch.fx.GraphModule`` that holds the caller's own parameters under their own names.

    It trains, evaluates, prints and loads state like any module. Make one with ``swdc.trace``.
    """

    @checked(SwdcError)
    def __init__(
        self,
        graph: fx.Graph,
        tensors: Mapping[str, torch.Tensor],
        leaves: Mapping[str, nn.Module],
        facts: Facts,
        transient: Iterable[str] = (),
        *,
        analyse: Analyse,
    ) -> None:
        """Assemble a program.

        ``tensors`` are all parameters and buffers by name, in order. A tensor that belongs to a module in ``leaves`` is
        attached with that module. ``transient`` names buffers that ``state_dict`` leaves out. ``analyse`` computes
        ``coupling``. Raises ``TraceError`` for names at the top that programs use for data of their own (``_facts``).
        """
        super().__init__(nn.Module(), fx.Graph(), "Program")
        self._facts, self._analyse, self._derived = facts, analyse, Derived()
        self.graph = without_self(graph)
        check_names({name.partition(".")[0] for name in (*tensors, *leaves)} & self.__dict__.keys())
        left_out = set(transient)
        for name, tensor in tensors.items():
            path, _, attribute = name.rpartition(".")
            if path in leaves:
                attach_module(self, path, leaves[path])
                continue
            owner = container(self, path)
            store: dict[str, Any] = owner._parameters if isinstance(tensor, nn.Parameter) else owner._buffers
            store[attribute] = tensor
            if name in left_out:
                owner._non_persistent_buffers_set.add(attribute)
        for path, module in leaves.items():
            attach_module(self, path, module)

    # -- data ---------------------------------------------------------------------------------------------------

    @property
    def facts(self) -> Facts:
        """The facts about this program besides its graph; ``with_facts`` makes a program with others."""
        return self._facts

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """All parameters and buffers by name; a tied tensor stands under each of its names."""
        return tensors_of(self)

    @property
    def held(self) -> nn.Module:
        """The modules and tensors of this program without its methods, so that a module may be called ``graph``."""
        holder = nn.Module()
        holder._modules, holder._parameters, holder._buffers = self._modules, self._parameters, self._buffers
        return holder

    @property
    def leaves(self) -> dict[str, nn.Module]:
        """The modules that the graph calls, by path."""
        held = self.held
        return {str(n.target): held.get_submodule(str(n.target)) for n in self.graph.nodes if n.op == "call_module"}

    @property
    def transient(self) -> set[str]:
        """Names of the buffers that ``state_dict`` leaves out."""
        return transient_of(self)

    def read_tensors(self) -> set[str]:
        """Return the names of the tensors that the graph reads."""
        read = {str(n.target) for n in self.graph.nodes if n.op == "get_attr"}
        for path, module in self.leaves.items():
            own = [*module._parameters, *module._buffers]
            read.update(f"{path}.{name}" for name in own if getattr(module, name) is not None)
        return read

    def read_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters that the graph reads, by name, in order; a tied one under its first name only."""
        return {name: t for name, t in self.read_state().items() if isinstance(t, nn.Parameter)}

    def read_state(self) -> dict[str, torch.Tensor]:
        """Return the parameters, and buffers that are saved, that the graph reads; a tied one under its first name."""
        read = self.read_tensors() - self.transient
        tensors = {name: t for name, t in self.tensors.items() if name in read}
        first = {id(t): name for name, t in reversed(tensors.items())}
        return {name: t for name, t in tensors.items() if first[id(t)] == name}

    # -- analysis -----------------------------------------------------------------------------------------------

    @property
    def coupling(self) -> Coupling:
        """The result of the dependency analysis, computed at first use."""
        return self._analyse(self)

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
        """How many of the parameters can be removed, in which groups, and what freezes the others."""
        shapes = {name: tuple(t.shape) for name, t in self.read_parameters().items()}
        return explain(self.coupling, shapes, self.facts.notes, told_sizes(self.facts))

    def explain(self) -> str:
        """Return a readable account: the share that can be removed, the groups, and what freezes the rest and where."""
        return str(self.explanation)

    def to_networkx(self) -> nx.Graph:
        """Return the coupling graph: groups on one side, dimensions of tensors on the other."""
        return self.coupling.to_networkx()

    def hash(self) -> str:
        """Return a hash of the graph and all shapes; it depends neither on values nor on devices."""
        choices = f"{self.facts.attention} {self.facts.policy}"
        return self.derived("hash", lambda: fingerprint(self.graph, self.leaves, self.tensors, choices))

    def derived(self, name: str, make: Callable[[], T], version: int = 0) -> T:
        """Return the result of ``make``, computed again only if the code, a choice or ``version`` has changed.

        ``version`` is the version of a table outside the program that ``make`` reads.
        """
        return self._derived.get(name, (type(self).forward, self.facts.attention, self.facts.policy, version), make)

    # -- copies -------------------------------------------------------------------------------------------------

    @checked(SwdcError)
    def clone(self, dtype: torch.dtype | None = None) -> Program:
        """Return a program of the same function that shares no tensor and no module with this one.

        Its floating-point tensors have the type ``dtype``, if one is given, and its complex ones the same precision.
        Raises ``SwdcError`` if ``dtype`` is not a floating-point type.
        """
        if dtype is not None and not dtype.is_floating_point:
            raise SwdcError(f"expected dtype as a floating-point type, got {dtype}; give torch.float64, for example")
        copies = Cloning(dtype)
        tensors = {name: copies.tensor(t) for name, t in self.tensors.items()}
        leaves = {path: copies.module(module) for path, module in self.leaves.items()}
        return self.rebuilt(tensors=tensors, leaves=leaves)

    def rebuilt(
        self,
        *,
        graph: fx.Graph | None = None,
        tensors: Mapping[str, torch.Tensor] | None = None,
        leaves: Mapping[str, nn.Module] | None = None,
        facts: Facts | None = None,
    ) -> Program:
        """Return a program with the given parts; other parts are those of this program, its graph as a copy.

        Modes, the names of transient buffers and the analysis are those of this program.
        """
        program = Program(
            copy_graph(self.graph) if graph is None else graph,
            self.tensors if tensors is None else tensors,
            self.leaves if leaves is None else leaves,
            self.facts if facts is None else facts,
            self.transient,
            analyse=self._analyse,
        )
        return program.follow_modes(self)

    def with_facts(self, **changes: Any) -> Program:
        """Return a program with other facts that shares the graph, the modules and the tensors of this one."""
        program: Program = object.__new__(type(self))
        program.__dict__ = {k: v.copy() if isinstance(v, dict | set) else v for k, v in self.__dict__.items()}
        program._facts, program._derived = replace(self.facts, **changes), self._derived.copy()
        return program

    def __copy__(self) -> Program:
        return self.with_facts()

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        program = self.clone()
        memo[id(self)] = program
        return program

    @checked(SwdcError)
    def follow_modes(self, model: nn.Module) -> Program:
        """Put each module into the mode (training or evaluation) that ``model`` has at its path; return this program.

        A module that the model lacks (one made for a call of ``F.dropout``) takes the mode of the nearest module above
        it.
        """
        modes = {path: module.training for path, module in model.named_modules(remove_duplicate=False)}
        for path, module in self.named_modules(remove_duplicate=False):
            above = path
            while above not in modes:
                above = above.rpartition(".")[0]
            if module.training is not modes[above]:
                module.training = modes[above]
        return self

    @checked(PlanError)
    def under(self, policy: str | None) -> Program:
        """Return a program with the same tensors whose residual sums are ``tied`` or ``free``, as ``policy`` says.

        It is this program if it has that policy already, or if ``policy`` is ``None``. Raises ``PlanError`` for an
        unknown policy.
        """
        if policy in (None, self.facts.policy):
            return self
        if policy not in POLICIES:
            raise PlanError(f"expected a policy for residual sums of {list(POLICIES)}, got {policy!r}")
        return self.with_facts(policy=policy)

    def get_submodule(self, target: str) -> nn.Module:
        """Return the module at a path, as ``torch.nn.Module`` does, whatever it is called."""
        return self.held.get_submodule(target) if target else self

    def recompile(self) -> PythonCode:
        """Write the code of the graph, as ``torch.fx.GraphModule`` does, for any names of modules and arguments."""
        with spelled(self.graph, self.is_taken):
            made = super().recompile()
        type(self).forward = accepting(type(self).forward, self.graph)
        return made

    def is_taken(self, name: str) -> bool:
        """Whether ``name`` is an attribute of programs, so that a module or tensor of this name is in ``held`` only."""
        return name in self.__dict__ or hasattr(type(self), name)

    def lint(self) -> None:
        """Check that the graph is well-formed and its targets exist; raises what ``torch.fx.Graph.lint`` raises."""
        graph, owner = self.graph, self.graph.owning_module
        graph.owning_module = self.held  # type: ignore[assignment]
        try:
            graph.lint()
        finally:
            graph.owning_module = owner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute what the traced model computes.

        Raises ``InputError`` for inputs that the program does not stand for: another number, structure, type or size
        than those of the example, other values of arguments that are not tensors, or values that the model's code reads
        and goes another way.
        """
        if torch.compiler.is_compiling() or torch._C._get_tracing_state():
            return super().__call__(*args, **kwargs)
        self._check_inputs(args, kwargs)
        with told_as_unmet():
            return super().__call__(*args, **kwargs)

    def _check_inputs(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        facts = self._facts
        source = (type(self).forward, id(facts.example), facts.conditions, facts.by_name)
        told = (facts.conditions, facts.fixed, facts.example_only, facts.by_name)
        make = partial(InputCheck, self.graph, facts.example, *told)
        check = self._derived.get("inputs", source, make)
        try:
            check(self, args, kwargs)
        except InputError:
            if not any(isinstance(leaf, fx.Proxy) for leaf in pytree.tree_leaves((args, kwargs))):
                raise  # a proxy stands for any input
