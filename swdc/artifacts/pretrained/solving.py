"""Configurations with which a class of transformers makes tensors of given sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from math import prod
from typing import Any

from swdc.artifacts.pretrained.config_fields import (
    Field,
    Path,
    Sizes,
    Slot,
    explicit,
    fields_of,
    made_with,
    number_paths,
    sizes_with,
)
from swdc.errors import ExportError, brief

_MOST = 100_000
"""The most combinations of numbers to look at."""
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
"""The number of a block in the name of a tensor."""


def solutions(model: Any, wanted: Sizes) -> Iterator[dict[Path, float]]:
    """Yield the changes of a model's configuration with which its class makes tensors of the wanted sizes.

    Those that change the fewest numbers come first. Raises ``ExportError`` if there is none.
    """
    now = sizes_with(model, {})
    if now is None or now.keys() - wanted.keys():
        raise ExportError(
            f"expected a class that its configuration makes anew with the same tensors, got {type(model).__name__}; "
            f"save the slim program with swdc.save"
        )
    target = {name: wanted[name] for name in now}
    if target == now:
        yield {}
        return
    base = explicit(model, now)
    fields = [field for field in fields_of(model, base) if field.wanted(target) - {field.value}]
    _check_reached(model, fields, target, now)
    found, refused = False, None
    for changes in _combinations(fields, target, now):
        numbers = {**base, **changes}
        sizes = sizes_with(model, numbers)
        found = found or sizes == target
        if sizes == target:
            yield numbers
        elif sizes is None:
            refused = refused or (numbers, changes)
    if refused and not found:
        raise _refused(model, *refused)
    if not found:
        raise _unreachable(model, fields, target, now)


def _combinations(fields: list[Field], target: Sizes, now: Sizes) -> Iterator[dict[Path, float]]:
    """Yield the changes that should give the wanted sizes, if each size is a product of what depends on each number."""
    offered = [sorted({field.value, *field.wanted(target)}) for field in fields]
    slots = sorted({slot for field in fields for slot in field.terms})
    if prod(map(len, offered)) > _MOST:
        return
    fitting = []
    for values in product(*offered):
        chosen = dict(enumerate(values))
        if all(_predicted(fields, chosen, slot, now) == target[slot[0]][slot[1]] for slot in slots):
            fitting.append({fields[f].path: v for f, v in chosen.items() if v != fields[f].value})
    yield from sorted(fitting, key=len)


def _predicted(fields: list[Field], chosen: dict[int, float], slot: tuple[str, int], now: Sizes) -> int:
    size = now[slot[0]][slot[1]]
    return round(size * prod(field.size(slot, chosen[f], size) / size for f, field in enumerate(fields)))


def _check_reached(model: Any, fields: list[Field], target: Sizes, now: Sizes) -> None:
    """Raise ``ExportError`` if no number of the configuration changes a size that has to change."""
    reached = {slot for field in fields for slot in field.terms}
    for name, sizes in target.items():
        for dim, size in enumerate(sizes):
            if size != now[name][dim] and (name, dim) not in reached:
                raise ExportError(
                    f"expected sizes that a number in the configuration of {type(model).__name__} says, got {size} "
                    f"instead of {now[name][dim]} for {name}[{dim}], which none says; keep it whole with "
                    f"ignore=['{name.rpartition('.')[0]}']"
                )


def _refused(model: Any, numbers: dict[Path, float], changes: dict[Path, float]) -> ExportError:
    """Return the error for numbers that the class itself refuses; ``changes`` are those that the plan asks for."""
    said = "it refuses them"
    try:
        made_with(model, numbers)
    except Exception as error:  # of the class, which is not ours
        said = brief(error)
    now = dict(number_paths(model.config))
    named = ", ".join(f"{'.'.join(map(str, path))}={number} (now {now.get(path)})" for path, number in changes.items())
    return ExportError(
        f"expected numbers that {type(model).__name__} takes, got {named}, with which it fails: {said}; choose shares "
        f"by name so that these numbers fit together (round_to= rounds channels and heads alike, so it may not be "
        f"enough), or keep what they count whole with ignore="
    )


def _unreachable(model: Any, fields: list[Field], target: Sizes, now: Sizes) -> ExportError:
    """Return the error for sizes that no configuration gives: it names a number that would need two values."""
    for field in fields:
        asked = _asked(field, target)
        if len(asked) > 1:
            return _torn(model, field, asked, target, now)
    named = ", ".join(map(str, fields))
    return ExportError(
        f"expected widths that {type(model).__name__} can have, but no values of {named} give them; plan with "
        f"even=True and scope='group', or ignore the modules whose widths differ"
    )


def _asked(field: Field, target: Sizes) -> dict[float, list[Slot]]:
    """Return the sizes that ask for each value of a number, in the order of the values."""
    found: dict[float, list[Slot]] = {}
    for slot, term in field.terms.items():
        for value in replace(field, terms={slot: term}).wanted(target):
            found.setdefault(value, []).append(slot)
    return dict(sorted(found.items()))


def _torn(model: Any, field: Field, asked: dict[float, list[Slot]], target: Sizes, now: Sizes) -> ExportError:
    """Return the error for a number that would need several values at once.

    Either repeated blocks have other widths, which an even plan mends; or the class has one number for sizes of another
    kind (heads times their size, and the residual stream), which no plan that cuts one of them alone can have.
    """
    places: dict[tuple[str, int], set[float]] = {}
    for value, slots in asked.items():
        for name, dim in slots:
            places.setdefault((_NUMBER.sub("*", name), dim), set()).add(value)
    changed = [(name, dim) for slots in asked.values() for name, dim in slots if target[name][dim] != now[name][dim]]
    name, dim = changed[0]
    told = (
        f"expected widths that {type(model).__name__} can have, got some for which {field} in its configuration would "
        f"have to be {' and '.join(map(str, [*asked][:3]))} at once (first for {name}[{dim}])"
    )
    if any(len(values) > 1 for values in places.values()):
        return ExportError(
            f"{told}; plan with even=True and scope='group', or keep the channels of such modules with ignore="
        )
    kept = _NUMBER.sub("*", name.rpartition(".")[0])
    other, size = next(slots[0] for slots in asked.values() if (name, dim) not in slots)
    return ExportError(
        f"{told}: its class has this one number for {other}[{size}], too, so that neither is cut alone; give both one "
        f"width, or keep this one whole with ignore=['{kept}']"
    )
