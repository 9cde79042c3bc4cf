"""SWD under FSDP2: parameters in parts over processes, one threshold over all of them, and a certificate at the end.

torchrun --nproc-per-node 2 examples/torchrun_fsdp2.py    # without torchrun it starts these two itself
"""

import os

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.run import main as torchrun
from torch.nn import functional

import swdc
from swdc.networks import resnet20

epochs, batch = 2, 128


def traced(images: torch.Tensor) -> swdc.Program:
    """Return the program, the same in every process."""
    torch.manual_seed(0)
    return swdc.trace(resnet20(width=8, channels=1), images[:2])


def main() -> None:
    """Train in one of the processes."""
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)

    program, mesh = traced(images), init_device_mesh("cpu", (size,))
    # batch norms see the part of the batch in their process; on GPUs nn.SyncBatchNorm.convert_sync_batchnorm(program)
    for leaf in program.leaves.values():
        if any(True for _ in leaf.parameters()):
            fully_shard(leaf, mesh=mesh)  # gathered layer by layer
    fully_shard(program, mesh=mesh)
    optimizer = torch.optim.SGD(program.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    swd = swdc.SWD(  # made once the parameters are in parts, as the optimizer is
        program, target=0.75, a_min=1e1, a_max=1e4, steps=epochs * -(-len(images) // batch), optimizer=optimizer
    )
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(batch):  # the same order everywhere
            mine = rows[rank::size]
            loss = functional.cross_entropy(program(images[mine]), labels[mine])
            optimizer.zero_grad()
            loss.backward()  # sums the gradients over the processes
            swd.step()
            optimizer.step()

    plan = swd.plan()  # the same everywhere; all processes have to ask
    weights = get_model_state_dict(program, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0:
        gathered = traced(images)
        gathered.load_state_dict(weights)
        masked, slim = swdc.mask(gathered.eval(), plan), swdc.slim(gathered, plan)
        print(swdc.verify(masked, slim))
        print(f"{swdc.count(gathered).parameters:,} -> {swdc.count(slim).parameters:,} parameters")
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:
        main()
    else:
        torchrun(["--standalone", "--nproc-per-node", "2", __file__])
