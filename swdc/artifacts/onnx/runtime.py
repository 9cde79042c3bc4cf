"""Running ONNX files in onnxruntime, on the CPU."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from torch.utils import _pytree as pytree

from swdc.costs.clock import medians_ms
from swdc.errors import ExportError, told_as
from swdc.ir.argument_types import checked

Array = npt.NDArray[Any]
_MOST_THREADS = 1024
_STOP_SPINNING = "session.force_spinning_stop"
"""Stops waiting threads from spinning between runs, where they would take the cores from other sessions."""


@checked(ExportError)
def run_onnx(path: str | os.PathLike[str], program_inputs: Any) -> list[Array]:
    """Run an ONNX file in onnxruntime on the CPU, and return its outputs in order.

    ``program_inputs`` is a tensor, a tuple of arguments, a dict of keyword arguments by name, or the pair of
    positional and keyword arguments that ``sample_inputs`` returns, in the order of the example. Raises
    ``ExportError`` if they do not fit the file.
    """
    session = open_session(path)
    return run_session(session, feed(session, program_inputs))


@checked(ExportError)
def latency_ms(path: str | os.PathLike[str], inputs: Any, runs: int = 30, threads: int = 1) -> float:
    """Return the median time of a run in onnxruntime on the CPU, in milliseconds, after a warm-up.

    ``inputs`` are as in ``run_onnx``. Raises ``ExportError`` if they do not fit the file.
    """
    return latencies_ms([path], inputs, runs, threads)[0]


@checked(ExportError)
def latencies_ms(paths: Sequence[str | os.PathLike[str]], inputs: Any, runs: int = 30, threads: int = 1) -> list[float]:
    """Return the latency (as in ``latency_ms``, in milliseconds) of each of several files, which run in turn."""
    if not paths:
        raise ExportError("expected at least one ONNX file to run, got none; export one with swdc.export_onnx")
    if runs < 1:
        raise ExportError(f"expected at least 1 run, got {runs}; give a positive number")
    if not 0 <= threads <= _MOST_THREADS:
        raise ExportError(f"expected at most {_MOST_THREADS} threads, or 0 for all cores, got {threads}")
    sessions = [open_session(path, threads) for path in paths]
    return medians_ms([partial(run_session, session, feed(session, inputs)) for session in sessions], runs)


def open_session(
    path: str | os.PathLike[str], threads: int = 0, profile: str | os.PathLike[str] | None = None
) -> onnxruntime.InferenceSession:
    """Return a session on the CPU; ``threads=0`` uses all cores. Raises ``ExportError`` if the file is not ONNX.

    With ``profile`` the session writes the time of each node to a file whose name begins with ``profile``;
    ``session.end_profiling()`` returns the whole name.
    """
    if not os.path.isfile(path):  # unlike Path.is_file, it takes names that are too long
        raise ExportError(f"expected an ONNX file, got no file at {path}; export one with swdc.export_onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry(_STOP_SPINNING, "1")
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common class of errors
        raise ExportError(
            f"expected a file that onnxruntime can load, but {path} is not: {error}; export it again"
        ) from error


def feed(session: onnxruntime.InferenceSession, inputs: Any) -> dict[str, Array]:
    """Return inputs (as in ``run_onnx``) by the names that a session has for them."""
    names = [i.name for i in session.get_inputs()]
    if isinstance(inputs, dict) and set(names) <= set(inputs):
        inputs = [inputs[name] for name in names]
    tensors = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, torch.Tensor | np.ndarray)]
    if len(tensors) != len(names):
        raise ExportError(
            f"expected {len(names)} tensors ({', '.join(names)}) for the ONNX file, got {len(tensors)}; "
            f"give what the program takes"
        )
    with told_as(ExportError, "a dense tensor with values for the ONNX file, got one", "give what the program takes"):
        arrays = [t.detach().cpu().numpy() if isinstance(t, torch.Tensor) else t for t in tensors]
    return dict(zip(names, arrays, strict=True))


def run_session(session: onnxruntime.InferenceSession, arrays: dict[str, Array]) -> list[Array]:
    """Return the outputs of a session in order. Raises ``ExportError`` if the inputs do not fit the file."""
    try:
        outputs: list[Array] = session.run(None, arrays)
    except Exception as error:  # onnxruntime has no common class of errors
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ExportError(
            f"expected inputs that onnxruntime can run the file on, got {shapes}, on which it fails: "
            f"{error}; give shapes and dtypes as the program takes them"
        ) from error
    return outputs
