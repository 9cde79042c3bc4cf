"""Results of operators on tensors without values: torch finds them once for each form of inputs, then a cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

Form = tuple[Any, ...]


@dataclass(frozen=True)
class _Result:
    """The form of one result.

    ``of`` is the number of the input whose memory the result shares; ``None`` if the result has its own memory.
    ``whole`` says that the result is that input itself.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    offset: int
    dtype: torch.dtype
    of: int | None
    whole: bool

    def made(self, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
        if self.of is None:
            return torch.empty_strided(self.size, self.stride, dtype=self.dtype, device="meta")
        if self.whole:
            return inputs[self.of]
        return torch.as_strided(inputs[self.of], self.size, self.stride, self.offset)


class Forms:
    """Calls operators on the meta device, and remembers the results.

    The cache pays because a network repeats its blocks, and capture runs it several times.
    """

    def __init__(self) -> None:
        self._known: dict[Form, tuple[type, list[_Result]] | None] = {}

    def call(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """Return the result of an operator on tensors on the meta device."""
        inputs: list[torch.Tensor] = []
        key = (func, _form(list(args), inputs), _form(list(kwargs.items()), inputs))
        if any(x.is_complex() or x.layout != torch.strided for x in inputs):
            return func(*args, **kwargs)
        if key not in self._known:
            before = [_shape(x) for x in inputs]
            result = func(*args, **kwargs)
            steady = before == [_shape(x) for x in inputs]
            self._known[key] = _results(result, inputs) if steady else None
            return result
        known = self._known[key]
        if known is None:
            return func(*args, **kwargs)
        kind, results = known
        made = [result.made(inputs) for result in results]
        return made[0] if kind is torch.Tensor else kind(made)


def _shape(x: torch.Tensor) -> Form:
    return x.shape, x.stride(), x.storage_offset(), x.dtype


def _form(argument: Any, inputs: list[torch.Tensor]) -> Any:
    """Return all that the form of the results depends on; tensors are added to ``inputs``."""
    if isinstance(argument, torch.Tensor):
        inputs.append(argument)
        return _shape(argument)
    if isinstance(argument, list | tuple):
        return tuple([_form(item, inputs) for item in argument])
    return type(argument), argument


def _results(result: Any, inputs: Sequence[torch.Tensor]) -> tuple[type, list[_Result]] | None:
    """Return the forms of results; ``None`` if they are not plain tensors, or share memory with each other."""
    several = type(result) in (list, tuple)
    results = list(result) if several else [result]
    if not all(isinstance(r, torch.Tensor) and r.is_meta and r.layout == torch.strided for r in results):
        return None
    memory = {x.untyped_storage()._cdata: number for number, x in reversed(list(enumerate(inputs)))}
    found: list[_Result] = []
    own: set[int] = set()
    for made in results:
        place = made.untyped_storage()._cdata
        of = memory.get(place)
        if place in own or (of is not None and made.dtype != inputs[of].dtype) or made.is_complex():
            return None
        if of is None:
            own.add(place)
        whole = of is not None and any(made is x for x in inputs)
        of = next(number for number, x in enumerate(inputs) if made is x) if whole else of
        found.append(_Result(tuple(made.shape), made.stride(), made.storage_offset(), made.dtype, of, whole))
    return (type(result) if several else torch.Tensor), found
