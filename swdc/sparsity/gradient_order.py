"""Notices that weights have changed since their gradients were made: the optimizer's step came before the method's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

_WATCHED = 3
"""How many parameters are watched; an optimizer changes all of them in a step."""


class GradientOrder:
    """Notes at which version of a few parameters autograd adds to their gradients.

    Gradients that are set by hand, or by FSDP, are not noted, and nothing is known of them.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._watched = [*islice((p for p in parameters if p.requires_grad and p.is_leaf), _WATCHED)]
        self._made: dict[int, int] = {}
        self._handles = [_hooked(parameter, self._note) for parameter in self._watched]

    def _note(self, parameter: torch.Tensor) -> None:
        self._made[id(parameter)] = parameter._version

    def is_late(self) -> bool:
        """Whether every parameter that has a new gradient has changed since; what was noted is then forgotten."""
        changed = [p._version != self._made[id(p)] for p in self._watched if id(p) in self._made]
        self._made.clear()
        return bool(changed) and all(changed)

    def close(self) -> None:
        """Let go of the parameters."""
        for handle in self._handles:
            handle.remove()
        self._watched, self._handles = [], []


def _hooked(parameter: torch.Tensor, note: Callable[[torch.Tensor], None]) -> RemovableHandle:
    handle: RemovableHandle = parameter.register_post_accumulate_grad_hook(note)  # type: ignore[no-untyped-call]
    return handle
