"""Solving layers again after a removal, so that they compute from the kept channels what they computed from all.

A layer ``y = W x + b`` reads the channels x, of which those in K are kept. With the second moments ``M`` of ``(x, 1)``
on data, the weights that come nearest to y in the mean square are

    (W', b') = (W, b) M[:, K] (M[K, K] + ridge)^-1

The change from the slim layer's own weights is solved for, so that a ridge holds back changes and not weights. The
ridge is the smallest of a few for which the matrix can be factorised in float64 without rounding deciding.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from swdc.capture.restore import buffers_kept
from swdc.channels.kept import Kept
from swdc.errors import PlanError
from swdc.ir.argument_types import checked
from swdc.ir.call import Ref
from swdc.ir.differences import relative_error
from swdc.ir.module_tensors import modes_kept, need_values
from swdc.ir.program import Program
from swdc.ir.random_inputs import sample_inputs
from swdc.ops.affine_rows import AffineRows
from swdc.rewriting.cutting import kept_by_plan
from swdc.sparsity.calibration.batch_norms import estimate_norms_
from swdc.sparsity.calibration.moments import solvable
from swdc.sparsity.calibration.statistics import Calibration

_RIDGES = (0.0, *(10.0**power for power in range(-10, 1)))
"""What is added to the diagonal, relative to its mean; less would not stand out from the rounding of the moments."""
_SINGULAR = 1e-11
_REFINEMENTS = 2
_BATCH, _SEED = 4, 0


@checked(PlanError, on_cpu=True)
def refit(
    slim: Program,
    masked: Program,
    statistics: Calibration,
    batches: Any = None,
    inputs: Callable[..., Any] | None = None,
    progress: bool = True,
) -> Program:
    """Return the slim program with layers solved again by least squares: **another function**, nearer to the dense one.

    ``statistics`` are those of ``swdc.calibrate(dense, ..., moments=True)``. Each layer that lost channels which it
    reads is solved for what it computed in the dense program: its weight, and its bias if it has one. Layers without
    moments, and those that share a weight, stay as they are. With ``batches``, as ``swdc.calibrate`` takes them, the
    statistics of batch norms are estimated anew afterwards, by forward passes: the mean over all batches.

    By how much the output changes, relative to its largest magnitude, is the last of ``program.facts.notes``: on the
    first of the batches, or on random inputs. The certificate of the slim program does not hold for the result, which
    shares no tensor with it.

    Raises ``PlanError`` if the programs are not those of one plan, if the statistics are of another program or hold no
    moments, or if there are no batches in ``batches``.

    Example::

        with_products = swdc.calibrate(program, batches, moments=True)
        solved = swdc.refit(slim, masked, with_products)
    """
    need_values(slim, PlanError, "solving layers again")
    need_values(masked, PlanError, "solving layers again")
    _check(slim, masked, statistics)
    if batches is None and inputs is not None:
        raise PlanError("expected inputs together with batches, got inputs alone; give batches=, or leave inputs out")
    kept = kept_by_plan(masked)
    origin, dense = slim.facts.origin, masked.facts.origin.dense  # type: ignore[union-attr]
    assert origin is not None
    assert isinstance(dense, Program)  # a mask may set weights that read to zero, too
    result = slim.clone().with_facts(origin=replace(origin, folded={}))
    was, now, before = solvable(dense), solvable(result), result.tensors
    with torch.no_grad():
        solved = [
            name for name, moments in statistics.moments.items()
            if name in was and name in now and _solve(was[name], now[name], dense, before, kept, moments)
        ]  # fmt: skip
    first = None if batches is None else estimate_norms_(result, batches, inputs, progress)
    note = f"{len(solved)} layers were solved again, which changes the output by {_effect(slim, result, first):.2e}"
    return result.with_facts(notes=(*result.facts.notes, f"{note}, relative to its largest magnitude"))


def _check(slim: Program, masked: Program, statistics: Calibration) -> None:
    one, other = slim.facts.origin, masked.facts.origin
    if one is None or other is None or one.plan != other.plan or one.dense is not None or other.dense is None:
        raise PlanError(
            "expected the slim and the masked program of one plan, got others; give swdc.slim(program, plan) and "
            "swdc.mask(program, plan)"
        )
    statistics.check(masked)
    if not statistics.moments:
        raise PlanError("expected statistics with second moments, got some without; give swdc.calibrate moments=True")


def _solve(
    was: AffineRows,
    now: AffineRows,
    dense: Program,
    tensors: dict[str, torch.Tensor],
    kept: Kept,
    moments: torch.Tensor,
) -> bool:
    """Solve a layer of the slim program, whose tensors are given; return whether it has lost what it reads."""
    weight = dense.tensors[was.weight]
    columns = kept.indices(Ref(was.weight), was.input_dim)
    if columns is None or len(columns) == weight.shape[was.input_dim]:
        return False
    rows = kept.indices(Ref(was.weight), 1 - was.input_dim)
    matrix = was.matrix(weight).detach().double().cpu()
    times = matrix.shape[1] // weight.shape[was.input_dim]
    chosen = torch.from_numpy((columns[:, None] * times + np.arange(times)).ravel())
    bias = torch.zeros(len(matrix), 1, dtype=torch.float64)
    if was.bias is not None:
        bias = dense.tensors[was.bias].detach().double().cpu().reshape(-1, 1)
    whole = torch.cat([matrix, bias], 1)
    if rows is not None:
        whole = whole[torch.from_numpy(rows)]
    own = now.matrix(tensors[now.weight]).detach().double().cpu()
    if now.bias is not None:
        chosen = torch.cat([chosen, torch.tensor([matrix.shape[1]])])
        own = torch.cat([own, tensors[now.bias].detach().double().cpu().reshape(-1, 1)], 1)
    left = moments[chosen][:, chosen]
    solved = own + _solution(left, whole @ moments[:, chosen] - own @ left)
    if now.bias is not None:
        tensors[now.bias].copy_(solved[:, -1])
        solved = solved[:, :-1]
    tensors[now.weight].copy_(now.stored(solved, tensors[now.weight].shape))
    return True


def _solution(matrix: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return X with ``X matrix = right``, with the smallest ridge that lets the matrix be factorised."""
    scale = matrix.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    identity = torch.eye(len(matrix), dtype=torch.float64)
    for ridge in _RIDGES:
        factor, failed = torch.linalg.cholesky_ex(matrix + ridge * scale * identity)
        if int(failed) or not bool(factor.isfinite().all()) or _is_singular(factor, matrix):
            continue
        found = torch.cholesky_solve(right.T, factor).T
        for _ in range(_REFINEMENTS):  # takes the ridge back in the directions that the data determine
            found = found + torch.cholesky_solve((right - found @ matrix).T, factor).T
        return found
    return torch.zeros_like(right)  # the moments are not finite: the layer stays


def _is_singular(factor: torch.Tensor, matrix: torch.Tensor) -> bool:
    """Whether rounding decides over a direction of a factorised matrix."""
    return bool(factor.diagonal().min() ** 2 < _SINGULAR * matrix.diagonal().max())


def _effect(before: Program, after: Program, arguments: Any) -> float:
    """Return by how much the output changes, relative to its largest magnitude."""
    if arguments is None:
        arguments = sample_inputs(before, _BATCH, _SEED, None)
    args, kwargs = arguments
    outputs = []
    for program in (before, after):
        with modes_kept(program), buffers_kept(program), torch.no_grad():
            outputs.append(program.eval()(*args, **kwargs))
    return relative_error(*outputs)
