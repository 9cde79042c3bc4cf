"""What a program takes: inputs are held against the example that the program was traced with before it runs."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx
from torch.fx.graph import _PyTreeCodeGen
from torch.utils import _pytree as pytree

from swdc.errors import InputError
from swdc.ir.argument_types import shown
from swdc.ir.call import source_of
from swdc.ir.conditions import Condition, FixedSize, broken
from swdc.ir.described_objects import Described
from swdc.ir.graph import DTYPE, SHAPE, describe
from swdc.ir.input_kinds import check_kind
from swdc.ir.module_tensors import tensors_of
from swdc.ir.result_classes import by_fields, register_dataclasses
from swdc.ir.sizes import Shape, evaluate

_RECORDED = (
    "the program was recorded on its example and stands for nothing else; run and train the model itself, whose "
    "parameters these are"
)


@dataclass(frozen=True)
class _Form:
    """What one input looks like. If it is no tensor, ``dtype`` is None and ``value`` is the value that is built in."""

    name: str
    shape: Shape
    dtype: torch.dtype | None
    value: Any
    rank: int
    fixed: tuple[tuple[int, int], ...]
    symbols: tuple[tuple[int, str], ...]
    derived: tuple[tuple[int, Any], ...]


class InputCheck:
    """Holds the arguments of a call against number, structure, types, sizes and values that a program stands for.

    Everything that does not depend on the arguments is computed once.
    """

    def __init__(
        self,
        graph: fx.Graph,
        example: Any,
        conditions: tuple[Condition, ...] = (),
        fixed: tuple[FixedSize, ...] = (),
        recorded: bool = False,
        by_name: Collection[str] = (),
    ) -> None:
        self.example = example
        self._way_out = _RECORDED if recorded else "give inputs of that shape, or trace the model again with these"
        self._conditions = conditions
        self._sources = {(one.name, one.dim): one.source for one in fixed if one.source}
        self._met: dict[str, int] | None = None
        nodes = graph.find_nodes(op="placeholder")
        self._forms = [_form(*pair) for pair in zip(nodes, pytree.tree_leaves(example), strict=True)]
        self._names, self._structures = _arguments(graph, nodes)
        self._most = len(self._names) - len(by_name)
        self._is_flat = all(structure.is_leaf() for structure in self._structures)
        self._reference = _reference(graph)
        self._nodes, self._takes = graph.nodes, dict[torch.dtype, str]()

    def __call__(self, program: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise ``InputError`` if the program does not stand for these arguments."""
        values = self.leaves(args, kwargs)
        now = _type_now(program, self._reference)
        if now is not None:
            self._check_cast(now)
        sizes: dict[str, int] = {}
        for form, value in zip(self._forms, values, strict=True):
            if form.dtype is None:
                _check_value(form, value)
            elif not isinstance(value, torch.Tensor):
                raise InputError(f"expected {form.name} as a tensor of shape {describe(form.shape)}, {_got(value)}")
            else:
                if value.is_meta or value.is_nested:
                    check_kind(program, form.name, value)
                if value.dtype is not form.dtype or now is not None:
                    self._check_type(program, form, value, now)
                self._check_shape(form, value.shape, sizes)
        if self._conditions and sizes != self._met:
            self._check_conditions(sizes)

    def _check_cast(self, now: torch.dtype) -> None:
        """Raise ``InputError`` if the program was cast to ``now``, and its graph computes with its old type."""
        if now not in self._takes:
            self._takes[now] = next((_line(n) for n in self._nodes if _is_typed(n, self._reference[2], now)), "")
        if self._takes[now]:
            raise InputError(
                f"expected a program in {self._reference[2]}, as it was traced, got one that was cast to {now}, but at "
                f"{self._takes[now]} it computes with the type of the example; cast the model, and trace it again"
            )

    def leaves(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:
        """Return the values of the placeholders, in order; ``InputError`` for another number or structure."""
        values: Sequence[Any] = args
        if kwargs or len(args) != len(self._names) or len(args) > self._most:
            values = self._bound(args, kwargs)
        return values if self._is_flat else self._flattened(values)

    def _check_conditions(self, sizes: dict[str, int]) -> None:
        """Raise ``InputError`` for sizes at which the model's code does something else."""
        found = broken(self._conditions, sizes)
        if found is not None:
            got = ", ".join(f"{name} {sizes[name]}" for name in sorted(found.symbols))
            raise InputError(
                f"expected inputs with {found}, got {got}; give inputs of such a size, or trace the model again with "
                f"these"
            )
        self._met = sizes

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """Return the arguments in order."""
        left = self._names[len(args) :]
        if len(args) > self._most and len(args) <= len(self._names):
            named = ", ".join(self._names[self._most :])
            raise InputError(
                f"expected {named} by name, as in the example, got {len(args)} arguments by place; the model's forward "
                f"has others at these places"
            )
        if len(args) + len(kwargs) == len(self._names) and kwargs.keys() == set(left):
            return [*args, *(kwargs[name] for name in left)]
        wanted = ", ".join(f"{form.name}: {_described(form)}" for form in self._forms)
        unknown = [name for name in kwargs if name not in left]
        more = f", with {', '.join(unknown)}" if unknown else ""
        raise InputError(
            f"expected {len(self._forms)} inputs ({wanted}), got {len(pytree.tree_leaves((args, kwargs)))}{more}; call "
            f"the program with the arguments of the traced model"
        )

    def _flattened(self, values: Sequence[Any]) -> list[Any]:
        found = []
        for name, structure, value in zip(self._names, self._structures, values, strict=True):
            leaves, actual = pytree.tree_flatten(value)
            if actual != structure and register_dataclasses(value):
                leaves, actual = pytree.tree_flatten(value)
            if actual != structure and by_fields(actual) != by_fields(structure):
                wanted, got = (" ".join(str(one).split()) for one in (structure, actual))
                raise InputError(
                    f"expected {name} with the structure {wanted}, got {got}; give it as in the example, or trace the "
                    f"model again with these inputs"
                )
            found += leaves
        return found

    def _check_type(self, program: torch.nn.Module, form: _Form, value: torch.Tensor, now: torch.dtype | None) -> None:
        """Raise ``InputError`` for a type that is neither that of the example nor that of weights that were cast."""
        given, wanted = value.dtype, form.dtype
        assert wanted is not None
        allowed = [wanted]
        if now is not None and wanted.is_floating_point:
            allowed = [now] if wanted is self._reference[2] else [wanted, now]
        elif now is not None and wanted.is_complex:
            allowed = [wanted, now.to_complex()]
        elif self._reference[2] is None and wanted.is_floating_point:
            allowed = [wanted, *_float_types(program)]
        mixes = given.is_floating_point and torch.is_autocast_enabled(value.device.type)
        if given in allowed or (mixes and wanted.is_floating_point):
            return
        raise InputError(
            f"expected {form.name} of {' or '.join(map(str, allowed))}, got {given}; cast it, or trace the model again "
            f"with inputs of that type"
        )

    def _check_shape(self, form: _Form, shape: torch.Size, sizes: dict[str, int]) -> None:
        """Raise ``InputError`` for another rank or size, or if a symbol stands for two sizes; note sizes of symbols."""
        if len(shape) != form.rank:
            raise self._wrong_shape(form, shape)
        for place, size in form.fixed:
            if shape[place] != size:
                raise self._wrong_shape(form, shape)
        for place, name in form.symbols:
            if sizes.setdefault(name, shape[place]) != shape[place]:
                raise self._wrong_shape(form, shape, f" where {name} is {sizes[name]}")
        for place, size in form.derived:
            known = all(str(symbol) in sizes for symbol in size.free_symbols)
            if known and evaluate((size,), sizes)[0] != shape[place]:
                raise self._wrong_shape(form, shape)

    def _wrong_shape(self, form: _Form, shape: torch.Size, more: str = "") -> InputError:
        wrong = [dim for dim, size in form.fixed if shape[dim] != size] if len(shape) == form.rank else []
        asked = (self._sources.get((form.name, dim)) for dim in wrong)
        line = next((f"; {source} fixes that size" for source in asked if source), "")
        return InputError(
            f"expected {form.name} of shape {describe(form.shape)}{more}, got {tuple(shape)}; {self._way_out}{line}"
        )


def _form(node: fx.Node, leaf: Any) -> _Form:
    """Return the form of the input that a placeholder stands for, given its example."""
    is_tensor = isinstance(leaf, torch.Tensor)
    shape: Shape = tuple(node.meta.get(SHAPE) or ()) if is_tensor else ()
    sizes = list(enumerate(shape))
    return _Form(
        name=node.name,
        shape=shape,
        dtype=(node.meta.get(DTYPE) or leaf.dtype) if is_tensor else None,
        value=None if is_tensor else leaf,
        rank=len(shape) if node.meta.get(SHAPE) is not None or not is_tensor else leaf.dim(),
        fixed=tuple((place, size) for place, size in sizes if isinstance(size, int)),
        symbols=tuple((place, str(size)) for place, size in sizes if getattr(size, "is_symbol", False)),
        derived=tuple((place, size) for place, size in sizes if not isinstance(size, int) and not size.is_symbol),
    )


def _arguments(graph: fx.Graph, nodes: Sequence[fx.Node]) -> tuple[list[str], list[pytree.TreeSpec]]:
    """Return the names of a program's arguments, and the structure of each."""
    if not isinstance(graph._codegen, _PyTreeCodeGen):
        return [node.name for node in nodes], [pytree.tree_structure(0) for _ in nodes]
    info = graph._codegen.pytree_info
    positional, keywords = info.in_spec.children()
    return list(info.orig_args), [*positional.children(), *keywords.children()]


def cast_types(program: fx.GraphModule) -> dict[torch.dtype, torch.dtype]:
    """Return the type of a program's weights by the type that they had when it was traced; empty if it is the same."""
    reference = _reference(program.graph)
    now = _type_now(program, reference)
    return {} if now is None or reference[2] is None else {reference[2]: now}


def _type_now(
    program: torch.nn.Module, reference: tuple[tuple[str, ...], str, torch.dtype | None]
) -> torch.dtype | None:
    """Return the type of the program's weights if they have been cast, otherwise ``None``."""
    path, attribute, before = reference
    module: torch.nn.Module | None = program
    for name in path:
        module = module._modules.get(name) if module is not None else None
    tensor = module._parameters.get(attribute) if module is not None else None
    return None if tensor is None or tensor.dtype is before else tensor.dtype


def _reference(graph: fx.Graph) -> tuple[tuple[str, ...], str, torch.dtype | None]:
    """Return a parameter (the path of its module, and its name) that shows the type of the weights, and that type."""
    for node in graph.find_nodes(op="call_module"):
        dtype, owner = node.meta.get(DTYPE), graph.owning_module
        module = owner.get_submodule(str(node.target)) if owner is not None else torch.nn.Module()
        name = next((n for n, t in module._parameters.items() if t is not None and t.is_floating_point()), None)
        if name is not None and dtype is not None and dtype.is_floating_point:
            return tuple(str(node.target).split(".")), name, dtype
    return (), "", None


def _is_typed(node: fx.Node, before: torch.dtype | None, now: torch.dtype) -> bool:
    """Whether a call names the type ``before``, or a number that ``now`` cannot hold."""
    found: list[Any] = []
    fx.node.map_aggregate((node.args, node.kwargs), found.append)
    most = torch.finfo(now).max
    return any(leaf is before or (isinstance(leaf, float) and most < abs(leaf) < math.inf) for leaf in found)


def _line(node: fx.Node) -> str:
    return source_of(node) or node.name


def _float_types(program: torch.nn.Module) -> list[torch.dtype]:
    """Return the types of a program's tensors."""
    return list(dict.fromkeys(t.dtype for t in tensors_of(program).values() if t.is_floating_point()))


def _check_value(form: _Form, value: Any) -> None:
    if value is not form.value and not _is_same(value, form.value):
        raise InputError(
            f"expected {form.name} as in the example, {form.value!r}, which is built into the program, {_got(value)}"
        )


def _is_same(value: Any, built_in: Any) -> bool:
    if isinstance(built_in, Described):
        return built_in.describes(value)
    if type(value) is not type(built_in):
        return False
    if isinstance(value, np.ndarray):
        return bool(np.array_equal(value, built_in))
    if isinstance(value, float):
        return repr(value) == repr(built_in)  # nan is nan, and zeros have signs
    return bool(value == built_in)


def _described(form: _Form) -> str:
    return describe(form.shape) if form.dtype is not None else repr(form.value)


def _got(value: Any) -> str:
    text = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else shown(value)
    return f"got {text}; give inputs as in the example, or trace the model again with these"
