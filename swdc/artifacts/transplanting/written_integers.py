"""The integers of a model that its own runs overwrite: they say what is kept beside them, and not how wide it is."""

from __future__ import annotations

from typing import Any

from torch import nn

from swdc.artifacts.transplanting.integers import Keys, integers

Values = dict[Keys, int]


def values_of(model: nn.Module) -> dict[str, Values]:
    """Return the integers of each module of a model, by the path of the module."""
    return {path: dict(integers(module, configurations=True)) for path, module in model.named_modules()}


class WrittenIntegers:
    """Finds which integers a run overwrites: made before the run, and given the model after it.

    An example is the size that a cache is for. Another number there would make the cache one for another size.
    """

    def __init__(self, model: nn.Module) -> None:
        self._before = values_of(model)
        self.keys: dict[str, set[Keys]] = {}

    def look(self, model: nn.Module) -> None:
        """Note the integers that are others now, or not there any more; of a list or tuple, all together."""
        after = values_of(model)
        for path, before in self._before.items():
            now = after.get(path, {})
            changed = {_whole(keys) for keys, number in before.items() if now.get(keys) != number}
            self.keys[path] = {keys for keys in before if _whole(keys) in changed}


def _whole(keys: Keys) -> tuple[Any, ...]:
    """Return where the list or tuple stands that an integer is in, or the integer itself."""
    end = len(keys)
    while end > 1 and isinstance(keys[end - 1], int):
        end -= 1
    return keys[:end]
