"""A model of transformers without some of its layers: its class is made anew with a smaller number of layers.

Layers are the items of a list of modules. Those that are left move up, so that the names of their tensors change, and
so do the entries of lists in the configuration that have one for each layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import nn

from swdc.artifacts.pretrained.config_fields import Path, Sizes, number_paths, remade, sizes_of, underived
from swdc.artifacts.pretrained.making import made_with
from swdc.errors import ExportError
from swdc.ir.program import Program

Removed = dict[str, tuple[int, ...]]
"""The removed items of each list of modules, by its path."""


def shortened(model: Any, slim: Program) -> Iterator[nn.Module]:
    """Yield models of the same class without the layers that a slim program lacks, with its tensors.

    They are made from configurations that give the tensors these names and sizes. Raises ``ExportError`` if something
    is missing that is no whole layer, or if no number of the configuration gives so many layers.
    """
    removed = removed_layers(model, slim)
    names = {renamed(name, removed): name for name in sizes_of(model) if not _is_in(name, removed)}
    wanted = {new: tuple(tensor_of(model, slim, old).shape) for new, old in names.items()}
    made_any = False
    for config in _configurations(model, removed):
        with torch.device("meta"):
            sizes = sizes_of(type(model)(config))
        if sizes != wanted:
            continue
        made_any = True
        yield made_with(model, config, {new: tensor_of(model, slim, old) for new, old in names.items()})
    if not made_any:
        numbers = ", ".join(f"{path} ({len(gone)} of {_length(model, path)})" for path, gone in removed.items())
        raise ExportError(
            f"expected a number in the configuration of {type(model).__name__} that says how many layers there are in "
            f"{numbers}, found none with which it makes the tensors that are left; save the slim program with swdc.save"
        )


def removed_layers(model: Any, slim: Program) -> Removed:
    """Return the layers that a slim program lacks; ``ExportError`` if it lacks parts of layers."""
    left = {name for name in slim.tensors if name in sizes_of(model)}
    gone = {name for name in sizes_of(model) if name not in slim.tensors and _is_read(model, slim, name)}
    found: Removed = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList):
            items = [str(number) for number in range(len(module))]
            whole = [n for n in items if not any(name.startswith(f"{path}.{n}.") for name in left)]
            if whole and len(whole) < len(items) and not _is_in(f"{path}.", found):
                found[path] = tuple(map(int, whole))
    part = sorted(name for name in gone if not _is_in(name, found))
    if part or not found:
        raise ExportError(
            f"expected whole layers of {type(model).__name__} to be removed, as structure='layers' plans them, got a "
            f"part without {(part or sorted(gone))[0]}; its class needs all parts of a layer"
        )
    return found


def _is_read(model: Any, slim: Program, name: str) -> bool:
    """Whether a tensor that a slim program lacks is not one that it holds under another name."""
    own = dict(model.state_dict(keep_vars=True))
    return not any(own[name] is tensor for other, tensor in own.items() if other in slim.tensors)


def _is_in(name: str, removed: Removed) -> bool:
    return any(name.startswith(f"{path}.{number}.") for path, gone in removed.items() for number in gone)


def renamed(name: str, removed: Removed) -> str:
    """Return the name that a tensor has when the layers before it have moved up."""
    for path, gone in removed.items():
        if name.startswith(f"{path}."):
            number, _, rest = name.removeprefix(f"{path}.").partition(".")
            return f"{path}.{int(number) - sum(one < int(number) for one in gone)}.{rest}"
    return name


def _length(model: Any, path: str) -> int:
    return len(model.get_submodule(path))


def _configurations(model: Any, removed: Removed) -> Iterator[Any]:
    """Yield configurations in which a number for each shortened list is smaller, and lists by layer are shorter."""
    lengths = {_length(model, path) for path in removed}
    plain, options = underived(model.config, lengths), []
    for path, gone in removed.items():
        length = _length(model, path)
        paths = [place for place, value in number_paths(model.config) if value == length]
        options.append([(place, length, gone) for place in paths])
    for chosen in product(*options):
        changed = plain
        for place, length, gone in chosen:
            changed = _shorter(changed, (), place, length, gone)
        try:
            config = remade(model.config, changed)
        except Exception:  # the class is not ours, and says in many ways that numbers do not go together
            continue
        yield config


def _shorter(value: Any, here: Path, place: Path, length: int, gone: tuple[int, ...]) -> Any:
    """Return a configuration with a smaller number at a place, and shorter lists beside it."""
    if here == place:
        return length - len(gone)
    if isinstance(value, dict):
        return {key: _shorter(item, (*here, key), place, length, gone) for key, item in value.items()}
    if isinstance(value, list) and here == place[: len(here)]:
        return [_shorter(item, (*here, number), place, length, gone) for number, item in enumerate(value)]
    if isinstance(value, list) and len(value) == length and here[:-1] == place[:-1]:
        return [item for number, item in enumerate(value) if number not in gone]
    return value


def slim_sizes(model: Any, slim: Program) -> Sizes:
    """Return the sizes that a slim program's tensors have, by the names of the model."""
    return {name: tuple(tensor_of(model, slim, name).shape) for name in model.state_dict()}


def tensor_of(model: Any, slim: Program, name: str) -> torch.Tensor:
    """Return a tensor of the slim program, or one of the model that its program does not have."""
    found = slim.tensors.get(name)
    if found is None:
        own = dict(model.state_dict(keep_vars=True))
        twin = next((other for other, t in own.items() if t is own[name] and other in slim.tensors), None)
        found = own[name] if twin is None else slim.tensors[twin]
    return found.detach()
