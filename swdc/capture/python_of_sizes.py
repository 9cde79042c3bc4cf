"""What stands in the model's code for functions of Python that would ask a symbol for a plain number."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial, reduce
from types import FunctionType
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.utils._python_dispatch import _disable_current_modes

from swdc.capture.guards import Guards
from swdc.capture.recorder import Recorder
from swdc.capture.training_differences import is_torchs
from swdc.ops.creation import symbols_taken

_SYMBOLS = (torch.SymInt, torch.SymFloat)
_NOT_THE_MODELS = frozenset({*sys.stdlib_module_names, "torch", "swdc", "numpy"})


@contextmanager
def sizes_taken_by_python(model: nn.Module) -> Iterator[None]:
    """Let Python take symbols where it asks for plain numbers: lengths, whole numbers, minima and maxima, and roots.

    A size that is a key of a cache is a plain number, which fixes it.
    """
    hashes = torch.SymInt.__hash__
    files: list[tuple[dict[str, Any], Iterable[str]]] = [(names, _OF_SYMBOLS) for names in _globals_of(model)]
    files.append((vars(nn.functional), _CHECKED))
    places = [(names, name) for names, functions in files for name in functions if name not in names]
    torch.SymInt.__hash__ = lambda size: hash(int(size))  # type: ignore[method-assign, assignment]
    for names, name in places:
        names[name] = _OF_SYMBOLS[name]
    try:
        with patch.object(math, "sqrt", _root), patch.object(math, "isqrt", _whole_root):
            yield
    finally:
        torch.SymInt.__hash__ = hashes  # type: ignore[method-assign]
        for names, name in places:
            del names[name]


@contextmanager
def sizes_taken_by_torch(recorder: Recorder, guards: Guards) -> Iterator[None]:
    """Let functions of torch that want a plain number take a symbol: a recorder notes the call itself.

    Inside of an operator, torch's own code asks for the size of the result only.
    """

    def call(operator: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if guards.is_inside:
            return None
        given = {"device": torch.get_default_device(), "pin_memory": False, **options}
        with _disable_current_modes():  # as torch does when it hands a call to a mode
            return recorder.__torch_dispatch__(operator, (), args, given)

    with symbols_taken(call):
        yield


def _length(value: Any) -> Any:
    return value.shape[0] if isinstance(value, torch.Tensor) and value.dim() else len(value)


_plain_root, _plain_whole_root = math.sqrt, math.isqrt


def _root(value: Any) -> Any:
    return torch.sym_sqrt(value) if isinstance(value, torch.SymInt) else _plain_root(value)


def _whole_root(value: Any) -> Any:
    return torch.sym_int(torch.sym_sqrt(value)) if isinstance(value, torch.SymInt) else _plain_whole_root(value)


def _extreme(plain: Callable[..., Any], symbolic: Callable[[Any, Any], Any], *given: Any, **options: Any) -> Any:
    """Return an extreme of sizes as a size; what holds no symbols is left to Python."""
    sizes = given[0] if len(given) == 1 else given
    told = isinstance(sizes, list | tuple) and not options and any(isinstance(s, torch.SymInt) for s in sizes)
    return reduce(symbolic, sizes) if told else plain(*given, **options)


class _Whole(type):
    """The class of what stands for ``int``: it makes whole numbers of symbols, and is ``int`` to who asks."""

    def __call__(cls, *given: Any, **options: Any) -> Any:
        value = given[0] if given else 0
        if isinstance(value, torch.Tensor):
            value = value.item()  # torch.export gives a symbol for it
        return torch.sym_int(value) if isinstance(value, _SYMBOLS) else int(value, *given[1:], **options)

    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, int | torch.SymInt)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, int)

    def __eq__(cls, other: object) -> bool:
        return other is int or other is cls

    def __hash__(cls) -> int:
        return hash(int)


class _Int(int, metaclass=_Whole):
    """Stands for ``int``."""


_OF_SYMBOLS: dict[str, Any] = {
    "int": _Int, "len": _length, "max": partial(_extreme, max, torch.sym_max),
    "min": partial(_extreme, min, torch.sym_min),
}  # fmt: skip

_CHECKED = ("max", "min")
"""What torch's own functions ask of sizes, in order to check them."""


def _globals_of(model: nn.Module) -> list[dict[str, Any]]:
    """Return the globals of the code of a model's own modules, and of the functions that it names."""
    modules = [module for module in model.modules() if not is_torchs(module)]
    held = [value for module in modules for value in vars(module).values() if hasattr(value, "__globals__")]
    classes = dict.fromkeys(cls for module in modules for cls in type(module).__mro__ if _is_models(cls.__module__))
    files = [sys.modules.get(name) for name in dict.fromkeys(cls.__module__ for cls in classes)]
    found = [*(value.__globals__ for value in held), *(vars(file) for file in files if file is not None)]
    named = [value for names in found for value in names.values() if isinstance(value, FunctionType)]
    found += [value.__globals__ for value in named if _is_models(value.__module__)]
    return list({id(names): names for names in found}.values())


def _is_models(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] not in _NOT_THE_MODELS
