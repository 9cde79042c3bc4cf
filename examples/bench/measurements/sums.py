"""What free residual sums take: how their sides are brought together, and how fast that is beside tied ones."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, fx, nn

from examples.bench.networks.entry import known
from examples.bench.networks.randomise import STATISTICS, calibrate_, randomise_
from examples.bench.running.row_files import Row
from examples.bench.running.runtimes import Setup, prepared, timed_ms
from swdc import Plan, Program, count, deploy, export_onnx, mask, plan, slim, trace, verify
from swdc.analysis.residual import free_operands
from swdc.networks import resnet20, resnet50, resnet56

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet20-64": partial(resnet20, width=64),
    "resnet56-16": partial(resnet56, width=16),
    "resnet50": partial(resnet50, classes=100),
}
SIDE = 32
LEAST, MOST = 0.5, 0.95
"""Shares of the channels of a batch norm that are zeroed."""
WAYS = ("plain", "slice or pad", "gather", "vanished")


def sums(
    names: Iterable[str], repeats: int = 30, seed: int = 0, announce: Callable[[str], None] = lambda name: None
) -> Iterator[Row]:
    """Yield for each network how its residual sums came out, and milliseconds in onnxruntime (one thread, one image).

    Every batch norm that decides keeps a random set of its own, of 5 to 50 %. The tied network has as many parameters
    and loses about the same share of each group. Both are deployed, and take turns with the dense one.
    """
    chosen = [known(name, NETWORKS) for name in names]
    for name in chosen:
        announce(name)
        yield _row(name, repeats, seed)


def _row(name: str, repeats: int, seed: int) -> Row:
    torch.manual_seed(seed)
    inputs = torch.randn(2, 3, SIDE, SIDE)
    program = trace(randomise_(NETWORKS[name](), seed).eval(), inputs, policy="free")
    freed = zeroed(program, seed)
    settle_(program, freed, inputs)
    one, other = mask(program, freed), slim(program, freed)
    certificate = verify(one, other, seed=seed)
    parameters = count(other).parameters
    share = 1 - parameters / count(program).parameters
    tied = slim(program, plan(program, share, budget="parameters", criterion="uniform", policy="tied"))
    programs = {name: deploy(p) for name, p in (("dense", program), ("free", other), ("tied", tied))}
    image = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    with tempfile.TemporaryDirectory() as folder:
        calls, errors = {}, {}
        for each, deployed in programs.items():
            file = Path(folder) / f"{each}.onnx"
            errors[each] = export_onnx(deployed, file, batches=(1, 3), tolerance=1e-3).max_relative_error
            calls[each] = prepared(Setup("onnxruntime", 1), deployed, file, image)
        times = {f"{each}_ms": median(runs) for each, runs in timed_ms(calls, repeats).items()}
    return {
        "network": name, "exact": certificate.exact, "max_relative_error": certificate.max_relative_error,
        "onnx_max_relative_error": errors["free"], "sums": ways(program, other), **times,
        "parameters": count(program).parameters, "free_parameters": parameters,
        "tied_parameters": count(tied).parameters,
        "free_over_tied": times["free_ms"] / times["tied_ms"], "repeats": repeats, "seed": seed,
    }  # fmt: skip


def zeroed(program: Program, seed: int) -> Plan:
    """Return a plan that keeps a random set of every group, of a random size."""
    draw, kept = random.Random(seed), {}
    for group in program.groups:
        number = max(1, round(group.width * (1 - draw.uniform(LEAST, MOST))))
        kept[group.name] = tuple(sorted(draw.sample(range(group.width), number)))
    return Plan(kept, {g.name: g.width for g in program.groups}, program.hash())


def settle_(program: Program, plan: Plan, inputs: Tensor) -> None:
    """Centre the statistics of a program, in place, on what its masked form computes.

    With those of the dense one, a deep network of which most is masked answers the same to any input.
    """
    masked = calibrate_(mask(program, plan), inputs)
    statistics = {name: value for name, value in masked.state_dict().items() if name.endswith(STATISTICS)}
    program.load_state_dict(statistics, strict=False)


def ways(dense: Program, slim: Program) -> dict[str, int]:
    """Return how many of the sums with a free side came out in each way."""
    there = {node.name: node for node in slim.graph.nodes}
    found: Counter[str] = Counter(dict.fromkeys(WAYS, 0))
    for node in free_operands(dense):
        found[_way(there.get(node.name))] += 1
    return dict(found)


def _way(node: fx.Node | None) -> str:
    if node is None:
        return "vanished"
    before: list[Any] = list(node.all_input_nodes)
    targets = {str(n.target) for n in before} | {str(n.target) for b in before for n in b.all_input_nodes}
    if "aten.index_select.default" in targets:
        return "gather"
    return "slice or pad" if targets & {"aten.slice.Tensor", "aten.constant_pad_nd.default"} else "plain"
