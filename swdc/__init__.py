"""swdc: a model-surgery compiler for PyTorch in which pruning is dead-code elimination."""

import sys
from importlib import import_module
from types import ModuleType

from swdc.artifacts.compression.compress import compress
from swdc.artifacts.compression.result import Compression
from swdc.artifacts.folder.load_into import load_into
from swdc.artifacts.folder.save import load, save
from swdc.artifacts.onnx.export import OnnxReport, export_onnx
from swdc.artifacts.pretrained.save import save_pretrained
from swdc.artifacts.quantization.quantize import QuantizationReport, quantize_onnx
from swdc.artifacts.report.report import report
from swdc.artifacts.storage.checkpoint_reader import Checkpoint
from swdc.artifacts.streaming.skeleton import trace_skeleton
from swdc.artifacts.streaming.slim_checkpoint import slim_checkpoint
from swdc.artifacts.torch_export.export import ExportReport, export
from swdc.artifacts.transplanting import transplant
from swdc.capture.captured_graph import Captured
from swdc.capture.trace import trace
from swdc.capture.way import CannotCapture, Subject, Way
from swdc.capture.ways import register_way
from swdc.channels.kept import Kept
from swdc.channels.labels import Channels
from swdc.costs.count import Count, count
from swdc.costs.latency import LatencyTable, Layer, MeasuredTable
from swdc.errors import SwdcError
from swdc.ir.call import Call, Ref
from swdc.ir.groups import ChannelGroup
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ops import Cost, Leaf, Operator, calls, register
from swdc.rewriting.certificate import Certificate
from swdc.rewriting.deploy import deploy
from swdc.rewriting.pass_base import Pass, PassResult, pass_names
from swdc.rewriting.pipeline import apply as apply_pass
from swdc.rewriting.rebuild import revise
from swdc.rewriting.rewrites import insert_batchnorm, mask, relax_norms, slim
from swdc.rewriting.verify import verify
from swdc.sparsity.calibration.calibrate import calibrate
from swdc.sparsity.calibration.refit import refit
from swdc.sparsity.calibration.statistics import Calibration
from swdc.sparsity.method import Method
from swdc.sparsity.penalties.norms import Norm
from swdc.sparsity.planning.dimensions import Dimensions
from swdc.sparsity.planning.metric_of_blocks import fall_of_metric
from swdc.sparsity.planning.plan import plan
from swdc.sparsity.planning.sensitivity import Sensitivity, sensitivity
from swdc.sparsity.recovery.recover import recover
from swdc.sparsity.slim_optimizer import slim_optimizer
from swdc.sparsity.swd import SWD
from swdc.sparsity.targets import Target, targets_of

__version__ = "0.1.0"

_FORMER = {"plan": "ir.plan", "artifact": "artifacts.folder.save", "latency.cache": "costs.latency.cache"}
"""Modules that scripts import by names from before the rooms, such as ``from swdc.plan import Plan``."""
sys.modules["swdc.latency"] = ModuleType("swdc.latency")  # a parent for its cache; no package, or modules load twice
sys.modules.update({f"swdc.{name}": import_module(f"swdc.{module}") for name, module in _FORMER.items()})

__all__ = [
    "SWD",
    "Calibration",
    "Call",
    "CannotCapture",
    "Captured",
    "Certificate",
    "ChannelGroup",
    "Channels",
    "Checkpoint",
    "Compression",
    "Cost",
    "Count",
    "Dimensions",
    "ExportReport",
    "Kept",
    "LatencyTable",
    "Layer",
    "Leaf",
    "MeasuredTable",
    "Method",
    "Norm",
    "OnnxReport",
    "Operator",
    "Pass",
    "PassResult",
    "Plan",
    "Program",
    "QuantizationReport",
    "Ref",
    "Sensitivity",
    "Subject",
    "SwdcError",
    "Target",
    "Way",
    "apply_pass",
    "calibrate",
    "calls",
    "compress",
    "count",
    "deploy",
    "export",
    "export_onnx",
    "fall_of_metric",
    "insert_batchnorm",
    "load",
    "load_into",
    "mask",
    "pass_names",
    "plan",
    "quantize_onnx",
    "recover",
    "refit",
    "register",
    "register_way",
    "relax_norms",
    "report",
    "revise",
    "save",
    "save_pretrained",
    "sensitivity",
    "slim",
    "slim_checkpoint",
    "slim_optimizer",
    "targets_of",
    "trace",
    "trace_skeleton",
    "transplant",
    "verify",
]
