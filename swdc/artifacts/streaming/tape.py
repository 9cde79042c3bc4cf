"""Rewrites of a program without values, applied to the values afterwards, one tensor at a time.

Passes compute new tensors from old ones. On the meta device they compute shapes only; a tape notes which operators they
call, and applies these operators to the values when a tensor is requested. The result is, bit by bit, what the passes
compute from tensors with values, and only one of these tensors has to be in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from swdc.errors import PassError
from swdc.ir.dtypes_and_devices import on_cpu
from swdc.ir.weight_sources import Values, part_rows
from swdc.ops.in_place import operator_of

Key = tuple[Any, ...]


@dataclass(frozen=True)
class _Made:
    """The call that made a tensor, and the position of the tensor among the results of the call.

    ``result`` is kept so that its memory is not reused.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    number: int
    result: torch.Tensor

    @property
    def taken(self) -> tuple[int, torch.Tensor | None] | None:
        """The dimension and the indices that the result selects from the first argument; ``None`` if it does more."""
        return operator_of(self.function).taken(self.function, self.args)


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes, while it is active, how tensors on the meta device are computed from the tensors of a program.

    ``tensors`` are the tensors of the program, and ``values`` has their values.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], values: Values) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._values = values
        self._given = {_key(tensor): name for name, tensor in tensors.items() if tensor.is_meta}
        self._made: dict[Key, _Made] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        tensors = [t for t in pytree.tree_leaves(result) if isinstance(t, torch.Tensor) and t.is_meta]
        if tensors and func._schema.is_mutable:
            raise PassError(
                f"expected a rewrite that makes new tensors, got {func}, which changes one in place; slim it in memory"
            )
        for number, tensor in enumerate(tensors):
            if _key(tensor) not in self._given:
                self._made.setdefault(_key(tensor), _Made(func, tuple(args), dict(kwargs or {}), number, tensor))
        return result

    def whole(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the values of a tensor."""
        if not tensor.is_meta:
            return tensor.detach()
        key = _key(tensor)
        if key in self._given:
            return self._values.whole(self._given[key])
        made = self._call(key)
        args, kwargs = pytree.tree_map(self._valued, (made.args, made.kwargs))
        found = [t for t in pytree.tree_leaves(made.function(*args, **kwargs)) if isinstance(t, torch.Tensor)]
        return found[made.number]

    def parts(self, tensor: torch.Tensor) -> Iterator[torch.Tensor]:
        """Yield the values of a tensor in pieces along its first dimension."""
        if not tensor.dim() or not self._is_cut(tensor):
            yield self.whole(tensor)
            return
        step = part_rows(tuple(tensor.shape))
        for first in range(0, tensor.shape[0], step):
            yield self._rows(tensor, np.arange(first, min(first + step, tensor.shape[0])))

    def _call(self, key: Key) -> _Made:
        if key not in self._made:
            raise PassError("expected a tensor computed from those of the program, got another one without values")
        return self._made[key]

    def _valued(self, argument: Any) -> Any:
        return self.whole(argument) if isinstance(argument, torch.Tensor) else on_cpu(argument)

    def _is_cut(self, tensor: torch.Tensor) -> bool:
        """Whether a tensor belongs to the program, or selects indices of a tensor that does."""
        while _key(tensor) not in self._given:
            made = self._call(_key(tensor))
            if made.taken is None:
                return False
            tensor = made.args[0]
        return True

    def _rows(self, tensor: torch.Tensor, rows: Any) -> torch.Tensor:
        """Return the given rows (indices of the first dimension) of a tensor cut from one of the program."""
        key = _key(tensor)
        if key in self._given:
            return self._values.rows(self._given[key], rows)
        made = self._call(key)
        assert made.taken is not None
        (dim, index), source = made.taken, made.args[0]
        if index is None:
            return self._rows(source, rows)
        indices = self.whole(index)
        if dim == 0:
            return self._rows(source, indices.numpy()[rows])
        return self._rows(source, rows).index_select(dim, indices)


def _key(tensor: torch.Tensor) -> Key:
    """Return a key that is equal for tensors of the same memory, such as a parameter and the tensor it wraps."""
    place = tensor.untyped_storage()._cdata, tensor.storage_offset()
    return (*place, tuple(tensor.shape), tensor.stride(), tensor.dtype)
