"""Tells rounding from a difference: each element is judged at its own scale, and against the masked program's rounding.

A slice of a tensor holds all elements with one index along one dimension: one sample, one channel, one row of pixels.
The scale of an element is the smallest, over its slices, of the largest magnitude in a slice. So a large logit does not
hide wrong ones beside it, and a large sample does not hide another. An entry that is small by chance is judged by the
size of those around it.

The rounding error of the masked program is measured: its result in a narrow type is held against its result in float64.
Rounding errors are proportional to the unit of the type, so the same measurement, scaled by the ratio of the units,
says how much float64 rounds. If a whole slice is nothing but rounding (what remains of ``x - x``), a difference may
reach this measurement, whatever the magnitude. The largest of k rounding errors may be small by chance: it is less than
10 ** (-7 / k) of a typical one about once in 10 ** 7 times. So a slice of k elements is allowed 10 ** (7 / k) times as
much, and a slice of very few elements says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from swdc.ir.differences import widened
from swdc.rewriting.certificate import FACTOR

_LUCK = 7.0
"""Minus the decimal logarithm of the probability of an error that is small by chance."""
_FEW = 4
"""The fewest elements from which a rounding error is told: one or two may both be zero by chance."""
_INF = float("inf")


def wide_errors(
    masked: Sequence[torch.Tensor],
    slim: Sequence[torch.Tensor],
    narrow: Sequence[torch.Tensor] = (),
    unit: float = 1.0,
    outputs: int | None = None,
) -> list[torch.Tensor]:
    """Return for each result the errors of its elements in float64, which should be ``TOLERANCE`` at most.

    ``narrow`` are the masked program's results in types of the rounding unit ``unit``; without them nothing is known of
    its rounding. The results after the first ``outputs``, if that number is given, are gradients of one loss: all are
    then results of one step of training.

    - An error is relative to the scale of its element.
    - One that is no more than the masked program's rounding is relative to the largest element of its result, or of the
      whole step, because a batch norm of equal samples leaves nothing but rounding.
    - Of the gradients, one that is no more than ``FACTOR`` units of the largest of them is rounding, too.
    - Results of other shapes, and elements that are infinite or NaN in one program only, have infinite errors.
    """
    if not _have_same_shapes(masked, slim):
        return [torch.tensor(_INF)]
    noises = narrow if _have_same_shapes(masked, narrow) else masked
    ratio = FACTOR * torch.finfo(torch.float64).eps / unit
    wholes = [_size(tensor) for tensor in masked]
    alone = len(wholes) if outputs is None else outputs
    gradients = wholes[alone:]
    floor = FACTOR * torch.finfo(torch.float64).eps * max(gradients, default=0.0)
    least = [0.0] * alone + [floor] * len(gradients)
    if gradients:
        wholes = [max(wholes)] * len(wholes)
    rows = zip(masked, slim, noises, wholes, least, strict=True)
    return [_wide_error(a, b, narrow, ratio, whole, floor) for a, b, narrow, whole, floor in rows]


def _size(values: torch.Tensor) -> float:
    return float(_finite_or_zero(widened(values).abs()).max()) if values.numel() else 0.0


def _wide_error(
    masked: torch.Tensor, slim: torch.Tensor, narrow: torch.Tensor, ratio: float, whole: float, floor: float
) -> torch.Tensor:
    a, b = widened(masked), widened(slim)
    if a.numel() == 0:
        return a.real.new_zeros(())
    noise = _finite_or_zero((a - widened(narrow)).abs())
    rounding = _least(most * 10 ** (_LUCK / k) for k, most in _slices(noise)) * ratio
    scale = _least(most for _, most in _slices(_finite_or_zero(a.abs()), least=1))
    difference = (a - b).abs()
    scale = torch.where(difference <= rounding.clamp(min=floor), whole, scale)
    error = difference / torch.where(scale > 0, scale, 1.0)
    error = torch.where(a.isfinite() & b.isfinite(), error, _INF)
    return torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, error)


def own_errors(
    wide: Sequence[torch.Tensor], masked: Sequence[torch.Tensor], slim: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    """Return for each result the errors of the slim program in its own types, which should be ``FACTOR`` at most.

    Errors are distances to ``wide``, the masked program's results in float64, in units of the masked program's rounding
    error, or of the rounding of the results themselves if that is more. Where the masked program leaves the range of
    its types, nothing is asked of the slim one.
    """
    if not _have_same_shapes(wide, masked, slim):
        return [torch.tensor(_INF)]
    return [_own_error(w, m, s) for w, m, s in zip(wide, masked, slim, strict=True)]


def _own_error(wide: torch.Tensor, masked: torch.Tensor, slim: torch.Tensor) -> torch.Tensor:
    w, m, s = widened(wide), widened(masked), widened(slim)
    if w.numel() == 0:
        return w.real.new_zeros(())
    noise, size = _finite_or_zero((w - m).abs()), _finite_or_zero(w.abs()) * unit_of(masked.dtype)
    pairs = zip(_slices(noise), _slices(size), strict=True)
    allowed = _least(torch.maximum(rounding, least) * 10 ** (_LUCK / k) for (k, rounding), (_, least) in pairs)
    error = (w - s).abs() / torch.where(allowed > 0, allowed, torch.finfo(torch.float64).tiny)
    error = torch.where(s.isfinite(), error, _INF)
    return torch.where((s == w) | (w.isfinite() & m.isfinite()).logical_not(), 0.0, error)


def runtime_errors(
    wide: Sequence[torch.Tensor], own: Sequence[torch.Tensor], other: Sequence[torch.Tensor], factor: float
) -> list[torch.Tensor]:
    """Return the errors of another runtime's results, each relative to the scale of its element.

    An error is zero if it is no more than ``factor`` rounding errors of the program itself: the distance of its results
    in its own types to those in float64 (``wide``). A slice of very few elements has no scale of its own.
    """
    if not _have_same_shapes(wide, own, other):
        return [torch.tensor(_INF)]
    units = own_errors(wide, own, other)
    return [_runtime_error(w, o, u <= factor) for w, o, u in zip(wide, other, units, strict=True)]


def _runtime_error(wide: torch.Tensor, other: torch.Tensor, rounding: torch.Tensor) -> torch.Tensor:
    w, o = widened(wide), widened(other)
    if w.numel() == 0:
        return w.real.new_zeros(())
    scale = _least(most for _, most in _slices(_finite_or_zero(w.abs())))
    error = (w - o).abs() / torch.where(scale > 0, scale, 1.0)
    return torch.where(rounding, 0.0, torch.where(error.isfinite(), error, _INF))


def farthest(
    wide: Sequence[torch.Tensor], narrow: Sequence[torch.Tensor], draws: Sequence[Sequence[torch.Tensor]]
) -> list[torch.Tensor]:
    """Return results whose distance to ``wide`` is the largest of those of ``narrow`` and of all ``draws``.

    If shapes depend on rounding, and those of ``narrow`` are others, ``narrow`` itself is returned.
    """
    if not _have_same_shapes(wide, narrow):
        return list(narrow)
    found = []
    for number, (w, n) in enumerate(zip(wide, narrow, strict=True)):
        same = [widened(draw[number]) for draw in draws if len(draw) == len(wide) and draw[number].shape == w.shape]
        distances = torch.stack(
            [_finite_or_zero((widened(w) - each).abs()) for each in same] + [(widened(w) - widened(n)).abs()]
        )
        found.append((widened(w) + distances.amax(0)).to(n.dtype if unit_of(n.dtype) else torch.float64))
    return found


def lost_digits(wide: Sequence[torch.Tensor], narrow: Sequence[torch.Tensor]) -> float:
    """Return the largest rounding error of a program, relative to the largest magnitude of each result.

    It is infinite if rounding changes the shapes of results.
    """
    if not _have_same_shapes(wide, narrow):
        return _INF
    worst = 0.0
    for a, b in zip(wide, narrow, strict=True):
        if size := _size(a):
            worst = max(worst, _size(widened(a) - widened(b)) / size)
    return worst


def largest(errors: Sequence[torch.Tensor]) -> float:
    """Return the largest of all errors; 0 if there is none."""
    return max((float(error.max()) for error in errors if error.numel()), default=0.0)


def _have_same_shapes(first: Sequence[torch.Tensor], *others: Sequence[torch.Tensor]) -> bool:
    return all([t.shape for t in other] == [t.shape for t in first] for other in others)


def unit_of(dtype: torch.dtype) -> float:
    """Return the rounding unit of a type; 0 for whole numbers."""
    return torch.finfo(dtype).eps if dtype.is_floating_point or dtype.is_complex else 0.0


def _finite_or_zero(values: torch.Tensor) -> torch.Tensor:
    return torch.where(values.isfinite(), values, 0.0)


def _slices(values: torch.Tensor, least: int = _FEW) -> Iterator[tuple[int, torch.Tensor]]:
    """Yield the size of a slice, and the largest value in each element's slice, along each dimension and of the whole.

    Slices of fewer than ``least`` elements are left out.
    """
    for dim in range(values.dim()):
        others = [d for d in range(values.dim()) if d != dim]
        size = values.numel() // values.shape[dim]
        if size >= least:
            yield size, values.amax(others, keepdim=True) if others else values
    yield values.numel(), values.max()


def _least(values: Iterator[torch.Tensor]) -> torch.Tensor:
    found = next(values)
    for value in values:
        found = torch.minimum(found, value)
    return found
