"""Comparing files with the program that they should compute, at several batches and at other sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from swdc.errors import ExportError, told_as
from swdc.ir.differences import flat_outputs, relative_error
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from swdc.rewriting.cases import sizes_besides

SEEDS = (1, 2)
Run: TypeAlias = Callable[[Any], list[torch.Tensor]]
"""Runs a file on the pair of positional and keyword arguments of the program; returns its tensors in order."""


class OtherSizesError(ExportError):
    """A file that is right at the sizes of the example, and not at others."""


class RefusedSizesError(OtherSizesError):
    """A file that is right at the sizes of the example, and does not run at others."""


@dataclass(frozen=True)
class _Case:
    """Random inputs: their batch (1 if there is none), seed, and sizes other than those of the example."""

    batch: int
    seed: int
    sizes: Mapping[str, int]

    def told(self, batched: bool) -> str:
        """Return what an error says of the case."""
        where = f"at batch {self.batch}" if batched else f"on inputs as the example (seed {self.seed})"
        return ", ".join([where, *(f"{name} {size}" for name, size in self.sizes.items())])


class Comparison:
    """Compares files with the program that they should compute.

    ``runtime`` is what runs them, and ``dtype`` the type of fractional numbers in it (``None``: the program's own).
    """

    def __init__(
        self,
        program: Program,
        batches: Sequence[int],
        tolerance: float,
        runtime: str = "onnxruntime",
        dtype: torch.dtype | None = torch.float32,
    ) -> None:
        self.program, self.tolerance, self.runtime, self.dtype = program, tolerance, runtime, dtype
        self.batched = program.facts.batch is not None
        near = program.facts.nearest_batch
        self.batches = tuple(dict.fromkeys(near(int(batch)) for batch in batches)) if self.batched else ()

    def error(self, run: Run, everywhere: bool, larger: bool = False) -> float:
        """Return the largest relative error of a file; ``everywhere`` asks for other sizes than the example's, too.

        These are smaller, or ``larger``, of which there have to be some. Raises ``ExportError`` if the error is larger
        than the tolerance, or if the runtime fails.
        """
        return max(self._error_of(case, run) for case in self._cases(everywhere, larger))

    def _cases(self, everywhere: bool, larger: bool) -> Iterator[_Case]:
        pairs = [(batch, batch) for batch in self.batches] or [(1, seed) for seed in SEEDS]
        yield from (_Case(batch, seed, {}) for batch, seed in pairs)
        batch, seed = min(pairs)
        sizes = sizes_besides(self.program, self.program, [batch], seed, None, larger) if everywhere else {}
        if sizes:
            yield _Case(batch, seed, sizes)
        elif larger:
            raise OtherSizesError("expected other sizes to run the file at, but there are none near the example's")

    def _error_of(self, case: _Case, run: Run) -> float:
        where = case.told(self.batched)
        with torch.no_grad(), told_as(ExportError, f"a program that runs {where}, got one", "give smaller batches"):
            given = sample_inputs(self.program, case.batch, case.seed, self.dtype, sizes=case.sizes)
            args, kwargs = given
            expected = [t.cpu() for t in flat_outputs(self.program.clone()(*args, **kwargs))]
        try:
            got = run(given)
        except ExportError as error:
            raise (RefusedSizesError if case.sizes else ExportError)(str(error)) from error
        difference = relative_error(expected, got)
        if not difference <= self.tolerance:
            raise (OtherSizesError if case.sizes else ExportError)(
                f"expected outputs within a relative error of {self.tolerance:.1e} in {self.runtime}, got "
                f"{difference:.1e} {where}; raise the tolerance if that is rounding; no file was written"
            )
        return difference
