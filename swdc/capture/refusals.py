"""What cannot be captured, each told in one line: no raw error of a model leaves ``swdc.trace``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.utils import _pytree as pytree

from swdc.capture.batch import tensors_in
from swdc.capture.way import Inputs
from swdc.errors import TraceError, brief, told_as
from swdc.ir.module_tensors import tensors_of
from swdc.ir.result_classes import is_returnable, parts_of


@contextmanager
def told(model: nn.Module) -> Iterator[None]:
    """Turn any error into a ``TraceError`` with that error as its cause, which names modules that TorchScript made."""
    _check_set_up(model)
    _check_names(model)
    _check_lazy(model)
    _check_dense(model)
    compiled = [path for path, module in model.named_modules() if isinstance(module, torch.jit.ScriptModule)]
    if compiled and not compiled[0]:
        raise TraceError(_compiled(model, compiled))
    try:
        with _told(model):
            yield
    except TraceError as error:
        if not compiled:
            raise
        refusal = TraceError(_compiled(model, compiled))
        refusal.attempts = error.attempts
        raise refusal from error


def _compiled(model: nn.Module, paths: list[str]) -> str:
    where = f"at {paths[0]}" if paths[0] else "itself"
    return (
        f"expected a model of Python modules, got {type(model).__name__}, which TorchScript has compiled {where}: "
        f"there is no Python code to follow; trace the model that was given to torch.jit.script or torch.jit.trace, or "
        f"switch the compilation off in its library"
    )


def _told(model: nn.Module) -> AbstractContextManager[None]:
    got = f"a model that can be captured, got {type(model).__name__}"
    return told_as(TraceError, got, "the full report is the cause of this error")


def _check_set_up(model: nn.Module) -> None:
    """Raise ``TraceError`` for a module that ``nn.Module.__init__`` has not run for: it cannot say what it holds."""
    pending, seen = [("", model)], set[int]()
    while pending:
        path, module = pending.pop()
        if not hasattr(module, "_modules"):
            raise TraceError(
                f"expected modules that nn.Module.__init__ has set up, got {type(module).__name__}"
                f"{path and f' at {path}'}; call super().__init__() at the start of its __init__"
            )
        if id(module) not in seen:
            seen.add(id(module))
            pending += [(f"{path}.{n}" if path else n, m) for n, m in module._modules.items() if m is not None]


def _check_names(model: nn.Module) -> None:
    for kind, names in (("modules", dict(model.named_modules())), ("parameters and buffers", tensors_of(model))):
        for name in names:
            _check_name(f"names of {kind}", name)


def _check_name(what: str, name: Any) -> None:
    """Raise ``TraceError`` for a name with half of a surrogate pair: no file can hold it, and no hash is made of it."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        raise TraceError(f"expected {what} that UTF-8 can spell, got {name!a}; give it another name") from None


def _check_dense(model: nn.Module) -> None:
    for name, tensor in tensors_of(model).items():
        if tensor.layout != torch.strided:
            raise TraceError(
                f"expected dense parameters and buffers, got {name}, which is {tensor.layout}; keep it dense, or give "
                f"it to forward as its indices and its values"
            )


def _check_lazy(model: nn.Module) -> None:
    lazy = [
        name
        for name, tensor in tensors_of(model).items()
        if isinstance(tensor, UninitializedParameter | UninitializedBuffer)
    ]
    if lazy:
        raise TraceError(
            f"expected a model whose tensors have shapes, got {len(lazy)} of lazy modules that have not run "
            f"({', '.join(lazy[:3])}); call the model once on the example inputs, then trace it"
        )


def check_result(model: nn.Module, leaves: Any) -> None:
    """Raise ``TraceError`` if a model returns, among the given leaves, what a graph cannot return."""
    strange = next((leaf for leaf in leaves if not (isinstance(leaf, fx.Node) or is_returnable(leaf))), None)
    if strange is not None:
        raise TraceError(
            f"expected tensors, numbers and strings in the result of {type(model).__name__}, in tuples, lists, dicts "
            f"or dataclasses, got {_article(type(strange).__name__)}; return its tensors"
        )


def check_example(inputs: Any) -> None:
    """Raise ``TraceError`` for names that no file can hold, and for a dataclass that pytrees do not see into."""
    for name in inputs if isinstance(inputs, dict) else ():
        _check_name("names of arguments", name)
    strange = next((leaf for leaf in pytree.tree_leaves(inputs) if parts_of(leaf) is not None), None)
    if strange is not None:
        name = type(strange).__name__
        raise TraceError(
            f"expected inputs in tuples, lists, dicts, or dataclasses of which every field is an argument, got "
            f"{_article(name)}; let the model compute the other fields in its forward, or register {name} with "
            f"torch.utils._pytree.register_pytree_node"
        )


def _article(name: str) -> str:
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


def cannot_run(model: nn.Module, inputs: Inputs, failure: Exception) -> TraceError:
    """Return the error for a model that fails on the example inputs."""
    tensors = tensors_in(inputs)
    types = ", ".join(dict.fromkeys(str(t.dtype).removeprefix("torch.") for t in tensors))
    return TraceError(
        f"expected example inputs that {type(model).__name__} can run on, got shapes "
        f"{[tuple(t.shape) for t in tensors]} of {types}, on which it fails with {brief(failure)}; "
        f"give inputs as the model's forward takes them"
    )


def incomplete(made: list[str]) -> TraceError:
    """Return the error for a model that makes parameters when it runs first."""
    return TraceError(
        f"expected a model that has all its parameters, got one that makes {len(made)} when it runs first "
        f"({', '.join(made[:3])}); call the model once on the example inputs, then trace it"
    )
