"""Functions of a model with gradients of their own (``torch.autograd.Function``), which a program does not keep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_READ_BY_APPLY = "_backward_cls"
"""An attribute that ``apply`` reads from the class. ``apply`` itself cannot be watched: models bind it to names."""


@contextmanager
def functions_applied() -> Iterator[dict[str, None]]:
    """Yield the names of the user's subclasses of ``torch.autograd.Function`` that are applied meanwhile."""
    applied: dict[str, None] = {}
    meta: Any = type(torch.autograd.Function)

    def noting(cls: Any, name: str) -> Any:
        if name == _READ_BY_APPLY and not cls.__module__.startswith("torch."):
            applied[cls.__qualname__] = None
        return type.__getattribute__(cls, name)

    meta.__getattribute__ = noting
    try:
        yield applied
    finally:
        del meta.__getattribute__


def lost_gradients(names: Iterable[str]) -> tuple[str, ...]:
    """Return a note on functions whose own gradients a program lacks."""
    named = ", ".join(names)
    if not named:
        return ()
    return (
        f"the program differentiates the operators in the forward of {named} (torch.autograd.Function), and does not "
        f"keep the backward that the model defines for it; train the model itself, then trace and slim it",
    )


def unheard_hooks(model: nn.Module) -> tuple[str, ...]:
    """Return a note on modules whose hooks change gradients on the way back: a program does not call them."""
    paths = [path or "the model" for path, m in model.named_modules() if m._backward_hooks or m._backward_pre_hooks]
    if not paths:
        return ()
    return (f"the program does not call the backward hooks of {', '.join(paths)}; train the model itself",)
