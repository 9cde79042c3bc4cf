"""Runs programs in a chosen dtype, on copies, with the same result for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils import _pytree as pytree

from swdc.capture.restore import buffers_kept
from swdc.errors import VerificationError
from swdc.ir.call import Ref
from swdc.ir.dtypes_and_devices import cast_literals, default_dtype
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from swdc.ops import calls, leaf_of
from swdc.ops.in_place import written


@contextmanager
def copies_in(*programs: Program, dtype: torch.dtype) -> Iterator[list[Program]]:
    """Yield copies of programs that compute in ``dtype``, and free their memory at the end.

    Graphs refer to themselves, so Python would keep the copies until it collects garbage: gigabytes for a large model.
    """
    copies = [copy_in(program, dtype) for program in programs]
    try:
        yield copies
    finally:
        for tensor in (tensor for copy in copies for tensor in copy.tensors.values()):
            tensor.data = tensor.new_empty(0)


def copy_in(program: Program, dtype: torch.dtype) -> Program:
    """Return a copy of a program that computes in ``dtype`` throughout and drops nothing in training."""
    copy = program.clone(dtype)
    _keep_narrow(program, copy)
    cast_literals(copy, (torch.float32, torch.float64), dtype)
    if dtype == torch.float64:
        _unround(program, copy)
    for module in copy.leaves.values():
        leaf_of(module).drop_nothing(module)
    return copy


def _keep_narrow(program: Program, copy: Program) -> None:
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
            if torch.equal(value.to(stored[name].dtype), stored[name].detach()):
                tensors[name].copy_(value)


def run_in(program: Program, mode: str, batch: int, seed: int, dtype: torch.dtype, inputs: Any) -> Any:
    """Return what a program that computes in ``dtype`` returns in ``"train"`` or ``"eval"`` mode.

    ``inputs`` are its positional inputs; ``None`` draws random ones.
    """
    return called(program.train(mode == "train"), inputs_in(program, batch, seed, dtype, inputs), seed, dtype)


def called(program: Program, inputs: Any, seed: int, dtype: torch.dtype) -> Any:
    """Return the output of a program for positional and keyword inputs, with its random numbers drawn from a seed.

    A program that writes into buffers runs twice, and both outputs are returned in a tuple, so that what it has written
    shows. Buffers are restored.
    """
    args, kwargs = inputs
    with torch.no_grad(), buffers_kept(program), default_dtype(dtype):
        torch.manual_seed(seed)
        try:
            first = _detached(program(*args, **kwargs))
            return (first, _detached(program(*args, **kwargs))) if written(program.graph) else first
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


def inputs_in(program: Program, batch: int, seed: int, dtype: torch.dtype, inputs: Any) -> Any:
    """Return positional and keyword inputs in ``dtype``: the given ones, or random ones if they are ``None``."""
    if inputs is None:
        return sample_inputs(program, batch, seed, dtype)
    given = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)
    return floats_in(given, dtype), {}


def floats_in(inputs: Any, dtype: torch.dtype) -> Any:
    """Return nested inputs whose floating-point tensors have the given type."""
    return pytree.tree_map_only(torch.Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, inputs)
