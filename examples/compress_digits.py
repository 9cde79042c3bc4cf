"""One call from a trained network to a small ONNX file, beside a uniform cut of the same size.

``task`` trains ResNet-20 of width 16 on handwritten digits, and returns what ``swdc.compress`` takes. So

    swdc compress examples/compress_digits.py:task --out small

does the same from the shell, and ``python examples/compress_digits.py`` compares it with a uniform cut.
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

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


def task(epochs: int = 20) -> dict[str, object]:
    """Train a network; return it with an example input, batches, a metric (higher is better) and a loss."""
    torch.manual_seed(0)
    model = resnet20(width=16, channels=1)
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
    return {"model": model.eval(), "example": images[:2], "data": data, "metric": accuracy, "loss": loss}
