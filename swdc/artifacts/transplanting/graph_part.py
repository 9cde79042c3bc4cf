"""The part of a slim program that was traced in one module of the user's model, extracted as a module."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate

from swdc.artifacts.transplanting.expected_tensors import IN, OUT, Nodes, Side
from swdc.artifacts.transplanting.outside_constants import outside_constants
from swdc.artifacts.transplanting.outside_sizes import OutsideSizes
from swdc.artifacts.transplanting.part_module import GIVEN, Extracted, Signature
from swdc.errors import PassError
from swdc.ir.call import Call, Ref, unbind
from swdc.ir.conditions import steps
from swdc.ir.graph import SCOPE, SHAPE
from swdc.ir.program import Program
from swdc.ir.sizes import Size
from swdc.ops import Leaf, Operator, calls
from swdc.ops.base import is_overload, target_of
from swdc.ops.creation import asked_size, computes_sizes, product_of, size_of
from swdc.ops.in_place import overwrites
from swdc.ops.size_expressions import Product, expression_of, in_steps, product_of_dims

_CONSTANTS = (type(None), bool, int, float, str)


def extract(
    program: Program, path: str, module: nn.Module, call: dict[str, Side], elsewhere: Collection[str], batch: int,
    shared: Collection[str] = (),
) -> Extracted:  # fmt: skip
    """Return a module that computes what the program does between the inputs and the result of a call.

    ``program`` holds the tensors of the result, ``elsewhere`` has the names of the user's tensors, and ``batch`` is
    that of the call. ``shared`` are the paths of what the module shares with modules outside. A result that the
    program does not compute, because nothing reads it, is ``None``. Raises ``PassError`` if the part reads anything
    that is not given to the module.
    """
    return _Extraction(program, path, module, call, elsewhere, batch, shared).module()


class _Extraction:
    def __init__(
        self, program: Program, path: str, replaced: nn.Module, call: dict[str, Side], elsewhere: Collection[str],
        batch: int, shared: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.scopes = (path, *shared)
        self.program, self.path, self.replaced, self.call, self.elsewhere = program, path, replaced, call, elsewhere
        self.by_name = {node.name: node for node in program.graph.nodes}
        self.order = {node: number for number, node in enumerate(program.graph.nodes)}
        self.graph = fx.Graph()
        self.made: dict[fx.Node, Any] = {}
        self.given: dict[str, int] = {}
        self.leaves: dict[str, nn.Module] = {}
        self.foreign: dict[str, torch.Tensor] = {}
        self.expressions: dict[fx.Node, Size | None] = {}
        self.found: dict[fx.Node, Product | None] = {}
        for number, leaf in enumerate(call[IN].leaves):
            if isinstance(leaf, Nodes):
                outside = [name for name in leaf.names if not self._inside(name)]
                self.given.update(dict.fromkeys(outside or leaf.names, number))
        known = {node for node in program.graph.nodes if self._size_of_input(node) is not None}
        self.constants = outside_constants(program.graph, self._inside, self.given, elsewhere)
        self.sizes = OutsideSizes(program, batch, self._computes, known, call[IN].leaves)

    def module(self) -> Extracted:
        """Return the finished module."""
        results = self._results()
        outputs = [value for kind, value in results if kind == "tensor"]
        needed = self._needed([*outputs, *self._overwriting(outputs)])
        taken: list[int] = []
        for node in needed:
            number = self.given.get(node.name, self.sizes.numbers.get(node))
            if number is not None:
                taken.append(number)
                self.made[node] = self.graph.placeholder(f"{node.name}_given")
        for node in needed:
            if node in self.sizes.constants:
                self.made[node] = self.sizes.constants[node]
                continue
            if node not in self.made:
                self.made[node] = self._copy(node)
            self.made[node].meta = dict(node.meta)
        self.graph.output(tuple(self.made[node] for node in outputs))
        self.graph.lint()
        places = {id(node): place for place, node in enumerate(outputs)}
        named = tuple((kind, places[id(value)] if kind == "tensor" else value) for kind, value in results)
        given = [node.meta.get(SHAPE, ()) for node in self.graph.find_nodes(op="placeholder")]
        shapes = tuple(tuple(self.sizes.fixed(size) for size in shape) for shape in given)
        signature = Signature(self.call[IN].spec, tuple(taken), self.call[OUT].spec, named, shapes)
        made = self._attached(Extracted(self.replaced, self.graph, signature))
        if self.sizes.constants:
            made.fix_sizes()
        return made

    # -- what is needed -----------------------------------------------------------------------------------------

    def _results(self) -> list[tuple[str, Any]]:
        """Return the kind and value of each leaf of the result: a node, the number of an argument, or a constant."""
        found: list[tuple[str, Any]] = []
        arguments = self.call[IN].leaves
        for leaf in self.call[OUT].leaves:
            if isinstance(leaf, Nodes):
                found.append(("tensor", self._result(leaf)) if leaf.names else ("constant", None))  # nothing reads it
            elif isinstance(leaf, _CONSTANTS):
                found.append(("constant", leaf))
            else:
                places = [number for number, argument in enumerate(arguments) if argument is leaf]
                if not places:
                    raise PassError(f"it returns an object of {type(leaf).__name__}")
                found.append((GIVEN, places[0]))
        if not any(kind == "tensor" for kind, _ in found):
            raise PassError("its result is not a value of the program")
        return found

    def _result(self, leaf: Nodes) -> fx.Node:
        nodes = [self.by_name[name] for name in leaf.names if name in self.by_name]
        inside = [node for node in nodes if self._inside(node.name)]
        if not nodes:
            raise PassError("its result is not a value of the program")
        last: fx.Node = max(inside or nodes, key=lambda node: self.order[node])
        return last

    def _overwriting(self, outputs: list[fx.Node]) -> list[fx.Node]:
        """Return the nodes inside that overwrite a value before the last output: they count even if unread."""
        last = max((self.order[node] for node in outputs), default=0)
        return [n for n, number in self.order.items() if number < last and overwrites(n) and self._inside(n.name)]

    def _needed(self, outputs: list[fx.Node]) -> list[fx.Node]:
        """Return the nodes between the inputs and the outputs, in order."""
        found: set[fx.Node] = set()
        waiting = list(outputs)
        while waiting:
            node = waiting.pop()
            if node in found:
                continue
            found.add(node)
            if node.name in self.given or node.op == "get_attr":
                continue
            self._check(node)
            if self._size_of_input(node) is None and node not in self.sizes:
                waiting += node.all_input_nodes
        sizes = [size for size in map(self._size_of_input, found) if size is not None]
        wanted = {self.by_name[name] for size in sizes for name, _ in size.dims}
        return sorted(found | wanted, key=lambda node: self.order[node])

    def _check(self, node: fx.Node) -> None:
        if not self._computes(node.name) and not computes_sizes(node):
            raise PassError(f"it reads {node.name}, which is computed outside and not given to it")

    def _inside(self, name: str) -> bool:
        node = self.by_name.get(name)
        scope = "" if node is None or node.op == "placeholder" else str(node.meta.get(SCOPE) or "")
        return any(scope == path or scope.startswith(f"{path}.") for path in self.scopes)

    def _computes(self, name: str) -> bool:
        """Whether the part computes a value, which lies inside or can be computed inside as well."""
        return self._inside(name) or self.by_name.get(name) in self.constants

    def _size_of_input(self, node: fx.Node) -> Product | None:
        """Return the dimensions of given values whose product is the size that a node takes of another value."""
        if node not in self.found:
            self.found[node] = self._looked_for(node)
        return self.found[node]

    def _looked_for(self, node: fx.Node) -> Product | None:
        asked = asked_size(node)
        if asked is not None and asked[0].name in self.given:
            return Product(((asked[0].name, asked[1]),), 1)
        wanted = expression_of(node, self.expressions)
        if wanted is None or (asked is None and isinstance(wanted, int)):
            return None  # a constant that is computed equals many sizes
        shapes = {name: self.by_name[name].meta.get(SHAPE) or () for name in self.given if name in self.by_name}
        known = steps(self.program.facts.conditions)
        return product_of_dims(in_steps(wanted, known), {n: [in_steps(s, known) for s in x] for n, x in shapes.items()})

    # -- copying ------------------------------------------------------------------------------------------------

    def _copy(self, node: fx.Node) -> fx.Node:
        if node.op == "get_attr":
            return self.graph.get_attr(self._own(str(node.target)))
        if node.op == "call_module":
            return self._call(node)
        size = self._size_of_input(node)
        if size is not None:
            first, *others = [size_of(self.made[self.by_name[name]], dim) for name, dim in size.dims]
            found = product_of(first, others[0]) if others else first
            return found if size.factor == 1 else product_of(found, size.factor)
        return self.graph.node_copy(node, lambda n: self.made[n])

    def _own(self, name: str) -> str:
        """Return the name of a tensor below the path; a tensor that only the program has gets a new name."""
        tensors = self.program.tensors
        names = [other for other in self.elsewhere if tensors.get(other) is tensors[name]]
        inside = [other for other in names if other.startswith(f"{self.path}.")]
        if names and not inside:
            raise PassError(f"it reads {name}, which is held outside and not given to it")
        if inside:
            return inside[0].removeprefix(f"{self.path}.")
        for own, tensor in self.foreign.items():
            if tensor is tensors[name]:
                return own
        own = self._free(name.replace(".", "_"))
        self.foreign[own] = tensors[name]
        return own

    def _free(self, name: str) -> str:
        """Return a name that neither the replaced module nor a tensor that only the program has uses."""
        while hasattr(self.replaced, name) or name in self.foreign:
            name = f"{name}_"
        return name

    def _call(self, node: fx.Node) -> fx.Node:
        target = str(node.target)
        if target.startswith(f"{self.path}."):
            relative = self._place(target.removeprefix(f"{self.path}."))
            self.leaves[relative] = self.program.get_submodule(target)
            return self.graph.call_module(relative, self._new(node.args), self._new(node.kwargs))
        known, call = calls(self.program)[node]
        if not is_overload(call.operator):
            return self._call_without_tensors(node, known, call)
        overload = target_of(call.operator)
        args, kwargs = unbind(overload, call.arguments)
        return self.graph.call_function(overload, self._new(args), self._new(kwargs))

    def _place(self, relative: str) -> str:
        """Return the path of a leaf: the path of the user's module, or a new one that is not in use."""
        if _at(self.replaced, relative) is not None:
            return relative
        return self._free(relative.replace(".", "_"))

    def _call_without_tensors(self, node: fx.Node, leaf: Operator, call: Call) -> fx.Node:
        """Call a leaf at the path itself, as a child without tensors of its own: they become arguments of the call."""
        assert isinstance(leaf, Leaf)
        given = {n: v for n, v in call.arguments.items() if n != leaf.data and isinstance(v, fx.Node | Ref)}
        bare = Call(node, call.operator, {**call.arguments, **dict.fromkeys(given)})
        module = leaf.build(bare, self.program.tensors)
        if module is None:
            raise PassError(f"no module computes {call.operator} on tensors that it is given")
        self.leaves[node.name] = module
        return self.graph.call_module(node.name, (self._new(call[leaf.data]),), self._new(given))

    def _new(self, arguments: Any) -> Any:
        return map_aggregate(arguments, self._new_leaf)

    def _new_leaf(self, argument: Any) -> Any:
        if isinstance(argument, Ref):
            return self.graph.get_attr(self._own(argument))
        return self.made[argument] if isinstance(argument, fx.Node) else argument

    def _attached(self, module: Extracted) -> Extracted:
        """Give an extracted module the leaves that it calls, and the tensors that only the program has."""
        for relative, leaf in self.leaves.items():
            put_module(module, relative, leaf)
        for name, tensor in self.foreign.items():
            if isinstance(tensor, nn.Parameter):
                module.register_parameter(name, tensor)
            else:
                module.register_buffer(name, tensor, persistent=False)
        return module


def put_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path unless one of its class is there; the modules above it are copied, or made."""
    *parents, name = path.split(".")
    if type(_at(root, path)) is type(module):
        return
    for part in parents:
        child = root._modules.get(part)
        root._modules[part] = nn.Module() if child is None else _shallow(child)
        root = root._modules[part]  # type: ignore[assignment]
    root._modules[name] = module


def _at(root: nn.Module, path: str) -> nn.Module | None:
    found: nn.Module | None = root
    for part in path.split("."):
        found = None if found is None else found._modules.get(part)
    return found


def _shallow(module: nn.Module) -> nn.Module:
    """Return a copy of a module with the same children and tensors."""
    copy: nn.Module = module.__class__.__new__(module.__class__)
    copy.__dict__.update({**vars(module), "_modules": dict(module._modules)})
    return copy
