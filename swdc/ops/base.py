"""The operator table: one class holds everything that the compiler knows about an operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, Literal

import torch
from torch import fx, nn

from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.errors import SwdcError
from swdc.ir.argument_types import check_type, checked
from swdc.ir.call import Call, Ref, Value, bind, resolve
from swdc.ir.distributed import plain_class
from swdc.ir.graph import SHAPE
from swdc.ir.program import Program
from swdc.ir.sizes import evaluate
from swdc.ops.affine_rows import AffineRows
from swdc.ops.call_cost import ShapeOf, Work
from swdc.ops.capture_traits import Dispatched
from swdc.ops.freezing import freeze_call
from swdc.ops.identity import Evaluation, Identity
from swdc.ops.leaf_modules import refs
from swdc.ops.single_channels import OfSingles

Tensors = Mapping[str, torch.Tensor]
Affine = tuple[torch.Tensor, torch.Tensor]
"""An affine map y = scale x + shift of channels: scale and shift in float64, one of each for each channel."""


class Operator(Dispatched, Work, OfSingles):
    """Everything that the compiler knows about an operator. Subclass it, set ``names``, and call ``register``.

    The base class represents an unknown operator: the channels of all its inputs and results are frozen.
    """

    names: ClassVar[tuple[str, ...]] = ()
    """The overloads that this class describes, as ``str(overload)`` gives them."""
    repeats: ClassVar[bool] = False
    """Whether the rules can handle dimensions of symbolic size along which channels repeat."""

    any_order: ClassVar[bool] = False
    """Whether channels may be reordered, in the same way in all inputs and results of a call."""
    adds: ClassVar[bool] = False
    """Whether a call computes ``self + alpha * other``."""

    attention: ClassVar[Literal["", "whole", "softmax", "product"]] = ""
    """The operator's part in an attention: the whole, or, if the attention is written out, its softmax or a product."""

    needs_layout: ClassVar[bool] = False
    """Whether the memory layout of the input decides what the operator returns, or whether it works at all."""

    is_norm: ClassVar[bool] = False
    """Whether it normalises: its gain and shift are not weights of a layer."""
    narrow: ClassVar[tuple[str, ...]] = ()
    """Arguments that the kernel takes in their own floating-point type alone."""

    not_negative: ClassVar[bool] = False
    """Whether no number in the result is negative."""

    def couple(self, call: Call, channels: Channels) -> None:
        """Set the labels of the result, and join or freeze those of the inputs."""
        edit = f"give {call.operator} a rule with swdc.register"
        freeze_call(call, channels, "no rule for this operator", edit)

    def fold(self, call: Call, channels: Channels) -> None:
        """Set the values of the result's dead channels; by default they are unknown."""

    def resize(self, call: Call, kept: Kept) -> dict[str, Any]:
        """Return new values of the literal arguments that change when channels are removed."""
        return {}

    def orderless(self, call: Call) -> bool:
        """Whether this call accepts channels in any order; by default as ``any_order`` says."""
        return self.any_order

    def identity(self, call: Call, evaluation: Evaluation) -> Identity | None:
        """Return the input that a call returns unchanged in evaluation; by default ``None``: it computes something.

        The caller compares shape and type of the result with those of the input; this method need not.
        """
        return None

    def item_identity(self, call: Call, index: int) -> Identity | None:
        """Return the input that result number ``index`` of a call with several results equals, as ``identity`` does."""
        return None

    def asks_sizes(self, call: Call, value: fx.Node) -> bool:
        """Whether a call reads only the sizes of ``value``."""
        return False

    def laid_out_from(self, call: Call, dim: int) -> tuple[fx.Node, int] | None:
        """Return the value that a call only rearranges, and which of its dimensions becomes ``dim`` of the result.

        By default ``None``: the call does something else, or several dimensions make up ``dim``.
        """
        return None

    def affine(self, call: Call, tensors: Tensors) -> Affine | None:
        """Return the affine map of channels along dimension 1 that a call computes in evaluation; by default ``None``.

        Here and below, ``tensors`` are those of the program, by name.
        """
        return None

    def affine_rows(self, call: Call) -> AffineRows | None:
        """Return how a call multiplies rows of its input with a matrix; by default ``None``: it does something else."""
        return None

    def then_affine(self, call: Call, tensors: Tensors, affine: Affine, dim: int) -> Affine | None:
        """Return weight and bias with which a call also applies an affine map to its result.

        The channels of the result lie along ``dim``. Weight and bias are in float64. By default ``None``: no weight
        and bias can do so.
        """
        return None

    def after_affine(self, call: Call, tensors: Tensors, affine: Affine) -> Affine | None:
        """Return weight and bias with which a call first applies an affine map to its input.

        The channels of the input lie along dimension 1. Otherwise as ``then_affine``.
        """
        return None


class Leaf(Operator):
    """An operator that a leaf module of ``torch.nn`` can represent in a program."""

    modules: ClassVar[tuple[type[nn.Module], ...]] = ()
    bases: ClassVar[tuple[type[nn.Module], ...]] = ()
    """Classes of torch from which users derive modules that it computes; by default ``modules``."""
    data: ClassVar[str] = "input"
    """The argument that the module is called with."""
    tensors: ClassVar[tuple[str, ...]] = ("weight", "bias")
    options: ClassVar[tuple[str, ...]] = ()
    """Like ``tensors``, arguments that its module holds under the same names."""
    fixed: ClassVar[Mapping[str, Any]] = {}
    """Arguments that are the same in every call that its module represents."""
    writes_channels: ClassVar[bool] = False
    """Whether its own parameters decide, channel by channel, what it writes: a layer or a batch norm."""
    keeps_path: ClassVar[bool] = False
    """Whether it stands at the path of the user's module although no tensors of the module name that path."""
    width: ClassVar[str] = ""
    """The attribute of its module that gives the number of channels that it writes; empty if there is none."""
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {}
    """The attributes of its module that give sizes of a tensor, which calls other than its own may also read."""

    def build(self, call: Call, tensors: Mapping[str, torch.Tensor]) -> nn.Module | None:
        """Return a module that computes this call with the given tensors, or ``None`` if there is none."""
        raise TypeError(f"{type(self).__name__} has to say how its module is built")

    def arguments(self, module: nn.Module, path: str) -> tuple[str, dict[str, Any]]:
        """Return the overload that a module at ``path`` represents, and its arguments except ``data``."""
        options = {name: getattr(module, name) for name in self.options}
        return self.names[0], {**refs(module, path, *self.tensors), **options, **self.fixed}

    def completed(self, arguments: Mapping[str, Any], module: nn.Module | None) -> Mapping[str, Any]:
        """Return the arguments of a call with what only the user's module tells; by default as they are given."""
        return arguments

    def relax(self, call: Call) -> dict[str, Any]:
        """Return arguments that turn a statistic over the original channels into one over the kept channels.

        Among them, ``operator`` is the operator of torch that computes it. Empty for other operators.
        """
        return {}

    def drop_nothing(self, module: nn.Module) -> None:
        """Make a module scale in training instead of dropping at random; by default there is nothing to do."""


class OperatorTable:
    """Operators by name and by function, and leaf modules by class; ``version`` counts the changes."""

    def __init__(self) -> None:
        self.operators: dict[str, Operator] = {}
        self.functions: dict[Any, Operator] = {}
        self.leaves: dict[type[nn.Module], Leaf] = {}
        self.version = 0

    def add(self, cls: type[Operator]) -> None:
        """Add an operator class; it replaces earlier ones for its names and modules."""
        operator = cls()
        self.version += 1
        self.operators.update(dict.fromkeys(cls.names, operator))
        self.functions.update(dict.fromkeys(cls.functions, operator))
        if isinstance(operator, Leaf):
            self.leaves.update(dict.fromkeys(operator.modules, operator))


OPERATORS = OperatorTable()
_UNKNOWN = Operator()
NO_LEAF = Leaf()


@checked(SwdcError)
def register(cls: type[Operator]) -> type[Operator]:
    """Add an operator class to the table (usable as a decorator); a later class replaces an earlier one.

    Raises ``SwdcError`` if the names, functions or modules of the class are not tuples of these.

    Example::

        swdc.register(MyOperator)            # a subclass of swdc.Operator
    """
    for name, hint in (("names", tuple[str, ...]), ("functions", tuple[Callable[..., Any], ...])):
        check_type(SwdcError, f"{cls.__name__}.{name}", getattr(cls, name), hint)
    if issubclass(cls, Leaf):
        check_type(SwdcError, f"{cls.__name__}.modules", cls.modules, tuple[type[nn.Module], ...])
    OPERATORS.add(cls)
    return cls


@cache
def name_of(target: Any) -> str:
    """Return the name of a node's target in the table: ``aten.relu.default``, ``operator.getitem``."""
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    return f"operator.{target.__name__}"


def is_overload(name: str) -> bool:
    """Whether a leaf's name is an overload of ``torch.ops``, not one of the compiler's own modules."""
    return name.count(".") == 2


def target_of(name: str) -> Any:
    """Return the overload with a name: the inverse of ``name_of`` for operators of ``torch.ops``."""
    namespace, operator, overload = name.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), operator), overload)


def lookup(name: str) -> Operator:
    """Return the operator of a name; an unknown name gives the base class's operator."""
    return OPERATORS.operators.get(name, _UNKNOWN)


def called_by(function: Any) -> Operator:
    """Return the operator that a function of torch calls; the base class's for functions that no operator names."""
    return OPERATORS.functions.get(function, _UNKNOWN)


def family_of(name: str) -> str:
    """Return the name of an operator in reports."""
    return lookup(name).family or name.split(".")[1]


@checked(SwdcError)
def leaf_of(module: nn.Module) -> Leaf:
    """Return the operator of a leaf module; ``SwdcError`` if no operator is that of its class."""
    kind = plain_class(module)
    if kind not in OPERATORS.leaves:
        raise SwdcError(f"expected a module that an operator stands for, got {kind.__name__}; swdc.register adds some")
    return OPERATORS.leaves[kind]


def leaf_like(module: nn.Module) -> Leaf:
    """Return the operator of a user's module, which may be of a derived class; the base class's if there is none."""
    leaves = dict.fromkeys(OPERATORS.leaves.values())
    return next((leaf for leaf in leaves if isinstance(module, leaf.bases or leaf.modules)), NO_LEAF)


@checked(SwdcError)
def calls(program: Program) -> dict[fx.Node, tuple[Operator, Call]]:
    """Return operator and call of each ``call_function`` and ``call_module`` node, in the order of the graph.

    ``[call.operator for _, call in swdc.calls(program).values()]`` are the names of a program's operators.
    """
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


@checked(SwdcError)
def shapes_of(program: Program, sizes: Mapping[str, int]) -> ShapeOf:
    """Return a function that gives the shape of a value, with each symbol replaced by its size in ``sizes``."""
    tensors = program.tensors

    def shape_of(value: Value) -> tuple[int, ...]:
        return tuple(tensors[value].shape) if isinstance(value, Ref) else evaluate(value.meta[SHAPE], sizes)

    return shape_of
