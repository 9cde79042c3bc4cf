"""Copies of tensors and leaf modules that share nothing with the originals. Tied tensors stay tied."""

from __future__ import annotations

import torch
from torch import nn


class Cloning:
    """Copies tensors and leaf modules. A tensor is copied once, however many names it has."""

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        """``dtype`` is the type of the copies of floating-point tensors; ``None`` keeps their own.

        Complex tensors take the complex type of that precision.
        """
        self._dtype = dtype
        self._copies: dict[int, torch.Tensor] = {}

    def tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return the copy of a tensor; the copy of a parameter is a parameter."""
        if id(tensor) not in self._copies:
            data = tensor.detach().to(self._type_of(tensor), copy=True)
            is_parameter = isinstance(tensor, nn.Parameter)
            self._copies[id(tensor)] = nn.Parameter(data, tensor.requires_grad) if is_parameter else data
        return self._copies[id(tensor)]

    def _type_of(self, tensor: torch.Tensor) -> torch.dtype | None:
        if self._dtype is None or not (tensor.is_floating_point() or tensor.is_complex()):
            return None
        return self._dtype.to_complex() if tensor.is_complex() else self._dtype

    def module(self, module: nn.Module) -> nn.Module:
        """Return a copy of a leaf module, without its submodules, that holds copies of its tensors."""
        new = module.__new__(type(module))
        new.__dict__ = {k: v.copy() if isinstance(v, dict | set) else v for k, v in module.__dict__.items()}
        new._modules = {}
        stores: tuple[dict[str, torch.Tensor | None], ...] = (new._parameters, new._buffers)  # type: ignore[assignment]
        for store in stores:
            store.update({name: self.tensor(tensor) for name, tensor in store.items() if tensor is not None})
        return new
