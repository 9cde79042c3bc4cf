"""How long a program takes in onnxruntime on this machine, from measured times of its layers at many widths."""

from swdc.costs.latency.table import LatencyTable, MeasuredTable

__all__ = ["LatencyTable", "MeasuredTable"]
