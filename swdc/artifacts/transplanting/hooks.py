"""The hooks of calls that users have registered on the modules of a model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

_OURS = "swdc."
"""The modules of hooks that parts of slim programs have."""
_CALLS = frozenset(name for name in vars(nn.Module()) if "_hooks" in name and ("forward" in name or "backward" in name))


def has_hooks(module: nn.Module) -> bool:
    """Whether a user has registered hooks of calls on a module, or on one inside of it."""
    held = (hook for part in module.modules() for _, hooks in _hooks(part) for hook in hooks.values() if callable(hook))
    return any(not str(getattr(hook, "__module__", "")).startswith(_OURS) for hook in held)


def described(path: str, module: nn.Module) -> str:
    """Return what a warning says of a module that is replaced: its path, its class, and whether it had hooks."""
    return f"{path} ({type(module).__name__}{', without its hooks' if has_hooks(module) else ''})"


def move_hooks(old: nn.Module, new: nn.Module) -> None:
    """Let a module have the hooks of another one, whose place it takes; the handles of the hooks work as before."""
    vars(new).update(_hooks(old))


def keep_hooks(model: nn.Module, copy: nn.Module) -> None:
    """Let the modules of a copy have the hooks of the model, so that their handles and what they write to stay.

    A hook that is a method of a module inside the model is the one of the copy, because that is the one that runs.
    """
    for path, module in model.named_modules():
        try:
            own = vars(copy.get_submodule(path))
        except AttributeError:
            continue  # a part of a program has taken the place of the module around it
        for name, held in _hooks(module):
            if held.keys() != own[name].keys():
                continue  # of a module that was replaced
            inner = {key: own[name][key] for key, hook in held.items() if _is_of_a_part(hook, model)}
            held.update(inner)
            own[name] = held


def _is_of_a_part(hook: Any, model: nn.Module) -> bool:
    owner = getattr(hook, "__self__", None)
    return isinstance(owner, nn.Module) and owner is not model


def _hooks(module: nn.Module) -> Iterator[tuple[str, dict[int, Any]]]:
    return ((name, held) for name, held in vars(module).items() if name in _CALLS and isinstance(held, dict))
