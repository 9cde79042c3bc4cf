"""Imported once before many networks are measured, each in a process forked from here: what all of them need is ready.

What capture, surgery and the exporter import at their first use costs seconds, and would be charged to every network.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import warnings

import torch
from torch import nn

from swdc import mask, plan, slim, trace


def _exercise() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()
    example = torch.randn(2, 3, 4, 4)
    program = trace(model, example)
    half = plan(program, 0.5, scope="group")
    mask(program, half)
    torch.onnx.export(slim(program, half), (example,), dynamo=True, verbose=False)
    with contextlib.suppress(ImportError):
        peer = importlib.import_module("torch_pruning")
        peer.pruner.MagnitudePruner(model, example, importance=peer.importance.MagnitudeImportance(p=2)).step()


with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # in the process that measurements are forked from, which does nothing else
    with contextlib.suppress(Exception):  # what fails here fails again, and is told, where it matters
        _exercise()
gc.collect()
gc.freeze()
