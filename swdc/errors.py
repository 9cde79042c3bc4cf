"""Every error that swdc raises on purpose, and how messages quote other errors.

Messages read: what was expected, what came, what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager


class SwdcError(Exception):
    """Base of all errors raised by swdc."""


class TraceError(SwdcError):
    """A model could not be captured, or example inputs do not fit it.

    ``attempts`` names the ways of capture that were tried, in order, each with why it could not.
    """

    attempts: tuple[tuple[str, str], ...] = ()


class InputError(SwdcError):
    """A program was called, compared or exported with inputs that do not fit its signature."""


class UnmetError(InputError, RuntimeError):
    """A program was called with values for which the model does something else, which a check in the program found.

    It is a ``RuntimeError``, too, as every error of a check in torch.
    """


class PassError(SwdcError):
    """A pass is unknown, its requirement is not met, or it broke the program."""


class PlanError(SwdcError):
    """A plan cannot be made, or does not belong to the program it is used with."""


class RuleError(SwdcError):
    """The rule of an operator, which ``swdc.register`` has added, does not describe what the operator does."""


class VerificationError(SwdcError):
    """Two programs that should compute the same function could not be compared."""


class TransplantError(SwdcError):
    """The user's own class cannot be made to compute what a slim program computes."""


class ExportError(SwdcError):
    """A file (ONNX, torch.export, a page) could not be made, or does not compute what the program computes."""


class ArtifactError(SwdcError):
    """A saved program is incomplete, altered, or of an unknown format."""


class CommandError(SwdcError):
    """The command line was given something that it cannot use."""


class PackageError(SwdcError, ImportError):
    """A package is missing; an extra of swdc installs it."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(f"expected {package} to be installed; install it with pip install 'swdc[{extra}]'")


@contextmanager
def told_as(kind: type[SwdcError], expected: str, advice: str) -> Iterator[None]:
    """Let errors of swdc pass; turn any other into one of ``kind``, which names it, and whose cause it is."""
    try:
        yield
    except SwdcError:
        raise
    except Exception as error:  # models, kernels and functions of the caller's raise errors of many kinds
        raise kind(f"expected {expected}, which fails with {brief(error)}; {advice}") from error


def brief(error: BaseException) -> str:
    """Return the type of an error and the first line of its message."""
    lines = portable(str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:400]}" if lines else type(error).__name__


def portable(text: str) -> str:
    """Return a text in which paths of installed packages start at the name of the package."""
    return re.sub(r"\S*/site-packages/", "", text)
