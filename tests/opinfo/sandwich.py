"""One operator between two dense layers: half of the channels go, and the slim program must compute what is left."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice, product
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.utils import _pytree as pytree

import swdc
from swdc.errors import SwdcError
from swdc.ir.differences import flat_outputs, relative_error
from swdc.ir.random_inputs import sample_inputs
from swdc.ir.seeding import seed_all
from tests.support import random_plan

TOLERANCE = 1e-9
"""The largest relative difference of an exact slim program, in float64."""
EXACT, FROZEN, NOT_APPLICABLE, WRONG, RAW = "exact", "frozen", "not applicable", "wrong", "raw error"
RESULTS = (EXACT, FROZEN, NOT_APPLICABLE, WRONG, RAW)
_READ = 4
"""Channels that the first dense layer reads."""


@dataclass(frozen=True)
class Case:
    """A sample of an operator, and the dimension of its first tensor that holds the channels.

    If ``constant``, a sigmoid makes one half of a dead channel.
    """

    operator: str
    sample: int
    dim: int
    constant: bool = False

    def __str__(self) -> str:
        return f"{self.operator}[{self.sample}] dim {self.dim}{' after a sigmoid' if self.constant else ''}"


@dataclass(frozen=True)
class Outcome:
    """What became of a case."""

    case: Case
    result: str
    text: str = ""


class Sandwich(nn.Module):
    """A dense layer, an operator, and a dense layer that reads each result along the channels or the last dimension.

    The batch is averaged first, because samples have tensors of fixed sizes.
    """

    def __init__(self, case: Case, arguments: Any) -> None:
        super().__init__()
        dim = case.dim
        leaves, self.spec = pytree.tree_flatten(arguments)
        self.first = next(n for n, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor))
        self.function, self.dim, self.constant = operators()[case.operator].op, dim, case.constant
        self.leaves = [None if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        for number, leaf in enumerate(leaves):
            if isinstance(leaf, torch.Tensor) and number != self.first:
                self.register_buffer(f"other{number}", leaf.detach().clone())
        shape = list(leaves[self.first].shape)
        self.width = shape.pop(dim)
        self.positions = nn.Parameter(torch.randn(*shape, _READ))
        self.writes = nn.Linear(_READ, self.width)
        self.reads = nn.ModuleDict()

    def applied(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the results of the operator."""
        y = self.writes(self.positions + x.mean(0)).movedim(-1, self.dim)
        y = torch.sigmoid(y) if self.constant else y
        buffers = dict(self.named_buffers(recurse=False))
        leaves = [buffers.get(f"other{n}", leaf) for n, leaf in enumerate(self.leaves)]
        leaves[self.first] = y
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        results = pytree.tree_leaves(self.function(*args, **kwargs))
        found = [r for r in results if isinstance(r, torch.Tensor)]
        return [torch.view_as_real(r.resolve_conj()) if r.is_complex() else r for r in found]

    def prepare(self, results: Sequence[torch.Tensor]) -> None:
        """Make the layers that read results of these shapes."""
        for number, result in enumerate(results):
            if self._is_read(result):
                self.reads[str(number)] = nn.Linear(result.shape[self._along(result)], 3)

    def _is_read(self, result: torch.Tensor) -> bool:
        return result.is_floating_point() and result.dim() > 0 and result.numel() > 0

    def _along(self, result: torch.Tensor) -> int:
        keeps = result.dim() > self.dim and result.shape[self.dim] == self.width
        return self.dim if keeps else result.dim() - 1

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [
            self.reads[str(n)](r.movedim(self._along(r), -1)) if str(n) in self.reads else r
            for n, r in enumerate(self.applied(x))
        ]


@cache
def operators() -> Mapping[str, Any]:
    """Return PyTorch's descriptions of its operators, by name: those on float64 whose results have values."""
    from torch.testing._internal.common_methods_invocations import op_db

    named = {f"{op.name} {op.variant_test_name}".strip(): op for op in op_db}
    return {name: op for name, op in named.items() if torch.float64 in op.dtypes and "empty" not in name}


def samples_of(operator: str, most: int) -> list[Any]:
    """Return the positional and keyword arguments of samples that have channels, always the same ones."""
    seed_all(0)
    random.seed(0)
    samples = operators()[operator].sample_inputs("cpu", torch.float64)
    given = (((sample.input, *sample.args), sample.kwargs) for sample in samples)
    return list(islice((arguments for arguments in given if dims_of(arguments)), most))


def dims_of(arguments: Any) -> list[int]:
    """Return the dimensions of the first tensor that a dense layer can write."""
    tensors = [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]
    if not tensors or tensors[0].dtype != torch.float64 or tensors[0].layout != torch.strided:
        return []
    return [dim for dim, size in enumerate(tensors[0].shape) if size > 1 and tensors[0].numel()]


def cases_of(operator: str, most: int) -> Iterator[tuple[Case, Any]]:
    """Return a case, with its arguments, for each dimension of the first tensor of each sample."""
    for number, arguments in enumerate(samples_of(operator, most)):
        for dim, constant in product(dims_of(arguments), (False, True)):
            yield Case(operator, number, dim, constant), arguments


def outcomes_of(operator: str, most: int) -> list[Outcome]:
    """Check the first samples of an operator along every dimension."""
    return [checked(case, arguments) for case, arguments in cases_of(operator, most)]


def checked(case: Case, arguments: Any) -> Outcome:
    """Trace a case, cut half of its channels, and compare the masked and the slim program at two batch sizes."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        seed_all(case.dim)
        try:
            model = Sandwich(case, arguments).double().eval()
            x = torch.randn(2, _READ, dtype=torch.float64)
            with torch.no_grad():
                model.prepare(model.applied(x))
                if _draws(model.double(), x):
                    return Outcome(case, NOT_APPLICABLE, "draws random numbers")
        except Exception as error:  # the operator does not take what a dense layer writes
            return Outcome(case, NOT_APPLICABLE, _line(error))
        try:
            return _cut(case, model, x)
        except SwdcError as error:
            return Outcome(case, NOT_APPLICABLE, _line(error))
        except Exception as error:  # any other error is a find
            return Outcome(case, RAW, _line(error))


def _draws(model: nn.Module, x: torch.Tensor) -> bool:
    """Whether the seed decides what a model returns; samples that set a seed of their own may not."""
    outputs = []
    with mock.patch("torch.manual_seed"):
        for seed in range(8):
            torch.default_generator.manual_seed(seed)
            outputs.append(model(x))
    return any(relative_error(outputs[0], other) > 0 for other in outputs)


def _cut(case: Case, model: nn.Module, x: torch.Tensor) -> Outcome:
    program = swdc.trace(model, x)
    if not program.groups:
        return Outcome(case, FROZEN)
    plan = random_plan(program, seed=case.sample, least=0.5, most=0.5)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    worst = max(_difference(masked, slim, batch) for batch in (1, 3))
    if worst <= TOLERANCE:
        return Outcome(case, EXACT)
    return Outcome(case, WRONG, f"relative error {worst:.1e}")


def _difference(masked: swdc.Program, slim: swdc.Program, batch: int) -> float:
    args, _ = sample_inputs(masked, batch, batch, torch.float64)
    outputs = []
    for program in (masked, slim):
        seed_all(batch)
        with torch.no_grad():
            outputs.append(flat_outputs(program(*args)))
    return relative_error(*outputs)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
