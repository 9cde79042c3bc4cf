"""A run that may be killed at any moment and still ends with the same bits: all that a step depends on is saved.

    python examples/resume.py run    # kill it and start it again, as often as you like

A step depends on the weights, the states of optimizer, schedule and SWD, the state of the random numbers, and the
place in the data, which is a function of the step here. Equal bits also need equal arithmetic: the same machine and
libraries, a fixed number of threads and deterministic algorithms.
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import swdc

digits = load_digits()
images = torch.tensor(digits.images[:256], dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target[:256])
epochs, batch, save_every = 3, 32, 5
per_epoch = len(images) // batch


def train(folder: Path, report: Callable[[int], None] = print, **options: Any) -> tuple[swdc.Program, swdc.SWD]:
    """Train to the end, from the checkpoint in a folder if there is one."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(256, 10))
    program, steps = swdc.trace(model, images[:2]), epochs * per_epoch
    optimizer = torch.optim.SGD(program.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    swd = swdc.SWD(program, 0.75, steps=steps, optimizer=optimizer, **{"a_min": 1e1, "a_max": 1e4, **options})
    parts = {"program": program, "optimizer": optimizer, "schedule": schedule, "swd": swd}

    checkpoint, first = folder / "checkpoint.pt", 0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        for name, part in parts.items():
            part.load_state_dict(state[name])
        torch.set_rng_state(state["random"])
        first = state["steps"]
    for step in range(first, steps):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(step // per_epoch))
        rows = order.split(batch)[step % per_epoch]
        loss = functional.cross_entropy(program(images[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        swd.step()
        optimizer.step()
        schedule.step()
        if (step + 1) % save_every == 0:
            states = {name: part.state_dict() for name, part in parts.items()}
            torch.save({**states, "random": torch.get_rng_state(), "steps": step + 1}, folder / "unfinished.pt")
            os.replace(folder / "unfinished.pt", checkpoint)  # a checkpoint is whole, or the one before it
        report(step)
    return program, swd


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    program, swd = train(folder)
    plan = swd.plan()
    print(swdc.verify(swdc.mask(program.eval(), plan), swdc.slim(program, plan)))
