"""Two plans of one network that run equally long: driven by multiply-adds, and by times measured on this machine."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
import torchvision

import swdc
from examples.bench.networks.entry import Entry
from examples.bench.networks.randomise import random_network
from swdc.artifacts.onnx.runtime import latencies_ms
from swdc.costs.latency import MeasuredTable
from swdc.sparsity.planning.criteria import l2
from swdc.sparsity.planning.latency import Latency

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--network", default="resnet50", help="one of torchvision.models")
parser.add_argument("--share", type=float, default=0.25, help="share of the multiply-adds that is left")
parser.add_argument("--round-to", type=int, default=8)
parser.add_argument("--seed", type=int, default=0)
options = parser.parse_args()

build = getattr(torchvision.models, options.network)
model, _ = random_network(Entry(options.network, build, lambda: torch.randn(2, 3, 224, 224)), options.seed)
image = torch.randn(1, 3, 224, 224)
program = swdc.trace(model, image)
groups = program.groups
scores = [np.asarray(s) for s in l2(program, groups)]

least = np.array([min(options.round_to, group.width) for group in groups])
costs = Latency(program, MeasuredTable(), least)


def predicted(plan: swdc.Plan) -> float:
    """Return the milliseconds that the table of measured times gives a plan."""
    return costs.cost(np.array([len(plan.kept[group.name]) for group in groups]))


def magnitude(plan: swdc.Plan) -> float:
    """Return the share of the scores of all channels that a plan keeps."""
    kept = sum(s[list(plan.kept[group.name])].sum() for group, s in zip(groups, scores, strict=True))
    return float(kept / sum(s.sum() for s in scores))


by_macs = swdc.plan(program, 1 - options.share, budget="macs", round_to=options.round_to)
saved = 1 - predicted(by_macs) / costs.full
by_latency = swdc.plan(program, saved, budget="latency", round_to=options.round_to)
plans = {"macs": by_macs, "latency": by_latency}

with tempfile.TemporaryDirectory() as folder:
    dense, files = swdc.deploy(program), {}
    for name, deployed in {"dense": dense, **{k: swdc.deploy(swdc.slim(program, p)) for k, p in plans.items()}}.items():
        files[name] = Path(folder) / f"{name}.onnx"
        swdc.export_onnx(deployed, files[name], batches=(1,), tolerance=1e-3)
    measured = dict(zip(files, latencies_ms(list(files.values()), image, runs=50), strict=True))

print("| driven by | multiply-adds | group magnitude kept | predicted ms | measured ms |")
print("|---|---|---|---|---|")
print(f"| dense | {swdc.count(program).macs / 1e9:.3f} G | 100.0 % | {costs.full:.2f} | {measured['dense']:.2f} |")
for name, plan in plans.items():
    macs = swdc.count(swdc.slim(program, plan)).macs / 1e9
    print(f"| {name} | {macs:.3f} G | {magnitude(plan):.1%} | {predicted(plan):.2f} | {measured[name]:.2f} |")
