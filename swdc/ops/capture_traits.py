"""What is known about an operator when torch calls it with tensors, before there is a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch

MODES = ("train", "training", "use_input_stats")
"""The arguments that give the mode of a call; leaf modules have a mode of their own instead."""


class Dispatched:
    """What capture and streaming need to know of an operator. ``target`` is always the overload that torch calls."""

    functions: ClassVar[tuple[Any, ...]] = ()
    """The functions of torch that call it, if what they do in training has to be known before they call it."""

    checks: ClassVar[bool] = False
    """Whether it only checks sizes or types, so that a program can omit it."""

    asserts: ClassVar[bool] = False
    """Whether it has no result, and fails where the values of its input are false, so that a program keeps it."""

    steers: ClassVar[bool] = False
    """Whether Python code may branch on its result: on a number, or on the number of rows."""

    finds: ClassVar[bool] = False
    """Whether the size of its result depends on values; ``found_nowhere`` returns arguments that give an empty one."""

    measured: ClassVar[int | None] = None
    """Which of its results has sizes that depend on values, though torch's tags do not say so."""

    by_condition: ClassVar[bool] = False
    """Whether it finds the places where ``conditions`` hold."""

    creates: ClassVar[bool] = False
    """Whether it makes memory of its own, whose tensor torch may hand out as another object than the one it made."""

    casts: ClassVar[bool] = False
    """Whether it is called in order to change the dtype."""

    trains: ClassVar[bool] = False
    """Whether it becomes a leaf module that behaves differently in training."""

    drops: ClassVar[bool] = False
    """Whether it only drops some of its first argument at random, and only in training."""

    layout: ClassVar[Literal["", "given", "read", "chosen"]] = ""
    """How it depends on memory layout.

    It is called to set a layout (``given``), its values depend on the layout of its input (``read``), or its kernels
    each choose the layout of its result (``chosen``). By default none of these.
    """

    narrows: ClassVar[bool] = False
    """Whether a result of the sizes of its first argument is that argument: torch leaves such calls out."""

    def leaves_alone(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a call whose result has the sizes of its first argument returns the values of that argument."""
        return False

    regroups: ClassVar[bool] = False
    """Whether the result has the elements of the first argument, in their order."""
    by_element: ClassVar[bool] = False
    """Whether an element of the result depends only on the elements of the operands at its position."""
    joins: ClassVar[bool] = False
    """Whether it joins tensors, and leaves out empty vectors beside tensors of other ranks."""

    def selects(self, target: Any, arguments: Mapping[str, Any]) -> tuple[int | None, bool] | None:
        """Return how many values along ``dim`` a call puts in order by size, and whether it takes the largest.

        ``None`` as the number means all of them. By default the result is ``None``: the call selects nothing by size.
        """
        return None

    def keeps_still(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a call is in evaluation mode, and would compute something else in training mode.

        The mode of a call with a share to drop (recurrent layers) is for that share alone.
        """
        return arguments.get("dropout") != 0 and any(arguments.get(mode) is False for mode in MODES)

    def found_nowhere(self, args: Sequence[Any]) -> list[Any]:
        """Return the positional arguments of a call, changed so that an operator which ``finds`` finds nothing."""
        return list(args)

    def conditions(self, args: Sequence[Any]) -> list[Any]:
        """Return the arguments of a call in a graph that say where an operator finds something."""
        return []

    def anywhere(self, target: Any) -> Any:
        """Return the overload that computes the same for any memory layout of its input; by default ``target``."""
        return target

    def empty_result(self, target: Any, args: Sequence[Any]) -> Any:
        """Return the result of a call on tensors without values, without asking torch; ``None`` if it is not known."""
        return None

    def sizes_of_results(self, target: Any, arguments: Mapping[str, Any]) -> list[Sequence[Any]] | None:
        """Return the sizes of the results of a call that decides by sizes what it returns; ``None``: torch says all.

        Sizes of the arguments may be symbols, and what is asked of them is noted. While torch's own code runs, only
        what has to be equal is noted.
        """
        return None

    def plainly(self, target: Any) -> Callable[..., Any] | None:
        """Return a function of the same arguments, by name, that computes it with everyday operators.

        By default ``None``: exporters know the operator.
        """
        return None

    def wide(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Return the result of a call in float64, where the kernel takes none; by default ``NotImplemented``."""
        return NotImplemented

    def unsaid(self, arguments: Mapping[str, Any]) -> str:
        """Return why a file cannot say a call, and what to do; by default nothing is in the way."""
        return ""

    def taken(self, target: Any, args: Sequence[Any]) -> tuple[int, torch.Tensor | None] | None:
        """Return the dimension and the indices, in order, that the result takes of the first argument.

        Indices of ``None`` mean all of them. By default the result is ``None``: the call does more than take indices.
        """
        return None


def like_input(target: Any, args: Sequence[Any]) -> torch.Tensor | None:
    """Return an empty result of the form of the first argument; ``None`` if its type is not floating-point."""
    x: torch.Tensor = args[0]
    if not x.is_floating_point():
        return None
    if target._schema.is_mutable:
        return x
    if not x.is_contiguous():
        return torch.empty_like(x)
    return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)  # no Python code of torch runs
