"""One call from a trained network to a small ONNX file, beside a uniform cut of the same size.

``task`` trains ResNet-20 of width 16 on handwritten digits, and returns what ``swdc.compress`` takes. So

    swdc compress examples/compress_digits.py:task --out small

does the same from the shell, and ``python examples/compress_digits.py`` compares it with a uniform cut.
"""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import swdc
from swdc.networks import resnet20

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
train, validation, test = torch.randperm(1797, generator=torch.Generator().manual_seed(0)).split([1077, 360, 360])


def accuracy(model: nn.Module, rows: torch.Tensor = validation) -> float:
    """Return the share of some digits that a model classifies correctly."""
    return float((model(images[rows]).argmax(1) == labels[rows]).double().mean())


def loss(output: torch.Tensor, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the cross-entropy of a batch."""
    return functional.cross_entropy(output, batch[1])


def task(epochs: int = 20, width: int = 16) -> dict[str, object]:
    """Train a network; return it with an example input, batches, a metric (higher is better) and a loss."""
    torch.manual_seed(0)
    model = resnet20(width=width, channels=1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=epochs * 17)
    data = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(images[train], labels[train]), batch_size=64, shuffle=True
    )
    for _ in range(epochs):
        for batch in data:
            optimizer.zero_grad()
            loss(model(batch[0]), batch).backward()
            optimizer.step()
            schedule.step()
    made = {"model": model.eval(), "example": images[:2], "data": data, "metric": accuracy}
    return {**made, "loss": loss, "epochs": 5, "rate": 5e-3}


def uniform(given: dict, plan: swdc.Plan, epochs: int) -> swdc.Program:
    """Return a network from which one cut took the same share of every layer, recovered for as long."""
    dense = swdc.trace(given["model"], given["example"])
    return swdc.recover(
        swdc.slim(dense, plan), dense, given["data"], epochs, inputs=lambda batch: batch[0], loss=loss, features=0.0,
        rate=given["rate"], metric=accuracy,
    )  # fmt: skip


@torch.no_grad()
def told(name: str, program: swdc.Program) -> None:
    """Print the size of a network, and its accuracy on the digits that chose it and on those that nothing has seen."""
    size = swdc.count(program).parameters
    print(f"{name:42} {size:>8,} {accuracy(program):>11.1%} {accuracy(program, test):>7.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=2, help="cuts that are tried")
    parser.add_argument("--width", type=int, default=16, help="channels of the first layers")
    arguments = parser.parse_args()
    given = task(width=arguments.width)
    result = swdc.compress(**given, trials=arguments.trials)
    print(result)

    print(f"\n{'':42} {'params':>8} {'validation':>11} {'test':>7}")
    dense = swdc.trace(given["model"], given["example"])
    told("dense", dense)
    told(f"swdc.compress, {len(result.cuts)} cuts", result.program)
    gone = 1 - swdc.count(result.program).parameters / swdc.count(dense).parameters
    plan = swdc.plan(dense, gone, budget="parameters", scope="group")
    for epochs in sorted({given["epochs"], given["epochs"] * max(len(result.cuts), 1)}):
        told(f"uniform cut of the same size, {epochs} epochs", uniform(given, plan, epochs).eval())
