"""The caller's metric: a function of a program that returns a number, higher if better."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from swdc.capture.restore import buffers_kept
from swdc.errors import PlanError, told_as
from swdc.ir.argument_types import shown
from swdc.ir.module_tensors import cuda_devices, modes_kept
from swdc.ir.seeding import seed_all

Metric = Callable[..., Any]


def measured(metric: Metric, program: nn.Module, seed: int) -> float:
    """Return the metric of a program in evaluation, without gradients, torch's random state seeded; all is put back.

    Raises ``PlanError`` if the metric fails, or returns anything but a number.
    """
    with torch.random.fork_rng(cuda_devices(program)), modes_kept(program), buffers_kept(program), torch.no_grad():
        seed_all(seed)
        with told_as(PlanError, "metric as a function of a program", "return one number, higher if better"):
            number = metric(program.eval())
            if isinstance(number, str | bytes | bytearray):
                raise TypeError(f"text is returned, {shown(number)}")
            found = float(number)
    if math.isnan(found):
        raise PlanError("expected a metric that is a number, got NaN; look at the data that it is measured on")
    return found
