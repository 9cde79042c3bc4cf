"""What a model does to gradients and a program does not: ``torch.autograd.Function``, hooks of modules and tensors."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from swdc.capture.reachable import of_the_model

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


@contextmanager
def hooks_on_results() -> Iterator[dict[str, None]]:
    """Yield the lines of code that meanwhile register hooks on tensors that operators compute with gradients."""
    lines: dict[str, None] = {}
    register: Any = torch.Tensor.register_hook

    def noting(tensor: torch.Tensor, hook: Any) -> Any:
        code = sys._getframe(1)
        if not tensor.is_leaf and of_the_model(code.f_globals.get("__name__")):
            lines[f"{code.f_code.co_filename}:{code.f_lineno}"] = None
        return register(tensor, hook)

    torch.Tensor.register_hook = noting  # type: ignore[method-assign]
    try:
        yield lines
    finally:
        torch.Tensor.register_hook = register  # type: ignore[method-assign]


def lost_hooks(lines: Iterable[str]) -> tuple[str, ...]:
    """Return a note on lines of a model's code that register hooks on results of operators."""
    named = ", ".join(lines)
    return (f"the program does not call the hooks on tensors of {named}; train the model itself",) if named else ()


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
