"""The tensors of a module by name, and checks that they have values and are whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from swdc.errors import SwdcError
from swdc.ir.distributed import is_spread


def need_values(model: nn.Module, error: type[SwdcError], doing: str) -> None:
    """Raise ``error`` if a tensor of a model is on the meta device and so has no values, which ``doing`` needs.

    Raise it also if a tensor lies in parts over processes.
    """
    need_whole(model, error, doing)
    empty = [name for name, tensor in tensors_of(model).items() if tensor.is_meta]
    if empty:
        raise error(
            f"expected tensors with values for {doing}, got {len(empty)} on the meta device ({', '.join(empty[:3])}); "
            f"trace the model with its weights, or use swdc.slim_checkpoint, which reads them tensor by tensor"
        )


def need_whole(model: nn.Module, error: type[SwdcError], doing: str) -> None:
    """Raise ``error`` if a tensor of a model lies in parts over processes, because ``doing`` needs whole tensors."""
    name = next((name for name, tensor in tensors_of(model).items() if is_spread(tensor)), None)
    if name is not None:
        raise error(
            f"expected whole tensors for {doing}, got {name} in parts over processes (DTensor); gather the weights "
            f"(get_model_state_dict with full_state_dict=True) and load them into a newly traced program"
        )


def tensors_of(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return all parameters and buffers of a model by name, in the order of its ``state_dict``."""
    return {
        f"{path}.{name}" if path else name: tensor
        for path, module in model.named_modules(remove_duplicate=False)
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if tensor is not None
    }


def transient_of(model: nn.Module) -> set[str]:
    """Return the names of the buffers that ``state_dict`` leaves out."""
    return {
        f"{path}.{name}" if path else name
        for path, module in model.named_modules(remove_duplicate=False)
        for name in module._non_persistent_buffers_set
    }


def is_meta(model: nn.Module) -> bool:
    """Whether a model has a tensor on the meta device, which holds no values."""
    return any(tensor.is_meta for tensor in tensors_of(model).values())


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Restore the mode of every module, training or evaluation, at the end."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            if module.training is not mode:  # a module takes a microsecond to set an attribute
                module.training = mode


def cuda_devices(model: nn.Module) -> list[int]:
    """Return the numbers of the GPUs on which a model has tensors, whose random states ``fork_rng`` should restore."""
    return sorted({tensor.device.index or 0 for tensor in tensors_of(model).values() if tensor.is_cuda})
