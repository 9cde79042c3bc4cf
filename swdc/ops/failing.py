"""Operators that fail for some values of their arguments, whatever the sizes."""

from __future__ import annotations

from torch import fx

from swdc.ops.base import name_of

_FAILING = frozenset(
    f"aten.{name}.default"
    for name in (
        "cholesky inverse linalg_cholesky linalg_eig linalg_eigh linalg_eigvals linalg_eigvalsh linalg_inv "
        "linalg_lstsq linalg_lu_factor linalg_matrix_power linalg_solve linalg_svd linalg_svdvals linalg_tensorinv "
        "linalg_tensorsolve multinomial one_hot"
    ).split()
)


def fails_by_values(node: fx.Node) -> bool:
    """Whether a call raises an error for some values of its arguments."""
    return node.op == "call_function" and name_of(node.target) in _FAILING
