"""What a transplanted model computes on the example inputs, in float64, to be compared elsewhere."""

from __future__ import annotations

import torch
from torch import nn

from swdc.artifacts.transplanting.call_hooks import copied
from swdc.artifacts.transplanting.float64 import Tensors, in_float64, wide_inputs, widened
from swdc.capture.restore import buffers_kept, restored
from swdc.ir.differences import flat_outputs
from swdc.ir.handed_state import results_of
from swdc.ir.module_tensors import modes_kept
from swdc.ir.program import Program


def outputs_of(model: nn.Module, program: Program) -> list[torch.Tensor]:
    """Return the tensors that a model returns for the example inputs of a program, in float64 and in evaluation."""
    args, kwargs = wide_inputs(copied(program.facts.example))
    wide = Tensors()
    wide.widen(model)
    try:
        with restored(model), modes_kept(model), in_float64(), buffers_kept(model):
            return [widened(t.detach().clone()) for t in flat_outputs(results_of(model.eval(), args, kwargs))]
    finally:
        wide.restore(model)
