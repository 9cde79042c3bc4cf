"""Arguments and operators of a graph as JSON: plain data, read without running anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from math import isfinite
from typing import Any

import torch
from torch import fx

from swdc.errors import ArtifactError
from swdc.ir.call import Ref
from swdc.ir.described_objects import Described, described
from swdc.ops.base import name_of, target_of
from swdc.ops.creation import function_of
from swdc.ops.trusted_operators import is_trusted, only_computes

_TORCH = "torch.ops."
_KINDS: dict[str, type] = {"dtype": torch.dtype, "memory_format": torch.memory_format, "layout": torch.layout}


def encode(value: Any) -> Any:
    """Return an argument as JSON data. Raises ``ArtifactError`` for a value that cannot be written as JSON.

    ``None``, booleans, numbers, strings and lists stand for themselves. Any other value becomes an
    object with one entry that names its kind: ``{"node": "relu"}``, ``{"tensor": "conv.weight"}``,
    ``{"dtype": "float32"}``.
    """
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, Ref):
        return {"tensor": str(value)}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else {"float": str(value)}
    if isinstance(value, complex):
        return {"complex": [encode(value.real), encode(value.imag)]}
    if isinstance(value, list):
        return [encode(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(item) for item in value]}
    if isinstance(value, slice):
        return {"slice": [encode(item) for item in (value.start, value.stop, value.step)]}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    for kind, cls in _KINDS.items():
        if isinstance(value, cls):
            return {kind: str(value).removeprefix("torch.")}
    raise ArtifactError(
        f"expected arguments of plain types (numbers, strings, dtypes, tensors, lists of them), got "
        f"{value!r} of type {type(value).__name__}, which cannot be saved; take it out of the model's "
        f"forward, or out of its inputs"
    )


def decode(data: Any, nodes: Mapping[str, fx.Node]) -> Any:
    """Return the argument that ``encode`` wrote. ``nodes`` are the earlier nodes of the graph, by name.

    Raises ``ArtifactError`` for an entry of unknown kind.
    """
    if isinstance(data, list):
        return [decode(item, nodes) for item in data]
    if not isinstance(data, dict):
        return data
    ((kind, content),) = data.items()
    several: dict[str, Callable[..., Any]] = {"tuple": lambda *items: items, "slice": slice, "complex": complex}
    if kind in several:
        return several[kind](*[decode(item, nodes) for item in content])
    simple: dict[str, Callable[[Any], Any]] = {
        "node": lambda name: nodes[name],
        "tensor": Ref,
        "float": float,
        "device": torch.device,
    }
    if kind in simple:
        return simple[kind](content)
    value = getattr(torch, content, None) if kind in _KINDS else None
    if value is None or not isinstance(value, _KINDS[kind]):
        raise ArtifactError(f"expected a known kind of argument, got {data}; save the program again")
    return value


def encode_object(value: Any) -> Any:
    """Return an argument of a program as ``encode`` does, an object of the user's as its description.

    Raises ``ArtifactError`` for an object that holds more than plain data.
    """
    if isinstance(value, list):
        return [encode_object(item) for item in value]
    if isinstance(value, tuple):
        return {"tuple": [encode_object(item) for item in value]}
    found = described(value)
    if found is None:
        return encode(value)
    return {"object": [found.name, *([name, encode_object(part)] for name, part in found.parts.items())]}


def decode_object(data: Any) -> Any:
    """Return what ``encode_object`` wrote; an object comes back as its description."""
    if isinstance(data, list):
        return [decode_object(item) for item in data]
    kind = next(iter(data)) if isinstance(data, dict) else ""
    if kind == "tuple":
        return tuple(decode_object(item) for item in data[kind])
    if kind == "object":
        name, *parts = data[kind]
        return Described(str(name), {str(part): decode_object(value) for part, value in parts})
    return decode(data, {})


def encode_target(target: Any) -> str:
    """Return the full name of an operator. Raises ``ArtifactError`` for a function that cannot be saved."""
    if isinstance(target, torch._ops.OpOverload):
        return f"{_TORCH}{target}"
    if hasattr(target, "__name__") and function_of(name_of(target)) is target:
        return name_of(target)
    name = f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', target)}"
    raise ArtifactError(
        f"expected operators of torch.ops or of Python's operator module, got the function {name}, which "
        f"cannot be saved; compute its value outside of the model, or register it with torch.library"
    )


def decode_target(name: str) -> Any:
    """Return the operator with a full name: an overload of ``torch.ops``, or one of a few builtin functions.

    Raises ``ArtifactError`` for anything else, for operators of packages that are not registered with swdc, and for
    operators that do more than compute: open files, set the seed, turn gradients off.
    """
    function = function_of(name)
    if function is not None:
        return function
    target = None
    if name.startswith(_TORCH) and name.count(".") == 4:
        with suppress(AttributeError):
            target = target_of(name.removeprefix(_TORCH))
    if not isinstance(target, torch._ops.OpOverload):
        raise ArtifactError(
            f"expected an operator of torch.ops or of Python's operator module, got {name!r}, which is not "
            f"known here; import the package that defines it, or use the torch that the program was saved with"
        )
    if not is_trusted(target):
        raise ArtifactError(
            f"expected operators of torch, torchvision, or registered with swdc, got {name!r}; if you trust the "
            f"package that defines it, register the operator with swdc.register"
        )
    if not only_computes(target):
        raise ArtifactError(
            f"expected operators that compute and do nothing else, got {name!r}, which opens files or changes the "
            f"state of the process; do not use this folder"
        )
    return target
