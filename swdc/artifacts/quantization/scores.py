"""How good a quantised file is: the caller's metric, or how far it agrees with the float file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from swdc.artifacts.onnx.runtime import Array, feed, open_session, run_session
from swdc.errors import ExportError, told_as

Metric = Callable[[Callable[[Any], list[Array]]], float]
"""Takes a function that runs a file on inputs, as ``swdc.run_onnx`` does, and returns a number: larger is better."""


@dataclass(frozen=True)
class Scores:
    """Scores files; without a ``metric`` the score is the agreement with the float file on some inputs."""

    metric: Metric | None
    feeds: Sequence[Mapping[str, Array]]
    expected: Sequence[list[Array]]

    @classmethod
    def beside(cls, file: Path, metric: Metric | None, feeds: Sequence[Mapping[str, Array]]) -> Scores:
        """Return what scores files beside a float file; ``ExportError`` if that does not run on all inputs."""
        session = open_session(file)
        return cls(metric, feeds, [run_session(session, dict(arrays)) for arrays in feeds])

    def of(self, file: Path) -> float:
        """Return the score of a file. Raises ``ExportError`` if the metric fails, or returns no number."""
        session = open_session(file)
        if self.metric is None:
            return self._agreement(session)
        with told_as(ExportError, "a metric that takes a function and returns a number", "try it on the float file"):
            score = float(self.metric(partial(_run, session)))
        if not np.isfinite(score):
            raise ExportError(f"expected a metric that returns a finite number, got {score}; larger has to be better")
        return score

    def _agreement(self, session: onnxruntime.InferenceSession) -> float:
        got = [run_session(session, dict(arrays)) for arrays in self.feeds]
        pairs = list(zip(self.expected, got, strict=True))
        if all(one[0].ndim == 2 and one[0].shape[1] > 1 and one[0].dtype.kind == "f" for one, _ in pairs):
            return float(np.mean(np.concatenate([one[0].argmax(1) == other[0].argmax(1) for one, other in pairs])))
        wrong = sum(_squares(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))
        whole = sum(_squares(a) for one, _ in pairs for a in one)
        return 1.0 - float(np.sqrt(wrong / whole if whole else wrong))


def _run(session: onnxruntime.InferenceSession, inputs: Any) -> list[Array]:
    return run_session(session, feed(session, inputs))


def _squares(array: Array) -> float:
    return float(np.square(array.astype(np.float64)).sum())
