"""Runs programs in float64 or in their own types, on copies, with the same result for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from swdc.capture.restore import buffers_kept
from swdc.errors import InputError, VerificationError
from swdc.ir.call import Ref
from swdc.ir.dtypes_and_devices import OWN, compute_in, default_dtype
from swdc.ir.input_check import cast_types
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from swdc.ir.seeding import seed_all
from swdc.ops import calls, leaf_of
from swdc.ops.in_place import operator_of, written
from swdc.ops.special_activations import keep_all

WIDE = torch.float64


@contextmanager
def copies_in(*programs: Program, dtype: torch.dtype | None) -> Iterator[list[Program]]:
    """Yield copies of programs that compute in ``dtype`` (``None``: their own), and free their memory at the end.

    Graphs refer to themselves, so Python would keep the copies until it collects garbage: gigabytes for a large model.
    """
    copies = [copy_in(program, dtype) for program in programs]
    try:
        yield copies
    finally:
        for tensor in (tensor for copy in copies for tensor in copy.tensors.values()):
            tensor.data = tensor.new_empty(0)


def copy_in(program: Program, dtype: torch.dtype | None) -> Program:
    """Return a copy of a program that computes in ``dtype`` throughout (``None``: as it does), and drops nothing."""
    copy = program.clone(dtype)
    if dtype is not None:
        keep_narrow(program, copy)
        compute_in(copy, dtype)
    if dtype == WIDE:
        _unround(program, copy)
    own = program.tensors
    for node in copy.graph.find_nodes(op="get_attr"):
        node.meta[OWN] = own[str(node.target)].dtype
    for module in copy.leaves.values():
        leaf_of(module).drop_nothing(module)
    keep_all(copy, scaled=True)
    return copy


def keep_narrow(program: Program, copy: Program) -> None:
    """Give a copy the tensors in their own type that kernels take in no other."""
    for operator, call in calls(program).values():
        for name in (call.arguments.get(argument) for argument in operator.narrow):
            if isinstance(name, Ref):
                copy.tensors[name].data = program.tensors[name].detach().clone()


def _unround(program: Program, copy: Program) -> None:
    """Set biases that a rewrite computed to the values that they had before they were rounded for storage."""
    origin = program.facts.origin
    stored, tensors = program.tensors, copy.tensors
    with torch.no_grad():
        for name, value in origin.folded.items() if origin is not None else ():
            if torch.equal(value.to(stored[name]), stored[name].detach()):
                tensors[name].copy_(value)


def called(program: Program, inputs: Any, seed: int, dtype: torch.dtype | None, grad: bool = False) -> Any:
    """Return the output of a program for positional and keyword inputs, with its random numbers drawn from a seed.

    A program that writes into buffers runs twice, and both outputs are returned in a tuple, so that what it has written
    shows. Buffers are restored. With ``grad`` the output can be differentiated; then the program runs once, and buffers
    keep what it has written.
    """
    args, kwargs = inputs
    creating = nullcontext() if dtype is None else default_dtype(dtype)
    restoring = torch.random.fork_rng(devices=[]) if grad else buffers_kept(program)
    with torch.set_grad_enabled(grad), restoring, creating:
        seed_all(seed)
        try:
            result = _run(program, args, kwargs, seed, dtype)
            if grad:
                return result
            first = _detached(result)
            return (first, _detached(_run(program, args, kwargs, seed, dtype))) if written(program.graph) else first
        except (RuntimeError, IndexError, ValueError) as error:
            if not program.facts.example_only:
                raise
            raise VerificationError(
                f"expected a recorded program to run with other weights, but its sizes depend on the values that it "
                f"computes ({str(error).splitlines()[0]}); slim and compare the model itself with swdc.transplant"
            ) from error


def _detached(result: Any) -> Any:
    """Return copies of results, because a program may return a buffer that its next call changes."""
    return pytree.tree_map_only(torch.Tensor, lambda t: t.detach().clone(), result)


def _run(program: Program, args: Any, kwargs: Any, seed: int, dtype: torch.dtype | None) -> Any:
    """Run a program; operators that refuse ``dtype`` run in the types that they have in the program."""
    try:
        return program(*args, **kwargs)
    except InputError:
        raise
    except (RuntimeError, ValueError) as error:
        if dtype is None:
            raise
        seed_all(seed)
        try:
            leaves = pytree.tree_leaves((args, kwargs))
            results = OwnTypesIfRefused(program, dtype).run(*leaves, enable_io_processing=False)
        except (RuntimeError, ValueError):
            raise error from None
        return program.graph.process_outputs(results)


class OwnTypesIfRefused(fx.Interpreter):
    """Runs a call whose operator refuses a type (fake quantisation takes float32 scales only) in its own types."""

    def __init__(self, program: Program, dtype: torch.dtype) -> None:
        super().__init__(program.held, graph=program.graph)
        self.dtype = dtype

    def run_node(self, n: fx.Node) -> Any:
        """Return the result of a node."""
        try:
            return super().run_node(n)
        except (RuntimeError, ValueError):
            if n.op != "call_function":
                raise
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            wide = operator_of(n.target).wide(args, kwargs)
            if wide is not NotImplemented:
                return wide
            args, kwargs = fx.node.map_arg((n.args, n.kwargs), self._own)
            result = n.target(*args, **kwargs)  # type: ignore[operator]
            return floats_in(result, self.dtype)

    def _own(self, node: fx.Node) -> Any:
        value, own = self.env[node], node.meta.get(OWN)
        return value.to(own) if isinstance(value, torch.Tensor) and isinstance(own, torch.dtype) else value


def inputs_in(
    program: Program,
    batch: int,
    seed: int,
    dtype: torch.dtype | None,
    inputs: Any,
    sizes: Mapping[str, int] | None = None,
) -> Any:
    """Return positional and keyword inputs in ``dtype``: the given ones, or random ones if they are ``None``.

    Their values can be represented in the types of the example, so that they are the same in every precision.
    """
    if inputs is None:
        types = cast_types(program)
        drawn = sample_inputs(program, batch, seed, None, sizes=sizes)
        return floats_in(pytree.tree_map_only(torch.Tensor, lambda t: t.to(types.get(t.dtype, t.dtype)), drawn), dtype)
    given = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
    return floats_in(_as_example(program, given), dtype), {}


def _as_example(program: Program, given: tuple[Any, ...]) -> Any:
    """Return inputs whose floating tensors have the types of the example, or those of weights that were cast since."""
    leaves, spec = pytree.tree_flatten(given)
    example = pytree.tree_leaves(program.facts.example[0])
    if len(leaves) != len(example):
        return given
    types = cast_types(program)
    pairs = zip(leaves, example, strict=True)
    cast = [a.to(types.get(b.dtype, b.dtype)) if _floating(a) and _floating(b) else a for a, b in pairs]
    return pytree.tree_unflatten(cast, spec)


def _floating(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def floats_in(inputs: Any, dtype: torch.dtype | None) -> Any:
    """Return nested inputs whose floating and complex tensors have the given precision; ``None`` keeps theirs."""
    return inputs if dtype is None else pytree.tree_map_only(torch.Tensor, lambda t: _cast(t, dtype), inputs)


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if tensor.is_complex():
        return tensor.to(dtype.to_complex())
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def perturbed(program: Program, inputs: Any, unit: float, seed: int) -> Any:
    """Move every fractional number of a program by about one ``unit``, relative to it; return inputs moved so, too."""
    generator = torch.Generator().manual_seed(seed)

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() and not tensor.is_complex():
            return tensor
        signs = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) * 2 - 1
        return tensor * (1 + unit * signs).to(tensor)

    with torch.no_grad():
        for tensor in {id(t): t for t in program.tensors.values()}.values():
            tensor.copy_(moved(tensor))
        return pytree.tree_map_only(torch.Tensor, moved, inputs)
