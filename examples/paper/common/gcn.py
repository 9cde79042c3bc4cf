"""The graph network of Kipf and Welling 2016, with bags of words kept sparse."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from common.data import CitationGraph


class _Product(torch.autograd.Function):
    """A sparse matrix times a dense one, where the sparse one is constant; ``transposed`` serves the gradient."""

    @staticmethod
    def forward(ctx: Any, matrix: torch.Tensor, transposed: torch.Tensor, dense: torch.Tensor) -> torch.Tensor:
        ctx.transposed = transposed
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[None, None, torch.Tensor]:  # type: ignore[override]
        return None, None, ctx.transposed @ gradient


class Sparse:
    """A sparse matrix whose entries may change: rows of ``(row, column)`` indices in the order of rows."""

    def __init__(self, indices: torch.Tensor, values: torch.Tensor, shape: tuple[int, int]) -> None:
        order = (indices[0] * shape[1] + indices[1]).argsort()
        (rows, columns), self.values = indices[:, order], values[order]
        self._across = (columns * shape[0] + rows).argsort()
        self._forward = (_starts(rows, shape[0]), columns.contiguous(), shape)
        self._backward = (_starts(columns[self._across], shape[1]), rows[self._across], (shape[1], shape[0]))

        with warnings.catch_warnings():  # torch says once in a process that these matrices are in beta
            warnings.simplefilter("ignore")
            _csr(self._forward, self.values)

    def times(self, dense: torch.Tensor, values: torch.Tensor | None = None) -> torch.Tensor:
        """Return the product with a dense matrix, with other values if given."""
        entries = self.values if values is None else values
        matrix, transposed = _csr(self._forward, entries), _csr(self._backward, entries[self._across])
        product: torch.Tensor = _Product.apply(matrix, transposed, dense)  # type: ignore[no-untyped-call]
        return product


def _starts(rows: torch.Tensor, count: int) -> torch.Tensor:
    return torch.searchsorted(rows.contiguous(), torch.arange(count + 1))


def _csr(pattern: Any, values: torch.Tensor) -> torch.Tensor:
    starts, columns, shape = pattern
    return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)


class GCN(nn.Module):
    """Two graph convolutions with dropout before each, on one graph; returns logits of shape ``(N, classes)``."""

    def __init__(self, graph: CitationGraph, hidden: int = 16, dropout: float = 0.5) -> None:
        super().__init__()
        count, width = graph.words.shape
        self.first, self.second = nn.Linear(width, hidden), nn.Linear(hidden, graph.classes)
        for layer in (self.first, self.second):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.dropout = dropout
        found = graph.words.nonzero().t()
        self._words = Sparse(found, graph.words[found[0], found[1]], (count, width))
        self._citations = Sparse(*_normalised(graph.edges, count), (count, count))

    def forward(self) -> torch.Tensor:
        """Return logits of every paper."""
        words = nn.functional.dropout(self._words.values, self.dropout, self.training)
        hidden = self._citations.times(self._words.times(self.first.weight.t(), words)) + self.first.bias
        hidden = nn.functional.dropout(torch.relu(hidden), self.dropout, self.training)
        return self._citations.times(hidden @ self.second.weight.t()) + self.second.bias


def _normalised(edges: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return indices and values of ``D^-1/2 (A + I) D^-1/2``."""
    loops = torch.arange(count).expand(2, -1)
    indices = torch.cat([edges[:, edges[0] != edges[1]].flip(0), loops], 1)
    degrees = torch.bincount(indices[0], minlength=count).float().rsqrt()
    return indices, degrees[indices[0]] * degrees[indices[1]]
