"""Counting parameters and operations by named conventions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import sympy
from torch import nn

from swdc.costs.counted_sizes import counted_sizes
from swdc.costs.formula import formula_of
from swdc.errors import SwdcError
from swdc.ir.argument_types import checked
from swdc.ir.graph import SCOPE
from swdc.ir.program import Program
from swdc.ops import calls, shapes_of

CONVENTIONS = ("paper", "reference", "macs")


@dataclass(frozen=True)
class LayerCount:
    """Operations of one call, and the number of parameters that this call is the first to read."""

    name: str
    operator: str
    parameters: int
    operations: int


@dataclass(frozen=True)
class Count:
    """Parameters and operations of a program, in total and by layer.

    ``before`` holds the totals of the program from which a slim program was cut. ``sizes`` are the dynamic
    sizes, by name, that are counted for, and ``program`` is what was counted.
    """

    parameters: int
    operations: int
    macs: int
    convention: str
    layers: tuple[LayerCount, ...] = field(repr=False)
    before: Mapping[str, int] | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    program: Program | None = field(default=None, repr=False, compare=False)

    @cached_property
    def formula(self) -> sympy.Expr:
        """The operations as an exact expression over the names of all dynamic sizes: ``formula.subs({"batch": 4})``.

        Sizes that are fixed in the program are numbers in it. Raises ``SwdcError`` if it does not give what is counted
        at these and other sizes.
        """
        if self.program is None:
            raise SwdcError("expected a count with its program, got one without; make it with swdc.count")
        return formula_of(self.program, self.convention, self.sizes)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as plain data, ready for JSON."""
        return {
            "convention": self.convention, "parameters": self.parameters, "operations": self.operations,
            "macs": self.macs, "before": None if self.before is None else dict(self.before), "sizes": dict(self.sizes),
            "layers": [vars(layer) for layer in self.layers],
        }  # fmt: skip


@checked(SwdcError)
def count(
    program: Program, convention: str = "paper", batch: int | None = None, sizes: Mapping[str, int] | None = None
) -> Count:
    """Count the parameters and operations of a program.

    Conventions, after section 4.5 of Tessier et al. 2022 (multiplications and additions are not told apart; f_in,
    f_out are channels, k the kernel size, h x w positions):

    - ``paper``: convolution f_in f_out k^2 h w, batch norm 2 f h w, dense layer f_in f_out + f_out at each position
      that it is applied to; h x w of the feature map that the layer reads. Grouped filters read their own group only.
    - ``reference``: the same with h x w of the feature map that the layer writes, as the authors' code counts.
    - ``macs``: multiply-adds of convolutions, dense layers and all other products with a sum: those of two activations
      (attention scores and their use, whether fused or written out, matmul, einsum), and those that compute a weight
      from parameters. It is half of what torch's ``FlopCounterMode`` counts, and what torchvision publishes as
      ``_ops``. A multiply-add of complex numbers counts once. Batch norms count nothing: they can be folded.

    A product is a dense layer, and counts as one in every convention, if one factor is a parameter, a buffer, or
    computed from these alone. One of more than two factors counts pair by pair, in the order in which torch multiplies.

    The authors' code halves the map twice where a bottleneck has a stride, so that it has fewer operations than
    ``reference`` for such networks (1.030 G, not 1.308 G, for ResNet-50 on 32 x 32); ``reference`` is by its formula.

    In every convention a recurrent layer counts as the dense layers of its gates, one on the input and one on the
    state, at every step and in each direction. The multiply-adds of a transposed convolution are f_in f_out k^2 at
    each position that it reads.

    No convention counts biases of convolutions, activations, pooling, sums, softmax, normalisation other
    than batch norm, Fourier transforms, elementwise products, and message passing in graph networks.
    Parameters are those that the program reads; a tied parameter counts once, and buffers do not count.

    Counts are for one sample, or ``batch`` samples, and for the sizes of the example. ``sizes`` gives others by the
    names of dynamic sizes, such as ``{"batch": 4, "length": 2048}``; the result's ``sizes`` has them all. If the inputs
    share no leading size, ``batch`` is that of the first input and of all inputs with as many rows, and by default that
    of the example. A graph has no batch, and a program that was recorded stands for its example only: both are counted
    as a whole. Raises ``SwdcError`` for names that are no dynamic sizes.

    Example::

        counted = swdc.count(program, "macs", batch=1)
        counted.parameters, counted.operations
    """
    if convention not in CONVENTIONS:
        raise SwdcError(f"expected a convention of {list(CONVENTIONS)}, got {convention!r}")
    counted = counted_sizes(program, batch, sizes)
    shape_of = shapes_of(program, counted)
    tensors = program.tensors
    seen: set[int] = set()
    layers: list[LayerCount] = []
    macs = 0
    for node, (operator, call) in calls(program).items():
        costs = operator.cost(call, shape_of)
        parameters = 0
        for value in call.tensors():
            tensor = tensors.get(str(value)) if not hasattr(value, "op") else None
            if isinstance(tensor, nn.Parameter) and id(tensor) not in seen:
                seen.add(id(tensor))
                parameters += tensor.numel()
        products = [(cost, prod(shape_of(value)[dim] for value, dim in cost.dims)) for cost in costs]
        operations = sum(getattr(cost, convention) * size for cost, size in products)
        macs += sum(cost.macs * size for cost, size in products)
        if operations or parameters:
            name = str(node.target) if node.op == "call_module" else node.name
            scope = node.meta.get(SCOPE)
            named = f"{scope}.{name}" if scope and node.op == "call_function" else name
            layers.append(LayerCount(named, call.operator, parameters, operations))
    for name in sorted(program.read_tensors()):  # returned by the program without a call that reads them
        tensor = tensors[name]
        if isinstance(tensor, nn.Parameter) and id(tensor) not in seen:
            seen.add(id(tensor))
            layers.append(LayerCount(name, "output", tensor.numel(), 0))
    origin = program.facts.origin
    return Count(
        parameters=sum(layer.parameters for layer in layers),
        operations=sum(layer.operations for layer in layers),
        macs=macs,
        convention=convention,
        layers=tuple(layers),
        before=None if origin is None else origin.before,
        sizes=counted,
        program=program,
    )


def totals(program: Program) -> dict[str, int]:
    """Return parameters, operations (the paper's) and multiply-adds of a program."""
    counted = count(program)
    return {"parameters": counted.parameters, "operations": counted.operations, "macs": counted.macs}
