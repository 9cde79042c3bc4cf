"""Where the values of a program's tensors come from: from the program itself, or from a checkpoint, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from swdc.errors import PlanError
from swdc.ir.program import Program

Rows = npt.NDArray[np.int64]
PART = 1 << 20
"""Elements that are read at a time."""


@runtime_checkable
class InParts(Protocol):
    """Weights that can be read in parts, as those in the files of a ``swdc.Checkpoint``."""

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""

    def rows(self, name: str, rows: Rows) -> torch.Tensor:
        """Return some indices, in ascending order, of the first dimension of a tensor."""


def part_rows(shape: tuple[int, ...]) -> int:
    """Return how many indices of the first dimension make up a part of a tensor."""
    return max(1, PART // max(prod(shape[1:]), 1))


class Values:
    """The values of the tensors of a program, which may itself live on the meta device.

    A tensor that ``weights`` names, or one tied to it, is read from there; any other is the program's own.
    """

    def __init__(self, program: Program, weights: Mapping[str, torch.Tensor] | None = None) -> None:
        self._tensors = program.tensors
        self._weights = {} if weights is None else weights
        if self._weights and self._tensors.keys().isdisjoint(self._weights):
            raise PlanError(
                f"expected weights under the names of this program, such as {next(iter(self._tensors))}, got others, "
                f"such as {next(iter(self._weights))}; rename them"
            )
        self._in_parts: InParts | None = weights if isinstance(weights, InParts) else None
        names: dict[int, list[str]] = {}
        for name, tensor in self._tensors.items():
            names.setdefault(id(tensor), []).append(name)
        self._tied = {name: names[id(tensor)] for name, tensor in self._tensors.items()}

    def check(self) -> None:
        """Raise ``PlanError`` unless there are values of the right shape for every tensor of the program."""
        for name in self._tensors:
            self._source(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return tuple(self._tensors[name].shape)

    def rows(self, name: str, rows: Rows) -> torch.Tensor:
        """Return some indices, in ascending order, of the first dimension of a tensor."""
        source = self._source(name)
        if source is not None and self._in_parts is not None:
            found = self._in_parts.rows(source, rows)
        else:
            whole = self._tensors[name] if source is None else self._weights[source]
            found = whole.detach()[int(rows[0]) : int(rows[-1]) + 1] if _is_run(rows) else whole.detach()[rows]
        return self._in_type(found, name)

    def whole(self, name: str) -> torch.Tensor:
        """Return all values of a tensor."""
        source = self._source(name)
        return self._in_type((self._tensors[name] if source is None else self._weights[source]).detach(), name)

    def parts(self, name: str) -> Iterator[torch.Tensor]:
        """Yield a tensor in pieces along its first dimension, of the same sizes wherever it is read from."""
        shape = self.shape(name)
        if not shape:
            yield self.whole(name)
            return
        step = part_rows(shape)
        for first in range(0, shape[0], step):
            yield self.rows(name, np.arange(first, min(first + step, shape[0])))

    def _in_type(self, tensor: torch.Tensor, name: str) -> torch.Tensor:
        return tensor.to(self._tensors[name].dtype)  # as load_state_dict does

    def _source(self, name: str) -> str | None:
        """Return the name in the weights that gives the values of a tensor, ``None`` where its own count."""
        source = next((tied for tied in self._tied[name] if tied in self._weights), None)
        if source is None and self._tensors[name].is_meta:
            raise self._missing(name)
        if source is not None and self._shape_of(source) != self.shape(name):
            raise PlanError(
                f"expected {name} of shape {self.shape(name)}, got {self._shape_of(source)} in the weights; give those "
                f"that the model was trained with"
            )
        return source

    def _missing(self, name: str) -> PlanError:
        """Return the error for a tensor without values: what to do depends on what is given, and what it is."""
        what = f"expected values for {name}, which is on the meta device and has none; "
        if not self._weights:
            return PlanError(
                f"{what}give the weights, as in weights=swdc.Checkpoint('folder'), or for a plan criterion='uniform', "
                f"which needs none; swdc.trace_skeleton keeps the buffers that a model computes"
            )
        if isinstance(self._tensors[name], nn.Parameter):
            return PlanError(
                f"{what}the weights lack this parameter, so give those of this model, or add it to them, as in "
                f"weights=collections.ChainMap({{{name!r}: tensor}}, weights)"
            )
        return PlanError(
            f"{what}the weights lack it, as they lack every buffer that a model computes when it is made, and a model "
            f"made within torch.device('meta') has lost it: trace with swdc.trace_skeleton(make_model, inputs, "
            f"weights), where make_model() makes the model outside of torch.device('meta') and which keeps what it "
            f"computes, or add it, as in weights=collections.ChainMap({{{name!r}: tensor}}, weights)"
        )

    def _shape_of(self, source: str) -> tuple[int, ...]:
        return tuple(self._weights[source].shape) if self._in_parts is None else self._in_parts.shape(source)


def _is_run(rows: Rows) -> bool:
    return len(rows) > 0 and int(rows[-1]) - int(rows[0]) + 1 == len(rows)
