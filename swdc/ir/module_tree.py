"""The tree of modules of a program: modules are attached by their paths, whatever their names."""

from __future__ import annotations

from torch import nn

from swdc.errors import TraceError


def check_names(reserved: set[str]) -> None:
    """Raise ``TraceError`` if modules or tensors have names in which programs keep data of their own."""
    if reserved:
        raise TraceError(
            f"expected other names of modules and tensors than {sorted(reserved)}, which programs use; rename them"
        )


def container(root: nn.Module, path: str) -> nn.Module:
    """Return the submodule at ``path``; modules that are missing on the way are added as plain ones."""
    for name in path.split(".") if path else ():
        child = root._modules.get(name)
        if child is None:
            child = nn.Module()
            root._modules[name] = child  # add_module refuses names such as ``graph`` and ``clone``
        root = child
    return root


def attach_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path below ``root``; it takes over the modules below the one that was there."""
    parent, _, name = path.rpartition(".")
    owner = container(root, parent)
    before = owner._modules.get(name)
    if before is not module:
        module._modules.update(before._modules if before is not None else {})
        owner._modules[name] = module
