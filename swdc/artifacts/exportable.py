"""What every export asks of its arguments before anything is written."""

from __future__ import annotations

import math
from collections.abc import Sequence

from swdc.errors import ExportError
from swdc.ir.module_tensors import need_values
from swdc.ir.program import Program
from swdc.rewriting.certificate import Certificate, check_certificate


def check_exportable(
    program: Program, batches: Sequence[int], tolerance: float | None, certificate: Certificate | None, tools: str
) -> None:
    """Raise ``ExportError`` if a program cannot be a file, its certificate is another's, or numbers are out of range.

    ``tools`` are those that export the model which ``swdc.transplant`` returns for a program that has no file.
    """
    if program.facts.example_only:
        raise ExportError(
            f"expected a program for inputs of any value, got one recorded on its example inputs; export the model "
            f"that swdc.transplant returns, with {tools}"
        )
    need_values(program, ExportError, "an export")
    check_certificate(program, certificate, ExportError)
    if not batches or min(batches) < 1:
        raise ExportError(f"expected positive batch sizes to run the file at, got {list(batches)}; give at least one")
    if tolerance is not None and not 0 < tolerance < math.inf:
        raise ExportError(f"expected a tolerance that is positive and finite, got {tolerance}; leave it out")
