"""Configurations with which a class of transformers makes tensors of given sizes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Any

from swdc.artifacts.pretrained.config_fields import Field, Path, Sizes, explicit, fields_of, made_with, sizes_with
from swdc.errors import ExportError, brief

_MOST = 100_000
"""The most combinations of numbers to look at."""


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
            refused = refused or numbers
    if refused and not found:
        raise _refused(model, refused)
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


def _refused(model: Any, numbers: dict[Path, float]) -> ExportError:
    """Return the error for numbers that the class itself refuses."""
    said = "it refuses them"
    try:
        made_with(model, numbers)
    except Exception as error:  # of the class, which is not ours
        said = brief(error)
    named = ", ".join(f"{'.'.join(map(str, path))}={number}" for path, number in numbers.items())
    return ExportError(
        f"expected widths that {type(model).__name__} can have, got {named}, with which it fails: {said}; plan with "
        f"round_to=, so that these numbers divide each other, or ignore the modules"
    )


def _unreachable(model: Any, fields: list[Field], target: Sizes, now: Sizes) -> ExportError:
    """Return the error for sizes that no configuration gives: it names a number that would need two values."""
    for field in fields:
        values = sorted(field.wanted(target))
        if len(values) > 1:
            (name, dim), _ = next((s, t) for s, t in field.terms.items() if target[s[0]][s[1]] != now[s[0]][s[1]])
            return ExportError(
                f"expected widths that {type(model).__name__} can have, got some for which {field} in its "
                f"configuration would have to be {' and '.join(map(str, values[:3]))} at once (first for "
                f"{name}[{dim}]); plan with even=True and scope='group', or keep the channels of such modules with "
                f"ignore="
            )
    named = ", ".join(map(str, fields))
    return ExportError(
        f"expected widths that {type(model).__name__} can have, but no values of {named} give them; plan with "
        f"even=True and scope='group', or ignore the modules whose widths differ"
    )
