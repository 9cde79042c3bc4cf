"""Branches on whether a condition holds anywhere, or everywhere: code may leave out what changes nothing there.

Export takes the branch on which it does (``if mask.any():``). That is the model where code of the other branch computes
the same, as an expert does for no tokens: runs in which the model goes the other way show it, place by place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from swdc.capture.asking import asking_place
from swdc.capture.captured_graph import Captured
from swdc.capture.empty_searches import differs_where_nothing_is_found
from swdc.capture.given_inputs import copied, turned
from swdc.capture.results import difference
from swdc.capture.way import CannotCapture, Inputs
from swdc.ops.read_values import ASKED, ASSUMED

_MOST = 300
"""How often a place may ask at most; a loop that ends when nothing is left would not end."""
_ROWS = 8
"""How many rows of the example are tried by themselves."""


class Answers(TorchFunctionMode):
    """Notes at which places a model's code asks whether a condition holds anywhere, or everywhere.

    A place in the code that asks several times in a run, of one expert after the other, is as many places. If it is to
    ``assume``, the answer is the assumed one. ``places`` holds all that ask, and ``others`` those that were answered
    the other way.
    """

    def __init__(self, assume: bool) -> None:
        super().__init__()
        self.assume = assume
        self.places, self.others = set[str](), set[str]()
        self._asked = Counter[str]()
        self._results: dict[int, tuple[Any, bool]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        _, assumed = self._results.get(id(args[0]), (None, None)) if func in ASKED and args else (None, None)
        if assumed is not None:
            place = self._next_place()
            if self.assume:
                return assumed
        result = func(*args, **(kwargs or {}))
        if assumed is not None and result != assumed:
            self.others.add(place)
        if func in ASSUMED and len(args) == 1 and not kwargs:
            self._results[id(result)] = result, ASSUMED[func]
        return result

    def _next_place(self) -> str:
        place = asking_place()
        self._asked[place] += 1
        if self.assume and self._asked[place] > _MOST:
            raise CannotCapture("the model's code asks for conditions in a loop")
        found = f"{place}, the question number {self._asked[place]}"
        self.places.add(found)
        return found


def differs_on_branches(
    program: nn.Module, model: nn.Module, captured: Captured, inputs: Inputs, rows: int, run: Callable[..., Any]
) -> str:
    """Return how a program differs from its model where its way of capture did not look; empty if it does not.

    That is where searches find nothing, and where places are answered the other way. ``run`` runs a module on inputs,
    or on the example, and returns its result or its error. The inputs share a batch of ``rows``, some of which are
    tried by themselves, unless it is zero. A place at which no run goes the other way counts as a difference, and one
    that asks only where another was answered the other way.
    """
    found = differs_where_nothing_is_found(program, model, run) if captured.empties else ""
    left = set(captured.assumed)
    for given in _tried(inputs, rows):
        if found or not left:
            return found
        with Answers(assume=False) as answers:
            wanted = run(model, copied(given))
        found = difference(wanted, run(program, copied(given))) or ""
        more = answers.places - captured.assumed
        found = found or (f"it also asks at {min(more)}" if more else "")
        left -= set() if isinstance(wanted, Exception) else answers.others
    return found or (f"no run shows what it does otherwise at {min(left)}" if left else "")


def _tried(inputs: Any, rows: int) -> Iterator[Any]:
    yield turned(inputs)
    for factor in (0, -1, 100, -100):
        yield _changed(inputs, lambda t, factor=factor: t * factor if t.is_floating_point() else t)  # type: ignore[misc]
    for row in range(min(rows, _ROWS)):
        yield _changed(inputs, lambda t, row=row: t[row][None] if t.dim() and len(t) == rows else t)  # type: ignore[misc]


def _changed(inputs: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    return pytree.tree_map_only(torch.Tensor, change, inputs)
