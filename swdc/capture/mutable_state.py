"""Places where code can keep something, each with what it held when it was found."""

from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from operator import is_
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch

from swdc.capture.copies import copy_of, end_of_copy, never_written

_CODE = (FunctionType, MethodType, ModuleType, type)
ABSENT = object()
"""In place of what a place does not hold."""


class Place(ABC):
    """One place, and what it held when it was found."""

    @abstractmethod
    def changed(self) -> bool:
        """Whether the place holds something else now."""

    @abstractmethod
    def put_back(self) -> None:
        """Let the place hold what it held, if it has changed."""

    def ends_changed(self) -> bool:
        """Whether the place holds something else at the end of capture, however that came about."""
        return self.changed()

    def forget(self) -> None:  # noqa: B027 - most places have nothing to give back
        """Let go of what the place held; nothing can be put back after that."""

    def end(self) -> None:  # noqa: B027
        """Leave the place as it was found, after all places have let go of what they held."""

    def held(self) -> dict[Any, Any]:
        """Return what the place holds, by name or position; nothing of a place that holds values of tensors."""
        return {}


class Container(Place):
    """A list, dict, set or deque, or the attributes of an object."""

    def __init__(self, live: Any) -> None:
        self.live, self.before = live, live.copy()

    def changed(self) -> bool:
        """Whether it holds something else now."""
        return not _same(self.live, self.before)

    def put_back(self) -> None:
        """Let it hold what it held."""
        self.live.clear()
        (self.live.extend if isinstance(self.live, list | deque) else self.live.update)(self.before)

    def held(self) -> dict[Any, Any]:
        """Return the items, by key or position, and their number."""
        items = self.live if isinstance(self.live, dict) else dict(enumerate(self.live))
        return {**items, f"the length of a {type(self.live).__name__}": len(self.live)}


class Names(Place):
    """Some globals of a module, or the attributes of a class, except for code."""

    def __init__(self, owner: Any, names: Iterable[str] | None = None) -> None:
        self.owner, self.names = owner, None if names is None else tuple(names)
        self.everything: Mapping[str, Any] = owner if isinstance(owner, dict) else vars(owner)
        self.seen, self.before = self._values(), self.held()

    def changed(self) -> bool:
        """Whether it holds something else now."""
        now = self._values()  # nearly always the same objects, which is found without a look at each name
        if len(now) == len(self.seen) and all(map(is_, now, self.seen)):
            return False
        return not _same(self.held(), self.before)

    def put_back(self) -> None:
        """Let it hold what it held."""
        now = self.held()
        for name in {**self.before, **now}:
            if now.get(name, ABSENT) is not self.before.get(name, ABSENT):
                self._set(name, self.before.get(name, ABSENT))

    def held(self) -> dict[Any, Any]:
        """Return the values by name."""
        everything = self.everything
        names = [n for n in everything if not n.startswith("__")] if self.names is None else self.names
        return {n: everything[n] for n in names if n in everything and not isinstance(everything[n], _CODE)}

    def _values(self) -> Sequence[Any]:
        everything = self.everything
        if self.names is None:
            return (*everything, *everything.values())
        return [everything.get(name, ABSENT) for name in self.names]

    def _set(self, name: str, value: Any) -> None:
        if isinstance(self.owner, dict):
            self.owner.update({name: value}) if value is not ABSENT else self.owner.pop(name, None)
        else:
            setattr(self.owner, name, value) if value is not ABSENT else delattr(self.owner, name)


class Cell(Place):
    """A variable that a function shares with the function that it was defined in."""

    def __init__(self, cell: CellType) -> None:
        self.cell, self.before = cell, content_of(cell)

    def changed(self) -> bool:
        """Whether it holds something else now."""
        return content_of(self.cell) is not self.before

    def put_back(self) -> None:
        """Let it hold what it held."""
        self.cell.cell_contents = self.before

    def held(self) -> dict[Any, Any]:
        """Return the content of the variable."""
        return {"a variable of a closure": content_of(self.cell)}


class Values(Place):
    """The values of a tensor, and the memory that they lie in."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.memory = tensor, tensor.detach()
        self.place, self.before = self.memory.untyped_storage()._cdata, self._copy()

    def changed(self) -> bool:
        """Whether it holds something else now."""
        return self._moved() or not torch.equal(self.memory, self.before)  # a batch norm counts no writes to a buffer

    def _copy(self) -> torch.Tensor:
        return self.memory.clone()

    def put_back(self) -> None:
        """Let it hold what it held."""
        if self._moved():  # by an assignment to ``data``
            self._take_memory()
        with torch.no_grad():
            self.memory.copy_(self.before)

    def _take_memory(self) -> None:
        if not self.tensor.is_meta:
            self.tensor.data = self.memory
            return
        held = self.memory.detach()  # torch refuses to let a tensor on the meta device have values
        torch.utils.swap_tensors(self.tensor, held)  # type: ignore[no-untyped-call]

    def _moved(self) -> bool:
        now = self.tensor
        return now.untyped_storage()._cdata != self.place or now.shape != self.memory.shape


class SeldomWritten(Values):
    """The values of a parameter. Writes that torch does not count are found at the end only."""

    def __init__(self, tensor: torch.Tensor) -> None:
        super().__init__(tensor)
        self.version, self.bytes = tensor._version, self.memory.untyped_storage().nbytes()
        self.learns, self.gradient = tensor.requires_grad, tensor.grad

    def _copy(self) -> torch.Tensor:
        return copy_of(self.memory)

    def changed(self) -> bool:
        """Whether it holds something else now."""
        return self.tensor._version != self.version or self._moved()

    def put_back(self) -> None:
        """Let it hold what it held."""
        if self._resized():
            self.memory = self.before.clone()
            self.place, self.bytes = self.memory.untyped_storage()._cdata, self.memory.untyped_storage().nbytes()
            self._take_memory()
        else:
            super().put_back()
        self.version = self.tensor._version

    def _moved(self) -> bool:
        return super()._moved() or self._resized()

    def _resized(self) -> bool:
        """Whether the memory has another size: torch loses memory that is resized while a copy of it is put off."""
        return self.memory.untyped_storage().nbytes() != self.bytes

    def ends_changed(self) -> bool:
        """Whether the values are others at the end."""
        return (self._moved() or not never_written(self.memory)) and super().changed()

    def has_other_values(self) -> bool:
        """Whether a number is another now."""
        if self._moved():
            return True
        return not never_written(self.memory) and not torch.allclose(self.memory, self.before, 0, 0, equal_nan=True)

    def forget(self) -> None:
        """Keep no copy any longer."""
        del self.before

    def end(self) -> None:
        """Let the tensor own its memory, which copies of others may have shared, too, and have its gradient again."""
        if self.tensor.requires_grad is not self.learns:
            self.tensor.requires_grad_(self.learns)
        if self.tensor.grad is not self.gradient:
            self.tensor.grad = self.gradient
        if not self.memory.is_meta:
            end_of_copy(self.memory)


class Array(Place):
    """The numbers in an array of numpy."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array, self.before = array, array.copy()

    def changed(self) -> bool:
        """Whether it holds something else now."""
        if self.array.dtype != object:
            return not np.array_equal(self.array, self.before)
        return not all(map(is_, self.array.flat, self.before.flat))  # tensors have no single truth

    def put_back(self) -> None:
        """Let it hold what it held."""
        self.array[...] = self.before


class Results(Place):
    """The results that ``functools.cache`` keeps. Tensors among them belong to one run, and are forgotten."""

    def __init__(self, function: Any) -> None:
        self.function, self.misses = function, function.cache_info().misses

    def changed(self) -> bool:
        """Whether it holds something else now."""
        return bool(self.function.cache_info().misses != self.misses)

    def put_back(self) -> None:
        """Let it hold what it held."""
        if any(map(_holds_tensor, gc.get_referents(self.function))):
            self.function.cache_clear()
        self.misses = self.function.cache_info().misses


def content_of(cell: CellType) -> Any:
    """Return what a variable of a closure holds; ``None`` if it has no value yet."""
    try:
        return cell.cell_contents
    except ValueError:  # the variable has no value yet
        return None


def _same(live: Any, before: Any) -> bool:
    if len(live) != len(before):
        return False
    if isinstance(live, dict):
        if all(map(is_, live.values(), before.values())) and all(map(is_, live, before)):
            return True
    elif isinstance(live, set):
        return bool(live == before)
    else:
        return all(map(is_, live, before))
    return all(live.get(key, ABSENT) is value for key, value in before.items())


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    return isinstance(value, torch.Tensor) or (isinstance(value, list | tuple) and any(map(_holds_tensor, value)))
