"""The numbers of a transformers configuration, and the sizes of a model's tensors that depend on each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Path = tuple[str | int, ...]
Sizes = Mapping[str, tuple[int, ...]]
Slot = tuple[str, int]
"""A dimension of a tensor: the tensor's name, and the number of the dimension."""
_TRIED = 96
"""What is tried for a number that a configuration leaves to its class; most numbers of heads divide it."""
_OPTIONAL = ("head_dim",)
"""Numbers that classes read if a configuration has them."""


@dataclass(frozen=True)
class Field:
    """A number of a configuration: where it stands, its value, and what depends on it.

    ``terms`` gives offset and slope of each size that depends on the number, as long as the others are as they are.
    """

    path: Path
    value: float
    terms: Mapping[Slot, tuple[float, float]]

    def __str__(self) -> str:
        return ".".join(map(str, self.path))

    def size(self, slot: Slot, value: float, now: int) -> float:
        """Return a size when the number has a value; it is ``now`` with the value of the configuration."""
        offset, slope = self.terms.get(slot, (now, 0.0))
        return offset + slope * value

    def wanted(self, sizes: Sizes) -> set[float]:
        """Return the values that give one of the wanted sizes, if no other number changes.

        Whole numbers stay whole. Other numbers, such as the ratio of two widths, may be any.
        """
        values = {(sizes[name][dim] - offset) / slope for (name, dim), (offset, slope) in self.terms.items()}
        if isinstance(self.value, int):
            return {round(value) for value in values if value >= 1 and value == round(value)}
        return {value for value in values if value > 0}


def with_numbers(config: Any, numbers: Mapping[Path, float]) -> Any:
    """Return a configuration in which some numbers are others."""
    plain = config.to_dict()
    for path, number in numbers.items():
        place = plain
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = number
    return remade(config, plain)


def remade(config: Any, plain: dict[str, Any]) -> Any:
    """Return the configuration of plain data, of the same class and with the same choice of kernels as another one."""
    changed = type(config).from_dict(plain)
    for choice in ("_attn_implementation", "_experts_implementation"):
        if getattr(config, choice, None) is not None:
            setattr(changed, choice, getattr(config, choice))
    return changed


def made_with(model: Any, numbers: Mapping[Path, float]) -> Any:
    """Return a model of the same class, without values, whose configuration has some other numbers.

    Raises whatever the class raises if it refuses these numbers.
    """
    config = with_numbers(model.config, numbers)
    with torch.device("meta"):
        return type(model)(config)


def sizes_with(model: Any, numbers: Mapping[Path, float]) -> Sizes | None:
    """Return the sizes of a model's tensors if its configuration had other numbers; ``None`` if the class refuses."""
    try:
        return sizes_of(made_with(model, numbers))
    except Exception:  # the class is not ours, and says in many ways that numbers do not go together
        return None


def sizes_of(model: nn.Module) -> Sizes:
    """Return the sizes of the tensors that a model saves, by name."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def explicit(model: Any, now: Sizes) -> dict[Path, float]:
    """Return values for the numbers that a configuration leaves to its class, with which all sizes are as they are.

    With these, sizes depend on fewer numbers: that of a head no longer on the hidden size.
    """
    found: dict[Path, float] = {}
    for path, value in number_paths(model.config):
        if value is None:
            terms = _terms(model, found, path, _TRIED)
            values = {(now[name][dim] - offset) / slope for (name, dim), (offset, slope) in terms.items()}
            number = round(values.pop()) if len(values) == 1 else 0
            if number > 0 and sizes_with(model, {**found, path: number}) == now:
                found[path] = number
    return found


def fields_of(model: Any, base: Mapping[Path, float]) -> list[Field]:
    """Return the numbers on which sizes depend, of a configuration in which those of ``base`` are others.

    Numbers that decide how many tensors there are do not count.
    """
    numbers = {path: base.get(path, value) for path, value in number_paths(model.config)}
    found = [Field(path, v, _terms(model, base, path, v)) for path, v in numbers.items() if v is not None]
    return [field for field in found if field.terms]


def _terms(model: Any, base: Mapping[Path, float], path: Path, value: float) -> dict[Slot, tuple[float, float]]:
    """Return offset and slope of the sizes that change when a number is doubled."""
    one, other = (sizes_with(model, {**base, path: number}) for number in (value, 2 * value))
    if one is None or other is None or one.keys() != other.keys():
        return {}
    terms = {}
    for name, sizes in one.items():
        for dim, (a, b) in enumerate(zip(sizes, other[name], strict=False)):
            if a != b:
                slope = (b - a) / value
                terms[name, dim] = (a - slope * value, slope)
    return terms


def underived(config: Any, lengths: Collection[int]) -> dict[str, Any]:
    """Return a configuration as plain data without what its class finds by itself from the rest.

    So names of stages do not contradict another number of layers. Lists of one of ``lengths`` stay: they are shortened.
    """
    whole = config.to_dict()
    plain = dict(whole)
    for key, value in whole.items():
        if isinstance(value, list) and len(value) not in lengths:
            rest = {name: other for name, other in plain.items() if name != key}
            plain = rest if type(config).from_dict(rest).to_dict() == whole else plain
    return plain


def number_paths(config: Any) -> Iterator[tuple[Path, float | None]]:
    """Yield the numbers of a nested configuration, and what it leaves open, with where they stand."""
    plain = config.to_dict()
    yield from _walk(plain, ())
    yield from (((name,), None) for name in _OPTIONAL if name not in plain and name not in config.attribute_map)


def _walk(plain: Any, path: Path) -> Iterator[tuple[Path, float | None]]:
    for key, value in plain.items() if isinstance(plain, dict) else enumerate(plain):
        here = (*path, key)
        if (type(value) in (int, float) and value > 0) or (value is None and path == ()):
            yield here, value
        elif isinstance(value, list) or (isinstance(value, dict) and all(isinstance(k, str) for k in value)):
            yield from _walk(value, here)
