"""Public functions, each with arguments that work and with values that are out of range."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

import swdc
from swdc.export.folder.save import load_certificate
from swdc.export.onnx.runtime import latencies_ms, latency_ms, run_onnx
from swdc.sparsity import baselines

NEVER: tuple[Any, ...] = (
    None, True, 0, -1, 0.5, -0.5, 1.0, float("nan"), float("inf"), "", "text", b"text", (), (1, 2), [0.5], ["a"], {},
    {"a": 1}, {1: "a"}, object(), len, torch.float16, torch.tensor([0.5]), nn.Linear(2, 2), int,
    Path("/dev/null/none"),
)  # fmt: skip
"""Values that take turns in the place of each argument."""


@dataclass(frozen=True)
class Target:
    """A public function, arguments by name that work, and values that have to be refused although the type is right."""

    name: str
    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    out_of_range: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def targets(folder: Path) -> list[Target]:
    """Return all functions; files that calls read are made in a folder."""
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.randn(2, 4)
    program = swdc.trace(model, x)
    plan = swdc.plan(program, 0.5)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    certificate = swdc.verify(masked, slim)
    saved = swdc.save(slim, folder / "saved", certificate)
    file = swdc.export_onnx(program, folder / "net.onnx").path
    weights = {name: t.detach() for name, t in program.tensors.items()}
    optimizer = torch.optim.SGD(program.parameters(), 0.1)
    text = ("text", "")
    share = (-0.1, 1.0, 2, float("inf"))
    swd = {"model": program, "target": 0.5, "a_min": 1.0, "a_max": 2.0, "steps": 4}
    swd_range = {
        "target": (0, 1, -0.5, 1.5), "a_min": (-1.0, float("inf")), "a_max": (-1.0, float("inf")), "steps": (0, -1),
        "mu": (0, -1.0, float("inf")), "refresh": (0, -1), "structure": text, "penalty": text, "norm": text,
        "schedule": text, "criterion": text, "a": text,
    }  # fmt: skip
    plain = {"model": program, "target": 0.5, "steps": 4, "optimizer": optimizer}
    plain_range = {"target": (0, 1, -0.5, 1.5), "steps": (0, -1), "structure": text, "start": (-1, 99)}
    return [
        Target("trace", swdc.trace, {"model": model, "example_inputs": x}, {"attention": text, "policy": text}),
        Target("count", swdc.count, {"program": program}, {"convention": text, "batch": (0, -1)}),
        Target(
            "plan", swdc.plan, {"program": program},
            {"sparsity": share, "budget": text, "criterion": text, "scope": text, "round_to": (0, -8), "policy": text},
        ),
        Target("mask", swdc.mask, {"program": program, "plan": plan}),
        Target("slim", swdc.slim, {"program": program, "plan": plan}),
        Target("insert_batchnorm", swdc.insert_batchnorm, {"program": program}),
        Target("relax_norms", swdc.relax_norms, {"program": slim}),
        Target("deploy", swdc.deploy, {"program": slim}, {"outputs": ([7], ["no such"], [])}),
        Target(
            "verify", swdc.verify, {"masked": masked, "slim": slim},
            {"batches": ((), (0,), (-1,)), "seed": (-1, 2**64), "inputs": (torch.randn(2, 5), torch.ones(2, 4, 1))},
        ),
        Target("save", swdc.save, {"program": slim, "path": folder / "again"}),
        Target("load", swdc.load, {"path": saved}, {"path": ("", folder / "none", file)}),
        Target("load_certificate", load_certificate, {"path": saved}, {"path": ("", folder / "none", file)}),
        Target(
            "export_onnx", swdc.export_onnx, {"program": program, "path": folder / "again.onnx"},
            {"path": ("", folder), "opset": (0, -1, 10**6), "batches": ((), (0,)), "tolerance": (-1.0, 0.0)},
        ),
        Target(
            "run_onnx", run_onnx, {"path": file, "program_inputs": x}, {"path": ("", folder), "program_inputs": (5,)}
        ),
        Target("latency_ms", latency_ms, {"path": file, "inputs": x}, {"runs": (0, -1), "threads": (-1,)}),
        Target("latencies_ms", latencies_ms, {"paths": [file], "inputs": x}, {"runs": (0, -1), "threads": (-1,)}),
        Target("transplant", swdc.transplant, {"slim": slim, "model": model}, {"model": (nn.Linear(2, 2),)}),
        Target(
            "slim_checkpoint", swdc.slim_checkpoint,
            {"program": program, "plan": plan, "weights": weights, "path": folder / "streamed"},
            {"shard_bytes": (0, -1), "weights": ({}, {"0.weight": torch.ones(3)})},
        ),
        Target("Checkpoint", swdc.Checkpoint, {"path": saved}, {"path": ("", folder / "none", file)}),
        Target("register", swdc.register, {"cls": type("Known", (swdc.Operator,), {"names": ("none.such.default",)})}),
        Target("clone", program.clone, {}),
        Target("under", program.under, {"policy": None}, {"policy": text}),
        Target(
            "Program()", lambda x: program(x), {"x": x},
            {"x": (5, None, "text", [x, x], torch.ones(2, 5), x.bool(), x.double())},
        ),
        Target("SWD", swdc.SWD, swd, swd_range),
        Target("UniformDecay", baselines.UniformDecay, swd, swd_range),
        Target(
            "GrowingL2", baselines.GrowingL2, {**plain, "start": 0, "delta": 1.0, "every": 1, "stabilize": 0},
            {**plain_range, "delta": (0, -1.0), "every": (0, -1), "ceiling": (0, -1.0), "stabilize": (-1,)},
        ),
        Target("Magnitude", baselines.MagnitudePruning, {**plain, "start": 1}, {**plain_range, "rounds": (0, -1)}),
        Target("Rewinding", baselines.LRRewinding, {**plain, "start": 1}, {**plain_range, "penalty": (-1.0,)}),
        Target("NetworkSlimming", baselines.NetworkSlimming, {**plain, "start": 1}, {**plain_range, "norm": text}),
        Target("method", baselines.method, {"name": "swd", **swd, "structure": "channels"}, {"name": text}),
        Target(
            "thin", baselines.thin, {"program": program, "sparsity": 0.5},
            {"sparsity": share, "budget": text, "round_to": (0, -1)},
        ),
    ]  # fmt: skip
