"""The statistics of a program's channels on data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from swdc.errors import PlanError
from swdc.ir.program import Program
from swdc.sparsity.calibration.points import numbers_of, positions

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Observed:
    """The squares of what a layer reads (or, where no layer reads them, of what layers return), channel by channel.

    ``value`` names the node in the graph and ``dim`` its dimension. ``mean_squares`` has one entry for each index along
    it: the mean over all samples and positions. ``rows`` is the number of these. ``weight`` and ``weight_dim`` name the
    tensor of the layer that has the same channels. ``ids`` are their labels.
    """

    node: str
    value: str
    dim: int
    weight: str
    weight_dim: int
    ids: npt.NDArray[np.int64] = field(repr=False)
    mean_squares: Floats = field(repr=False)
    rows: int


@dataclass(frozen=True)
class Calibration:
    """The statistics of a program's channels on data, as ``swdc.calibrate`` collects them.

    ``observed`` holds squares of activations. ``signed`` holds, by the name of a group, the mean over samples of
    ``|s|`` and of ``s squared``, shapes ``(width,)``, where s is the sum of gradient times activation over all places
    at which a channel is read. ``weighted`` holds, by the name of a group, the mean over batches of the sum of
    ``|g w|`` over all weights that write or read a channel. Both are empty without a loss. ``moments`` holds, by the
    name of a weight, the means of the products of two of its ``C`` inputs, and of an input and one, shape
    ``(C + 1, C + 1)``. ``influence`` holds, by the name of a residual branch, the mean of one less the cosine between
    the stream before and after the branch was added.
    """

    program_hash: str
    samples: int
    batches: int
    observed: tuple[Observed, ...] = field(repr=False)
    signed: Mapping[str, tuple[Floats, Floats]] = field(repr=False, default_factory=dict)
    weighted: Mapping[str, Floats] = field(repr=False, default_factory=dict)
    moments: Mapping[str, torch.Tensor] = field(repr=False, default_factory=dict)
    influence: Mapping[str, float] = field(repr=False, default_factory=dict)

    def check(self, program: Program) -> None:
        """Raise ``PlanError`` unless these are statistics of a program with the same graph."""
        if program.hash() != self.program_hash:
            raise PlanError(
                f"expected statistics of this program (graph hash {program.hash()[:12]}), got those of another "
                f"({self.program_hash[:12]}); run swdc.calibrate on the program that the plan is for"
            )

    def need_gradients(self, criterion: str) -> None:
        """Raise ``PlanError`` if no gradients were collected."""
        if not self.signed:
            raise PlanError(
                f"expected statistics with gradients for criterion={criterion!r}, got some without; give "
                f"swdc.calibrate a loss="
            )

    def places(self, program: Program, group: str) -> list[tuple[Observed, npt.NDArray[np.int64]]]:
        """Return where a group was observed, with the positions of its channels there, shape ``(width, times)``."""
        number = numbers_of(program)[group]
        found = [(each, positions(program, number, each.ids)) for each in self.observed]
        return [(each, where) for each, where in found if where is not None]
