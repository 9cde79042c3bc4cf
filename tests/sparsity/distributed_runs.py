"""The runs of the tests of distributed training, in one process or two: the same batches, the same methods."""

from __future__ import annotations

import io
import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

import swdc
from swdc.errors import PlanError
from swdc.ir.distributed import Together, whole
from swdc.sparsity.baselines import METHODS
from swdc.sparsity.method import Method
from tests.support import randomise

STEPS, BATCH = 6, 8
PROXIMAL = {"penalty": "proximal"}
SWD = {"method": "swd", "a_min": 1e2, "a_max": 1e4}
AUTO = {"method": "swd", "a": "auto"}
GROWING = {"method": "growing_l2", "delta": 0.5, "every": 1, "stabilize": 1}
ROUNDS = {"method": "magnitude", "start": 2, "rounds": 2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "weights, ddp": ("ddp", {"structure": "weights"}),
    "weights, fsdp": ("root", {"structure": "weights", **PROXIMAL}),
    "weights, fsdp by layer": ("leaves", {"structure": "weights", "refresh": 4}),
    "weights, fsdp, by gradients": ("root", {"structure": "weights", "criterion": "movement", "refresh": 4}),
    "channels, ddp": ("ddp", {"structure": "channels", **PROXIMAL}),
    "channels, fsdp": ("root", {"structure": "channels"}),
    "channels, fsdp by layer": ("leaves", {"structure": "channels", "refresh": 4, **PROXIMAL}),
    "filters, fsdp by layer": ("leaves", {"structure": "filters", "criterion": "gradient_weight"}),
    "rounds of weights, fsdp": ("root", {"structure": "weights", **ROUNDS}),
    "rounds of channels, fsdp by layer": ("leaves", {"structure": "channels", **ROUNDS}),
    "slimming, fsdp by layer": ("leaves", {"method": "slimming", "start": 4}),
    "growing, fsdp by layer": ("leaves", {"structure": "weights", **GROWING}),
    "automatic weights, fsdp by layer": ("leaves", {"structure": "weights", **AUTO}),
    "automatic channels, fsdp": ("root", {"structure": "channels", **AUTO}),
}


def program() -> swdc.Program:
    """Return a program in float64 whose sizes no two processes can share evenly; its norms do not follow the batch."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(1, 7, 3), nn.BatchNorm2d(7), nn.ReLU(), nn.Conv2d(7, 5, 3, bias=False)]
    layers += [nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(), nn.Linear(20, 9), nn.ReLU(), nn.Linear(9, 3)]
    return swdc.trace(randomise(nn.Sequential(*layers)).eval(), torch.randn(2, 1, 6, 6, dtype=torch.float64))


def train(wrap: str | None, options: dict[str, Any], rank: int = 0, size: int = 1) -> dict[str, Any]:
    """Train in this process its share of every batch; return the sets of all steps, the plan, and the weights."""
    trained = program()
    module: nn.Module = trained
    if wrap == "ddp":
        module = DistributedDataParallel(trained)
    elif wrap is not None:
        mesh = init_device_mesh("cpu", (size,))
        for leaf in trained.leaves.values() if wrap == "leaves" else ():
            if any(True for _ in leaf.parameters()):
                fully_shard(leaf, mesh=mesh)
        fully_shard(trained, mesh=mesh)
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    options = {**({} if "method" in options else SWD), **options}
    make = partial(METHODS[options.pop("method")], trained, 0.6, steps=STEPS, optimizer=optimizer, **options)
    method: Method = make()
    generator = torch.Generator().manual_seed(1)
    sets = []
    for step in range(STEPS):
        images = torch.randn(BATCH, 1, 6, 6, generator=generator, dtype=torch.float64)
        labels = torch.randint(0, 3, (BATCH,), generator=generator)
        optimizer.zero_grad()
        functional.cross_entropy(module(images[rank::size]), labels[rank::size]).backward()
        if step == STEPS // 2:  # in the middle of what a set stands for
            saved = io.BytesIO()
            torch.save(method.state_dict(), saved)
            saved.seek(0)
            method = make()
            method.load_state_dict(torch.load(saved))
        method.step()
        optimizer.step()
        sets.append({target.name: marked(target) for target in method.targeted()})
    with torch.no_grad():
        module(images[rank::size])  # after an evaluation FSDP leaves parameters gathered
    plan = method.plan()
    method.remove_()
    with torch.no_grad():
        output = module(images)
    weights = {name: whole(tensor).clone() for name, tensor in trained.state_dict().items()}
    return {"sets": sets, "kept": dict(plan.kept), "hash": plan.program_hash, "weights": weights, "output": output}


def marked(target: Any) -> torch.Tensor:
    """Return a mask of the whole parameter."""
    return whole(target.chosen)


def refusals(size: int) -> dict[str, str]:
    """Return the messages about weights that are not finite in one process only, and about a sharded program."""
    sharded = program()
    plan = swdc.plan(sharded)
    fully_shard(sharded, mesh=init_device_mesh("cpu", (size,)))
    method = swdc.SWD(sharded, 0.6, "weights", a_min=1, a_max=2, steps=4)
    said = {}
    for name, act in (("plan", lambda: swdc.plan(sharded)), ("slim", lambda: swdc.slim(sharded, plan))):
        try:
            act()
        except PlanError as error:
            said[name] = str(error)
    if dist.get_rank() == 1:
        with torch.no_grad():
            sharded.tensors["7.weight"].to_local()[-1] = torch.nan
    try:
        method.step()
    except PlanError as error:
        said["nan"] = str(error)
    return said


def counted(size: int) -> list[int]:
    """Return how many numbers all processes count of one sharded, one replicated and one plain tensor together."""
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (size,))
    tensors = [
        distribute_tensor(torch.ones(5, 2), mesh, [Shard(0)]),
        distribute_tensor(torch.ones(3, 2), mesh, [Replicate()]),
        torch.ones(7),
    ]
    together = Together(tensors)
    return [int(together.sum_(together.own(t).sum())) for t in tensors]


def main(rank: int, size: int, folder: str) -> None:
    """Run everything in one process, and leave its results in a folder."""
    torch.set_num_threads(1)
    os.environ.update(GLOO_SOCKET_IFNAME="lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
    results: dict[str, Any] = {name: train(*case, rank, size) for name, case in CASES.items()}
    results |= {"refusals": refusals(size), "counted": counted(size)}
    torch.save(results, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
