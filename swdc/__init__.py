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
from swdc.capture.trace import trace
from swdc.costs.count import Count, count
from swdc.errors import SwdcError
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.ops import Operator, register
from swdc.rewriting.certificate import Certificate
from swdc.rewriting.deploy import deploy
from swdc.rewriting.rewrites import insert_batchnorm, mask, relax_norms, slim
from swdc.rewriting.verify import verify
from swdc.sparsity.calibration.calibrate import calibrate
from swdc.sparsity.calibration.refit import refit
from swdc.sparsity.calibration.statistics import Calibration
from swdc.sparsity.planning.plan import plan
from swdc.sparsity.planning.sensitivity import Sensitivity, sensitivity
from swdc.sparsity.recovery.recover import recover
from swdc.sparsity.slim_optimizer import slim_optimizer
from swdc.sparsity.swd import SWD

__version__ = "0.1.0"

_FORMER = {"plan": "ir.plan", "artifact": "artifacts.folder.save", "latency.cache": "costs.latency.cache"}
"""Modules that scripts import by names from before the rooms, such as ``from swdc.plan import Plan``."""
sys.modules["swdc.latency"] = ModuleType("swdc.latency")  # a parent for its cache; no package, or modules load twice
sys.modules.update({f"swdc.{name}": import_module(f"swdc.{module}") for name, module in _FORMER.items()})

__all__ = [
    "SWD",
    "Calibration",
    "Certificate",
    "Checkpoint",
    "Compression",
    "Count",
    "ExportReport",
    "OnnxReport",
    "Operator",
    "Plan",
    "Program",
    "QuantizationReport",
    "Sensitivity",
    "SwdcError",
    "calibrate",
    "compress",
    "count",
    "deploy",
    "export",
    "export_onnx",
    "insert_batchnorm",
    "load",
    "load_into",
    "mask",
    "plan",
    "quantize_onnx",
    "recover",
    "refit",
    "register",
    "relax_norms",
    "report",
    "save",
    "save_pretrained",
    "sensitivity",
    "slim",
    "slim_checkpoint",
    "slim_optimizer",
    "trace",
    "trace_skeleton",
    "transplant",
    "verify",
]
