"""The base of all passes: frozen dataclasses with options that take a program and return one."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from typing import Any, ClassVar

import torch

from swdc.errors import PassError
from swdc.ir.program import Program

ENTRY_POINTS = "swdc.passes"


@dataclass(frozen=True)
class PassResult:
    """The result of a pass: a program, and whether it differs from the given one.

    ``exact`` holds by name the tensors that the pass computed, in float64, before they were rounded to the type of the
    weights.
    """

    program: Program
    modified: bool
    exact: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Pass(ABC):
    """Base of all passes. Subclasses are frozen dataclasses; their fields are the pass's options.

    ``requires`` and ``ensures`` raise ``PassError`` if their condition does not hold. ``apply`` never changes
    the program that it is given; an analysis returns the same program with ``modified=False``.
    """

    after: ClassVar[tuple[str, ...]] = ()
    """Names of passes that must come before this one if both are in a pipeline."""

    @classmethod
    def name(cls) -> str:
        """Return the kebab-case name, derived from the class name."""
        return re.sub(r"(?<!^)(?=[A-Z])", "-", cls.__name__).lower()

    def requires(self, program: Program) -> None:  # noqa: B027 - most passes take any valid program
        """Raise ``PassError`` if the pass cannot be applied to ``program``."""

    @abstractmethod
    def apply(self, program: Program) -> PassResult:
        """Return the rewritten program."""

    def ensures(self, program: Program) -> None:  # noqa: B027 - most passes promise no more than a valid program
        """Raise ``PassError`` if the result is not what the pass promises."""


@cache
def _registered() -> dict[str, Any]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}


def pass_names() -> list[str]:
    """Return the names of all installed passes.

    Example::

        assert "mask-channels" in swdc.pass_names()
    """
    return sorted(_registered())


@cache
def find_pass(name: str) -> type[Pass]:
    """Return the class of the installed pass called ``name`` (``PassError`` if there is none)."""
    if name not in _registered():
        raise PassError(
            f"expected one of the installed passes {pass_names()}, got {name!r}; install the package that "
            f"provides it under the entry-point group {ENTRY_POINTS!r} (swdc itself must be installed, too)"
        )
    cls: type[Pass] = _registered()[name].load()
    if cls.name() != name:
        raise PassError(f"the pass registered as {name!r} calls itself {cls.name()!r}; make both agree")
    return cls
