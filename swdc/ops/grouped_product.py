"""Products in which each run of rows has a matrix of its own, as in a mixture of experts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch

from swdc.channels.labels import Channels
from swdc.ir.call import Call, Value
from swdc.ops.base import register
from swdc.ops.call_cost import Cost, ShapeOf
from swdc.ops.contraction import Product
from swdc.ops.freezing import freeze_call


@register
class GroupedMatmul(Product):
    """Rows, sorted by the matrix that they are multiplied with; a vector says where the rows of each matrix end."""

    names: ClassVar[tuple[str, ...]] = ("aten._grouped_mm.default", "transformers.grouped_mm_fallback.default")
    functions: ClassVar[tuple[Callable[..., Any], ...]] = (torch.nn.functional.grouped_mm, torch._grouped_mm)

    def operands(self, call: Call) -> list[Value]:
        """Return the rows and the matrices."""
        return call.tensors()[:2]

    def terms(self, call: Call, ranks: Sequence[int]) -> tuple[list[Sequence[int]], Sequence[int]]:
        """(n, k) x (matrices, k, m) -> (n, m)."""
        return [[0, 1], [3, 1, 2]], [0, 2]

    def couple(self, call: Call, channels: Channels) -> None:
        """Couple columns of rows with rows of the matrices; which matrices there are stays."""
        rows, matrices = self.operands(call)
        if (len(channels.sizes(rows)), len(channels.sizes(matrices))) != (2, 3) or len(call.tensors()) != 3:
            freeze_call(call, channels, "multiplies other parts than the columns of rows, or adds a bias")
            return
        reason = call.reason("chooses matrices by their number")
        channels.freeze(channels.channels(matrices, 0), reason)
        channels.freeze(channels.channels(rows, 0), reason)
        channels.freeze_value(call.tensors()[2], reason)
        super().couple(call, channels)

    def cost(self, call: Call, shape_of: ShapeOf) -> tuple[Cost, ...]:
        """Each row is multiplied with one matrix."""
        rows, matrices = self.operands(call)
        if len(shape_of(matrices)) != 3 or len(shape_of(rows)) != 2:
            return super().cost(call, shape_of)
        return (Cost(((rows, 0), (matrices, 2), (matrices, 1)), 1, 1, 1),)

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """One row for each row, and one column for each column of the matrices."""
        rows, matrices = list(arguments.values())[:2]
        return [[rows.shape[0], matrices.shape[2]]] if (rows.dim(), matrices.dim()) == (2, 3) else None

    def wide(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """The kernel takes no float64: multiply the rows of each matrix apart."""
        rows, matrices, ends = [*args, kwargs.get("offs")][:3]
        if (rows.dim(), matrices.dim()) != (2, 3) or rows.dtype != torch.float64 or kwargs.get("bias") is not None:
            return NotImplemented
        parts = torch.tensor_split(rows, ends[:-1].tolist())
        return torch.cat([part @ matrix for part, matrix in zip(parts, matrices, strict=True)])

    def plainly(self, target: Any) -> Callable[..., Any] | None:
        """Give each row a copy of its matrix."""
        return _row_by_row


def _row_by_row(**given: Any) -> torch.Tensor:
    """Multiply each row with its matrix, whose number is how many matrices have their last row before it."""
    rows, matrices, ends = list(given.values())[:3]
    numbers = torch.arange(rows.shape[0], device=rows.device)
    chosen = (ends.unsqueeze(0) <= numbers.unsqueeze(1)).sum(1)
    return torch.matmul(rows.unsqueeze(1), matrices[chosen]).squeeze(1)
