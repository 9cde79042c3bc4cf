"""What users are told of a program that is not the model in every way."""

from __future__ import annotations

STATEFUL = (
    "the model computes something else when it is called again, because its code keeps something between calls; the "
    "program computes what the first call computes"
)
GRADIENTS = (
    "the model computes something else with gradients switched on; the program computes what the model computes "
    "without them"
)
COUNTS = "the model changes {} in every call; if its code reads that, the program computes what the first call computes"
OVERWRITES = "the model changes its inputs; the program leaves them as they are"
TOGETHER = (
    "the model computes something else where inputs share memory, as in the example; the program computes what the "
    "model computes for inputs of the same values that share none"
)
TWICE = (
    "the model computes something else if it is given one tensor twice than for two of the same values; the program "
    "computes what it computes for two"
)
FUSED = (
    "the model computes something else on the fused path of torch.nn, which it takes in evaluation without gradients; "
    "the program computes what it computes without (torch.backends.mha.set_fastpath_enabled(False))"
)
IN_TRAINING = "in training"
"""What every note says that tells what is different in training."""
