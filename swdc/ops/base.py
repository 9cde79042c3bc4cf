"""The operator table: one class for everything that the compiler knows of one operator."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from torch import fx, nn

from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.ir.call import Call, Ref, Value, bind, resolve
from swdc.ir.distributed import plain_class
from swdc.ir.graph import SHAPE
from swdc.ir.program import Program
from swdc.ir.sizes import evaluate
from swdc.ops.dispatched import Dispatched
from swdc.ops.identity import Evaluation, Identity
from swdc.ops.work import ShapeOf, Work

Tensors = Mapping[str, torch.Tensor]
Affine = tuple[torch.Tensor, torch.Tensor]
"""An affine map y = scale x + shift of channels: scale and shift in float64, one of each for each channel."""


class Operator(Dispatched, Work):
    """What the compiler knows of an operator. Subclass, set ``names``, and pass the class to ``register``.

    The base class is an operator that it knows nothing of: what goes in and what comes out is frozen.
    """

    names: ClassVar[tuple[str, ...]] = ()
    """The overloads that this class describes, as ``str(overload)`` writes them."""
    repeats: ClassVar[bool] = False
    """Whether the rules can deal with dimensions of symbolic size along which channels repeat."""

    any_order: ClassVar[bool] = False
    """Whether channels may be put in another order, the same in all that a call reads and writes."""
    adds: ClassVar[bool] = False
    """Whether a call adds its argument ``other``, ``alpha`` times, to its argument ``self``."""

    attention: ClassVar[Literal["", "whole", "softmax", "product"]] = ""
    """What the operator is in an attention: all of it, or where it is written out its softmax or its products."""

    needs_layout: ClassVar[bool] = False
    """Whether what the operator returns, or whether it works, depends on how what it reads lies in memory."""

    not_negative: ClassVar[bool] = False
    """Whether no number in the result is negative."""

    def couple(self, call: Call, channels: Channels) -> None:
        """Say which labels the result carries, and join or freeze those of the inputs."""
        edit = f"give {call.operator} a rule with swdc.register"
        freeze_call(call, channels, "no rule for this operator", edit)

    def fold(self, call: Call, channels: Channels) -> None:
        """Say which value the dead channels of the result take; unknown unless said."""

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Return the literal arguments that change when channels go."""
        return {}

    def orderless(self, call: Call) -> bool:
        """Whether this call takes channels in any order; as ``any_order`` says, unless said."""
        return self.any_order

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """Return what a call gives back unchanged in evaluation; ``None``, unless said, because it computes something.

        Whoever asks compares shape and type of the result with those of what is given back; this need not.
        """
        return None

    def item_identity(self, call: Call, index: int) -> Identity | None:
        """Return what one of the several results of a call gives back, by its index; otherwise as ``identity``."""
        return None

    def asks_sizes(self, call: Call, value: fx.Node) -> bool:
        """Whether a call reads nothing of ``value`` but its sizes."""
        return False

    def laid_out_from(self, call: Call, dim: int) -> tuple[fx.Node, int] | None:
        """Return the value that a call only lays out anew, and which of its dimensions is ``dim`` of the result.

        ``None``, unless said, because the call does something else, or because several dimensions make up ``dim``.
        """
        return None

    def affine(self, call: Call, tensors: Tensors) -> Affine | None:
        """Return the affine map of the channels along dimension 1 that a call is in evaluation; ``None`` unless said.

        ``tensors`` are those of the program, by name, here and below.
        """
        return None

    def then_affine(self, call: Call, tensors: Tensors, affine: Affine, dim: int) -> Affine | None:
        """Return weight and bias with which a call does its work, and that of an affine map of its result after it.

        The channels of the result stand along ``dim``. Both are in float64. ``None``, unless said, because no weight
        and bias do.
        """
        return None

    def after_affine(self, call: Call, tensors: Tensors, affine: Affine) -> Affine | None:
        """Return weight and bias with which a call does the work of an affine map of what it reads, and its own.

        The channels of what it reads stand along dimension 1. Otherwise as ``then_affine``.
        """
        return None


class Leaf(Operator):
    """An operator that stands in a program as a leaf module of ``torch.nn``."""

    modules: ClassVar[tuple[type[nn.Module], ...]] = ()
    data: ClassVar[str] = "input"
    """The argument that the module is called with."""

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return the module that computes this call with the given tensors, ``None`` where none does."""
        raise TypeError(f"{type(self).__name__} has to say how its module is built")

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the overload and the arguments, but for ``data``, that a module at ``path`` stands for."""
        raise TypeError(f"{type(self).__name__} has to say what its module stands for")

    def relax(self, call: Call) -> dict[str, Any]:
        """Return the arguments that make a statistic over the channels that were there one over those that are left.

        ``operator`` among them is the operator of torch that computes it; none for all that is no such statistic.
        """
        return {}

    def drop_nothing(self, module: nn.Module) -> None:
        """Keep a module from dropping anything in training; nothing to do unless said."""


class OperatorTable:
    """What is known of operators by name, and of leaf modules by class; ``version`` counts the changes."""

    def __init__(self) -> None:
        self.operators: dict[str, Operator] = {}
        self.leaves: dict[type[nn.Module], Leaf] = {}
        self.version = 0

    def add(self, cls: type[Operator]) -> None:
        """Add an operator class; it replaces what was known of its names and modules."""
        operator = cls()
        self.version += 1
        self.operators.update(dict.fromkeys(cls.names, operator))
        if isinstance(operator, Leaf):
            self.leaves.update(dict.fromkeys(operator.modules, operator))


OPERATORS = OperatorTable()
_UNKNOWN = Operator()


def register(cls: type[Operator]) -> type[Operator]:
    """Add an operator class to the table (usable as a decorator); a later one replaces an earlier one."""
    OPERATORS.add(cls)
    return cls


@cache
def name_of(target: Any) -> str:
    """Return the name of a node's target in the table: ``aten.relu.default``, ``operator.getitem``."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    return f"operator.{target.__name__}"


def is_overload(name: str) -> bool:
    """Whether a leaf's name is that of an overload of ``torch.ops``, and not of a module that has none."""
    return name.count(".") == 2


def target_of(name: str) -> Any:
    """Return the overload that ``name`` names: the inverse of ``name_of`` for operators of ``torch.ops``."""
    namespace, operator, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), operator), overload)


def lookup(name: str) -> Operator:
    """Return what is known of an operator by its name."""
    return OPERATORS.operators.get(name, _UNKNOWN)


def family_of(name: str) -> str:
    """Return how reports call an operator."""
    return lookup(name).family or name.split(".")[1]


def leaf_of(module: nn.Module) -> Leaf:
    """Return what is known of a leaf module."""
    return OPERATORS.leaves[plain_class(module)]


def calls(program: Program) -> dict[fx.Node, tuple[Operator, Call]]:
    """Return what each ``call_function`` and ``call_module`` node calls, in the order of the graph."""
    return program.derived("calls", lambda: _calls(program), OPERATORS.version)


def _calls(program: Program) -> dict[fx.Node, tuple[Operator, Call]]:
    modules = program.leaves
    found: dict[fx.Node, tuple[Operator, Call]] = {}
    for node in program.graph.nodes:
        if node.op == "call_function":
            name = name_of(node.target)
            found[node] = (lookup(name), Call(node, name, bind(node)))
        elif node.op == "call_module":
            path = str(node.target)
            leaf = leaf_of(modules[path])
            name, arguments = leaf.arguments(modules[path], path)
            given = {keyword: resolve(value) for keyword, value in node.kwargs.items()}
            found[node] = (leaf, Call(node, name, {leaf.data: resolve(node.args[0]), **arguments, **given}))
    return found


def shapes_of(program: Program, sizes: Mapping[str, int]) -> ShapeOf:
    """Return a function that gives the shape of a value, with the given value for each symbol."""
    tensors = program.tensors

    def shape_of(value: Value) -> tuple[int, ...]:
        return tuple(tensors[value].shape) if isinstance(value, Ref) else evaluate(value.meta[SHAPE], sizes)

    return shape_of


def freeze_call(call: Call, channels: Channels, text: str, edit: str = "") -> None:
    """Freeze the channels of all that a call reads and of all that it returns."""
    reason = call.reason(text, edit)
    for value in call.tensors():
        channels.freeze_value(value, reason)
    channels.set(call, freeze_result(call, channels, reason))


def freeze_result(call: Call, channels: Channels, reason: Any) -> list[Any]:
    """Return fresh frozen labels for every static dimension of a call's result, or of its results."""
    shape = call.node.meta.get(SHAPE)
    if shape is None:
        return []
    if shape and isinstance(shape[0], tuple):
        return [_frozen(s, channels, reason) for s in shape]
    return _frozen(shape, channels, reason)


def _frozen(shape: Any, channels: Channels, reason: Any) -> list[Any]:
    labels = [channels.fresh(size) if isinstance(size, int) and size > 1 else None for size in shape or ()]
    for ids in labels:
        channels.freeze(ids, reason)
    return labels
