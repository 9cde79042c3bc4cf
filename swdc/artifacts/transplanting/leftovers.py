"""What runs leave behind in a model: attributes, entries of containers, tensors that are made when first needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from swdc.capture.mutable_state import Container
from swdc.capture.reachable import places_of

_INTERNAL = frozenset(vars(nn.Module()))

_PLAIN = (int, float, bool, str, tuple, torch.Size, torch.dtype, torch.device, type(None))
"""What code keeps beside a tensor, so as to know what the tensor is for."""

Held = list[tuple[dict[str, Any], dict[str, Any]]]
"""The attributes of an object, or the entries of a dict, and what they were."""


class Leftovers:
    """Remembers what the modules of a model hold, and removes what was added later."""

    def __init__(self, model: nn.Module) -> None:
        self._held = [
            (module, set(vars(module)), {name: dict(hooks) for name, hooks in vars(module).items() if _is_hooks(name)})
            for module in model.modules()
        ]
        values = [value for module in model.modules() for name, value in vars(module).items() if name not in _INTERNAL]
        self._lists = [(value, len(value)) for value in values if isinstance(value, list)]
        self._dicts = [(value, set(value)) for value in values if isinstance(value, dict)]
        self._objects = list(_objects(model))
        self._counted: set[tuple[int, Any]] = set()

    def remove(self, solved: bool = True) -> None:
        """Delete attributes and entries of lists and dicts that were added, and restore the hooks.

        Tensors go where none were, and the numbers beside them are again what they were: those that runs changed
        before the integers of the model were ``solved``.
        """
        for items, length in self._lists:
            del items[length:]
        for held in self._objects:
            self._forget(held, solved)
        for entries, keys in self._dicts:
            for key in set(entries) - keys:
                del entries[key]
        for module, names, hooks in self._held:
            for name in set(vars(module)) - names:
                del vars(module)[name]
            for name, held_hooks in hooks.items():
                vars(module)[name].clear()
                vars(module)[name].update(held_hooks)

    def _forget(self, held: Held, solved: bool) -> None:
        """Let an object hold nothing where it held no tensor before, and what it held beside it then."""
        made = [(live, name) for live, before in held for name, x in live.items() if _is_new(x, before.get(name))]
        for live, before in held if made else ():
            changed = [n for n, x in before.items() if type(x) in _PLAIN and live.get(n) is not x]
            if not solved:
                self._counted |= {(id(live), name) for name in changed}
            live.update({name: before[name] for name in changed if (id(live), name) in self._counted})
        before_of = {id(live): before for live, before in held}
        for live, name in made:
            if name in before_of[id(live)]:
                live[name] = None
            else:
                del live[name]


def _objects(model: nn.Module) -> Iterator[Held]:
    """Yield what each object holds that a model's code can reach: attributes and buffers of a module as one."""
    known: set[int] = set()
    for module in model.modules():
        known |= {id(vars(module)), id(module._buffers), id(module._parameters), id(module._modules)}
        yield [(store, dict(store)) for store in (vars(module), module._buffers)]
    for place in places_of(model):
        if isinstance(place, Container) and isinstance(place.live, dict) and id(place.live) not in known:
            yield [(place.live, place.before)]


def _is_new(value: Any, before: Any) -> bool:
    return isinstance(value, torch.Tensor) and before is None


def _is_hooks(name: str) -> bool:
    return name in _INTERNAL and name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))
