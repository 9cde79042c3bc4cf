"""What recorded code read from tensors: its program stands only for inputs from which it reads the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import _disable_current_modes

from swdc.capture.way import CannotCapture
from swdc.ir.call import source_of
from swdc.ir.value_checks import READS
from swdc.ops.read_values import Sizes, as_text, expect_read

_WHOLES = (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.__dlpack__)
"""What gives Python all numbers of a tensor without an operator."""
_MAKERS = (torch.tensor, torch.as_tensor, torch.Tensor.new_tensor)
"""What makes a tensor of the numbers in nested lists, which may be tensors."""
_SPLITS = (torch.tensor_split, torch.Tensor.tensor_split)
"""What takes from a tensor where to split another."""
_GRADIENTS = (torch.autograd.grad, torch.autograd.backward, torch.Tensor.backward)


class WholeReads(TorchFunctionMode):
    """Lets a recorder note what a model's code reads from whole tensors: it compares them with what it read.

    ``x.data`` is taken for ``x.detach()``, which a recorder sees. Raises ``CannotCapture`` for gradients.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _GRADIENTS:
            raise CannotCapture("the model computes gradients in its forward")
        if func == torch.Tensor.data.__get__:  # type: ignore[attr-defined]
            return args[0].detach()
        result = func(*args, **(kwargs or {}))
        for read in _read(func, args, kwargs or {}):
            with _disable_current_modes():
                values = read.clone()
            if values.is_floating_point():
                near = torch.finfo(values.dtype).eps ** 0.5
                torch.allclose(read, values, rtol=near, atol=0.0, equal_nan=True)
            else:
                torch.equal(read, values)
        return result


def _read(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Iterator[torch.Tensor]:
    """Yield the tensors of which a call gives Python all numbers."""
    if func in _WHOLES:
        yield from _tensors(args[0])
    if func in _SPLITS:
        yield from _tensors([given for given in (*args[1:], *kwargs.values()) if isinstance(given, torch.Tensor)])
    if func in _MAKERS:
        yield from _tensors([given for given in (*args, *kwargs.values()) if isinstance(given, list | tuple)])


def _tensors(given: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in nested lists."""
    if isinstance(given, torch.Tensor):
        yield torch.view_as_real(given.detach()) if given.is_complex() else given.detach()
    elif isinstance(given, list | tuple):
        for item in given:
            yield from _tensors(item)


def check_reads(made: Mapping[Any, fx.Node], read: Mapping[int, Any]) -> None:
    """Let a graph fail where the model would read something else than it read from the example.

    ``made`` holds the nodes of the graph by the number of the step, and of its result if it has several; ``read`` what
    was read, by the number of the step.
    """
    for number, value in read.items():
        node = made.get((number, None)) or made.get((number, value.of if isinstance(value, Sizes) else 0))
        if node is None:
            continue
        if (number, None) not in made and not isinstance(value, Sizes):  # one of several results
            node = node.all_input_nodes[0]
        line = source_of(node) or node.name
        text = f"{READS}{as_text(value)} at {line}, as in the example, got inputs in which it reads something else; run"
        expect_read(node, value, f"{text} the model itself, whose parameters these are, or trace it again with these")
