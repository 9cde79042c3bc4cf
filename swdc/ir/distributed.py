"""Tensors that lie in parts over processes: DTensor, into which FSDP2 turns parameters.

All processes must call a function that is called *collective* here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeGuard

import torch
from torch import nn

from swdc.errors import PlanError

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

_ABOUT = "torch.distributed."
_DTENSOR = f"{_ABOUT}tensor"


def is_spread(tensor: torch.Tensor) -> TypeGuard[DTensor]:
    """Whether a tensor lies in parts over processes."""
    module = sys.modules.get(_DTENSOR)  # slow to import; if nobody has imported it, no tensor is spread
    return module is not None and isinstance(tensor, module.DTensor)


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return the part of a tensor in this process, which shares its memory; the whole tensor if it is not spread."""
    return tensor.to_local() if is_spread(tensor) else tensor


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Return the whole tensor, gathered if it is spread; collective."""
    return tensor.full_tensor() if is_spread(tensor) else tensor


def spread_like(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a tensor, of which every process holds the whole, in parts like those of ``like``. No communication."""
    if not is_spread(like):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    mesh = like.device_mesh
    everywhere = DTensor.from_local(tensor, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return everywhere.redistribute(mesh, like.placements)


def joined_like(part: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the spread tensor whose part in this process is ``part``, which has the shape of that of ``like``."""
    if not is_spread(like):
        return part
    from torch.distributed.tensor import DTensor

    mesh, places = like.device_mesh, like.placements
    return DTensor.from_local(part, mesh, places, run_check=False, shape=like.shape, stride=like.stride())


class Together:
    """Sums and maxima over processes that hold tensors in parts. Each number counts once, however many hold it.

    If no tensor is spread, each process holds everything, and nothing is communicated.
    """

    def __init__(self, tensors: Iterable[torch.Tensor]) -> None:
        spread = [t for t in tensors if is_spread(t)]
        self._mesh: DeviceMesh | None = spread[0].device_mesh if spread else None
        if self._mesh is not None and self._mesh.ndim > 1 and self._mesh.size() != torch.distributed.get_world_size():
            raise PlanError(
                f"expected tensors in parts over all {torch.distributed.get_world_size()} processes, or along a mesh "
                f"of one dimension, got a mesh of shape {tuple(self._mesh.shape)}; give a mesh of one dimension"
            )

    def own(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return, in one dimension, the part of a tensor that this process counts; no other process counts it."""
        part = local(tensor.detach()).reshape(-1)
        return part if self.counts(tensor) else part[:0]

    def sum_(self, numbers: torch.Tensor) -> torch.Tensor:
        """Replace numbers by their sums over the processes, and return them; collective."""
        if self._mesh is not None:
            torch.distributed.all_reduce(numbers, group=self._group())
        return numbers

    def max_(self, numbers: torch.Tensor) -> torch.Tensor:
        """Replace numbers by the largest over the processes, and return them; collective."""
        if self._mesh is not None:
            torch.distributed.all_reduce(numbers, torch.distributed.ReduceOp.MAX, group=self._group())
        return numbers

    def counts(self, tensor: torch.Tensor) -> bool:
        """Whether this process counts its part of a tensor; otherwise another process that holds the same part does."""
        place = None if self._mesh is None else self._mesh.get_coordinate()
        if place is None:
            return True
        if not is_spread(tensor):
            return not any(place)
        return all(p.is_shard() or i == 0 for i, p in zip(place, tensor.placements, strict=True))

    def _group(self) -> ProcessGroup | None:
        assert self._mesh is not None
        return self._mesh.get_group() if self._mesh.ndim == 1 else None  # a mesh of more dimensions spans all processes


def put_in_parts(model: nn.Module) -> None:
    """Free the gathered parameters that FSDP2 keeps after a forward without backward; they would hide changes."""
    for module in model.modules():
        reshard = getattr(module, "reshard", None)
        if plain_class(module) is not type(module) and callable(reshard):
            reshard()


def plain_class(module: nn.Module) -> type[nn.Module]:
    """Return the class that a module had before distribution replaced it, as ``fully_shard`` does."""
    return next(cls for cls in type(module).__mro__ if not cls.__module__.startswith(_ABOUT))


def plain_name(module: nn.Module) -> str:
    """Return the text that a module prints as, under the name of its plain class."""
    return plain_class(module).__name__ + str(module).removeprefix(type(module).__name__)
