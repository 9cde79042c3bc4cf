"""What running a model leaves in it: caches, flags, hooks that it installs at its first call."""

from __future__ import annotations

from torch import nn

_INTERNAL = frozenset(vars(nn.Module()))


class Leftovers:
    """Remembers what the modules of a model hold, and takes out what came later."""

    def __init__(self, model: nn.Module) -> None:
        self._held = [
            (module, set(vars(module)), {name: dict(hooks) for name, hooks in vars(module).items() if _is_hooks(name)})
            for module in model.modules()
        ]
        values = [value for module in model.modules() for name, value in vars(module).items() if name not in _INTERNAL]
        self._lists = [(value, len(value)) for value in values if isinstance(value, list)]
        self._dicts = [(value, set(value)) for value in values if isinstance(value, dict)]

    def remove(self) -> None:
        """Delete attributes and entries of lists and dicts that were not there, and put the hooks back that were."""
        for items, length in self._lists:
            del items[length:]
        for entries, keys in self._dicts:
            for key in set(entries) - keys:
                del entries[key]
        for module, names, hooks in self._held:
            for name in set(vars(module)) - names:
                del vars(module)[name]
            for name, held in hooks.items():
                vars(module)[name].clear()
                vars(module)[name].update(held)


def _is_hooks(name: str) -> bool:
    return name in _INTERNAL and name.endswith(("_hooks", "_hooks_with_kwargs", "_hooks_always_called"))
