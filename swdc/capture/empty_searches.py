"""Whether a program computes what its model computes where a search finds nothing, as an expert that no token chose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from swdc.capture.results import difference
from swdc.ops.in_place import operator_of


class Emptied(TorchDispatchMode):
    """Lets searches whose numbers ``which`` says find nothing, and counts all of them."""

    def __init__(self, which: Callable[[int], bool]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.which, self.number = which, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operator = operator_of(func)
        if operator.finds and operator.by_condition and operator.conditions(args):
            if self.which(self.number):
                args = operator.found_nowhere(args)
            self.number += 1
        return func(*args, **(kwargs or {}))


def differs_where_nothing_is_found(program: nn.Module, model: nn.Module, run: Callable[[nn.Module], Any]) -> str:
    """Return how a program differs from its model where searches find nothing; empty if it does not.

    ``run`` runs a module on the example and returns its result or its error. Code often searches for each of many
    experts: in each pair of runs one half of the searches finds nothing, and then the other, halved by each digit of
    their numbers, so that any two of them are told apart. At last all find nothing.
    """

    def emptied(module: nn.Module, which: Callable[[int], bool]) -> tuple[Any, int]:
        with Emptied(which) as mode:
            return run(module), mode.number

    (_, of_model), (_, of_program) = (emptied(module, lambda number: False) for module in (model, program))
    if of_model != of_program:
        return f"the model searches {of_model} times, and the program {of_program} times"
    for which in _each(of_model):
        found = difference(emptied(model, which)[0], emptied(program, which)[0])
        if found:
            return found
    return ""


def _each(number: int) -> Iterator[Callable[[int], bool]]:
    for digit in range((number - 1).bit_length()):
        for value in (0, 1):
            yield lambda search, digit=digit, value=value: search >> digit & 1 == value  # type: ignore[misc]
    yield lambda search: True
