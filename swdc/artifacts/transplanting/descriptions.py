"""Integers that no forward reads, and that say how wide a model is: its printing, resetting and building reads them.

Nothing runs that could tell which of them are wrong. So an integer changes only if the sizes of the values around it
leave no choice: all that are equal to it became one other number, or the constructor of its module, which it is an
argument of, makes tensors of the slim shapes with one number only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from torch import nn

from swdc.artifacts.transplanting.call_hooks import IN, OUT
from swdc.artifacts.transplanting.construction import constructed
from swdc.artifacts.transplanting.expected_tensors import Reference
from swdc.artifacts.transplanting.integers import KEY, Keys, integers, mentioned_by, put
from swdc.artifacts.transplanting.part_module import Extracted
from swdc.ir.graph import SHAPE
from swdc.ir.module_tensors import tensors_of
from swdc.ir.program import Program

_STANDARD = "torch.nn.modules."
_FORWARD = "forward"

Change = tuple[int, int]
Sizes = dict[str, set[Change]]
"""The old and the new sizes of what each call of a module takes (``path/inputs``) and returns (``path/result``), and
of its own tensors (``path/tensors``)."""
Values = dict[nn.Module, dict[Keys, int]]


class Descriptions:
    """The integers of a model that its forward does not read, and the sizes that they may stand for.

    It is made before the model gets the slim tensors.
    """

    def __init__(self, model: nn.Module, dense: Program, slim: Program, reference: Reference) -> None:
        self._model = model
        self._old = {name: tuple(tensor.shape) for name, tensor in tensors_of(model).items()}
        self._sizes = _sizes_of_calls(dense, slim, reference)
        self._before: Values = {
            module: dict(integers(module))
            for module in model.modules()
            if not type(module).__module__.startswith(_STANDARD)
        }

    def follow(self, runs: Callable[[], bool]) -> None:
        """Set the integers that can stand for one size only, except for modules with which the model fails then."""
        self._add_tensors()
        old: Values = {}
        new: Values = {}
        for path, module in self._model.named_modules():
            if module not in self._before or isinstance(module, Extracted):
                continue  # a part of the program
            read, now = _read_above(self._model, path), dict(integers(module))
            still = {keys: n for keys, n in now.items() if self._before[module].get(keys) == n and keys[0] not in read}
            changed = self._changed(module, path, still)
            if changed:
                old[module], new[module] = {keys: still[keys] for keys in changed}, changed
        _put_all(new)
        if new and not runs():
            _put_all(old)
            for module, values in new.items():
                _put_all({module: values})
                if not runs():
                    _put_all({module: old[module]})

    def _changed(self, module: nn.Module, path: str, still: dict[Keys, int]) -> dict[Keys, int]:
        """Return the new numbers of those integers of a module that no run has found or reads."""
        found = {keys: self._news(module, path, keys, number) for keys, number in still.items()}
        open_ones = {str(keys[0]): sorted(news) for keys, news in found.items() if len(keys) == 1 and len(news) > 1}
        before = {str(keys[0]): number for keys, number in self._before[module].items() if len(keys) == 1}
        inside = f"{path}." if path else ""
        old = {name.removeprefix(inside): shape for name, shape in self._old.items() if name.startswith(inside)}
        made = constructed(module, before, old, open_ones) if open_ones else {}
        one = {keys: next(iter(news)) for keys, news in found.items() if len(news) == 1}
        return {keys: n for keys, n in (one | {(name,): n for name, n in made.items()}).items() if n != still[keys]}

    def _add_tensors(self) -> None:
        for path, module in self._model.named_modules():
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                old = self._old.get(f"{path}.{name}" if path else name)
                if tensor is not None and old is not None and len(old) == tensor.dim():
                    self._sizes.setdefault(f"{path}/tensors", set()).update(zip(old, tensor.shape, strict=True))

    def _news(self, module: nn.Module, path: str, keys: Keys, number: int) -> set[int]:
        """Return the numbers that sizes around an integer of a module became if they were equal to it."""
        other = _module_beside(self._model, module, keys, number)
        if other is not None:
            return self._became(number, [f"{other}/{OUT}"])
        near = [name for part in (path, *_parts(module, path)) for name in _of(part)]
        if not any(old == number for name in near for old, _ in self._sizes.get(name, ())):
            inside = f"{path}." if path else ""
            near = [name for name in self._sizes if name.startswith(inside)]
        return self._became(number, near)

    def _became(self, number: int, names: Iterable[str]) -> set[int]:
        return {new for name in names for old, new in self._sizes.get(name, ()) if old == number}


def _put_all(values: Values) -> None:
    for module, numbers in values.items():
        for keys, number in numbers.items():
            put(module, keys, number)


def _of(path: str) -> tuple[str, ...]:
    return f"{path}/{IN}", f"{path}/{OUT}", f"{path}/tensors"


def _parts(module: nn.Module, path: str) -> Iterator[str]:
    """Yield the paths of the modules that a module calls itself: its children, and those in containers."""
    for name, child in module.named_children():
        inner = f"{path}.{name}" if path else name
        yield inner
        if isinstance(child, nn.ModuleList | nn.ModuleDict):
            yield from _parts(child, inner)


def _sizes_of_calls(dense: Program, slim: Program, reference: Reference) -> Sizes:
    before, after = ({n.name: n.meta.get(SHAPE) for n in program.graph.nodes} for program in (dense, slim))
    found: Sizes = {}
    for (path, _), sides in reference.calls.items():
        for kind, side in sides.items():
            for name in (name for names in side.tensors() for name in names):
                old, new = before.get(name), after.get(name)
                if isinstance(old, tuple) and isinstance(new, tuple) and len(old) == len(new):
                    pairs = zip(old, new, strict=True)
                    changes = {(a, b) for a, b in pairs if isinstance(a, int) and isinstance(b, int)}
                    found.setdefault(f"{path}/{kind}", set()).update(changes)
    return found


def _module_beside(model: nn.Module, module: nn.Module, keys: Keys, number: int) -> str | None:
    """Return the path of a module of the model that stands in the same dict as an integer, which is then about it.

    A number that the dict has twice tells nothing: then the path is one that no module has.
    """
    if not (isinstance(keys[-1], tuple) and keys[-1][0] == KEY):
        return None
    value: Any = vars(module).get(keys[0])
    for key in keys[1:-1]:
        value = value[key[1]] if isinstance(key, tuple) else value[key]
    paths = [text for text in value.values() if isinstance(text, str) and text and _has(model, text)]
    if len(paths) != 1:
        return None
    return paths[0] if list(value.values()).count(number) == 1 else "/"


def _has(model: nn.Module, path: str) -> bool:
    return path in dict(model.named_modules())


def _read_above(model: nn.Module, path: str) -> frozenset[str]:
    """Return the names that the forward of a module, or of one that holds it, reads."""
    steps = path.split(".") if path else []
    holders = [".".join(steps[:end]) for end in range(len(steps) + 1)]
    classes: list[Any] = [type(model.get_submodule(holder)) for holder in holders]
    return frozenset().union(*map(_read_by_forward, classes))


@cache
def _read_by_forward(cls: Any) -> frozenset[str]:
    """Return the names that the forward of a class reads, and the methods and properties of the class that it names."""
    names, left = set[str](), [_FORWARD, "__call__", "__getattr__"]
    while left:
        name = left.pop()
        for base in cls.__mro__:
            if base in (nn.Module, object) or name not in vars(base):
                continue
            function = vars(base)[name]
            new = mentioned_by(getattr(function, "fget", function)) - names
            names |= new
            left += new
    return frozenset(names)
