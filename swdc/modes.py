"""Finds what a model does in training that it does not do in evaluation: stochastic depth, auxiliary heads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree


def training_differences(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """Return the paths of the modules that call other functions in training than in evaluation.

    The model's own tensors and the state of the random generators stay as they are.
    """
    if not any(_asks_for_mode(type(module)) for module in model.modules()):
        return []
    try:
        evaluated, trained = (_record(model, args, kwargs, mode, "meta") for mode in (False, True))
    except (RuntimeError, ValueError):
        evaluated, trained = (_record(model, args, kwargs, mode, None) for mode in (False, True))
    modules = dict(model.named_modules())
    paths = {
        path
        for path in {path for path, _ in evaluated + trained}
        if not type(modules[path]).__module__.startswith("torch.nn.")  # what these do in training is known
        and [f for p, f in evaluated if p == path] != [f for p, f in trained if p == path]
    }
    return sorted(p for p in paths if not any(p.startswith(f"{other}.") for other in paths if other))


def _asks_for_mode(cls: type) -> bool:
    """Whether the code of a class, those of torch.nn aside, reads ``self.training``."""
    for base in cls.__mro__:
        if base.__module__.startswith("torch.nn") or base is object:
            continue
        for function in vars(base).values():
            code = getattr(function, "__code__", None)
            if code is not None and _mentions(code):
                return True
    return False


def _mentions(code: CodeType) -> bool:
    nested = (c for c in code.co_consts if isinstance(c, CodeType))
    return "training" in code.co_names or any(map(_mentions, nested))


class _Recorder(TorchFunctionMode):
    """Notes every function of torch that is called, with the module that calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, str]] = []
        self.stack: list[str] = [""]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append((self.stack[-1], getattr(func, "__name__", str(func))))
        return func(*args, **(kwargs or {}))


@contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode




def _record(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], training: bool, device: str | None
) -> list[tuple[str, str]]:
    recorder = _Recorder()

    def moved(value: Any) -> Any:
        return (value.to(device) if device else value.clone()) if isinstance(value, torch.Tensor) else value

    state = {name: t.detach() if device is None else moved(t.detach()) for name, t in model.named_parameters()}
    state |= {name: moved(t) for name, t in model.named_buffers()}
    inputs = pytree.tree_map(moved, (args, kwargs))
    names = {module: name for name, module in model.named_modules()}
    handles = []
    for module, name in names.items():
        handles.append(module.register_forward_pre_hook(lambda *_, name=name: recorder.stack.append(name)))
        handles.append(module.register_forward_hook(lambda *_: recorder.stack.pop() and None))
    try:
        with modes_kept(model), torch.random.fork_rng(devices=[]), torch.no_grad(), recorder:
            model.train(training)
            torch.func.functional_call(model, state, inputs[0], inputs[1])
    finally:
        for handle in handles:
            handle.remove()
    return recorder.calls
