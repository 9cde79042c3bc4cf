"""What is known of an operator as torch calls it: with tensors as arguments, where there is no graph yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch


class Dispatched:
    """What capture and streaming ask of an operator. ``target`` is always the overload that torch calls."""

    checks: ClassVar[bool] = False
    """Whether it only checks sizes or types, so that a program does without it."""

    steers: ClassVar[bool] = False
    """Whether Python code may branch on its result: a number, or as many rows as there are."""

    finds: ClassVar[bool] = False
    """Whether it gives as much as it finds; ``found_nowhere`` says with which arguments that is nothing."""

    casts: ClassVar[bool] = False
    """Whether it is called in order to change the dtype."""

    trains: ClassVar[bool] = False
    """Whether it becomes a leaf module that does something else in training."""

    layout: ClassVar[Literal["", "given", "read", "chosen"]] = ""
    """What it has to do with how tensors lie in memory.

    It is called in order to give a layout (``given``), or its values depend on that of its input (``read``), or its
    kernels choose that of its result, each in its own way (``chosen``); nothing of all that unless said.
    """

    def found_nowhere(self, args: Sequence[Any]) -> list[Any]:
        """Return the positional arguments of a call, changed so that an operator which ``finds`` finds nothing."""
        return list(args)

    def anywhere(self, target: Any) -> Any:
        """Return the overload that computes the same wherever its input lies in memory; ``target`` unless said."""
        return target

    def empty_result(self, target: Any, args: Sequence[Any]) -> Any:
        """Return what a call gives on tensors without values, without asking torch; ``None`` unless that is known."""
        return None

    def taken(self, target: Any, args: Sequence[Any]) -> tuple[int, torch.Tensor | None] | None:
        """Return the dimension, and its indices in order, that the result takes of the first argument.

        Indices of ``None`` stand for all of them. ``None``, unless said, because the result is more than a choice.
        """
        return None


def like_input(target: Any, args: Sequence[Any]) -> torch.Tensor | None:
    """Return an empty result of the form of the first argument; ``None`` where that is not floating."""
    x: torch.Tensor = args[0]
    if not x.is_floating_point():
        return None
    return x if target._schema.is_mutable else torch.empty_like(x)
