"""How long a program takes in onnxruntime on this machine, from measured times of its layers at many widths."""

from swdc.costs.latency.operator_kinds import Layer
from swdc.costs.latency.table import LatencyTable, MeasuredTable

__all__ = ["LatencyTable", "Layer", "MeasuredTable"]
