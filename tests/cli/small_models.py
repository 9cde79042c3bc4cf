"""Models for the tests of the command line, named there as ``tests.cli.small_models:callable``."""

import warnings
from types import SimpleNamespace

import torch
from torch import nn


def mlp(width: int = 8, classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, classes))


class Residual(nn.Module):
    """Two convolutions and their sum: (N, 3, H, W) to (N, classes)."""

    def __init__(self, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.stem_norm = nn.BatchNorm2d(width)
        self.inner = nn.Conv2d(width, width, 3, padding=1)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_norm(self.stem(x)))
        x = torch.relu(x + self.inner(x))
        return self.head(x.mean((2, 3)))


class Pyramid(nn.Module):
    """Convolutions without padding, which take images of at least 15 pixels: (N, 3, H, W) to (N, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 7), nn.ReLU(), nn.Conv2d(6, 6, 9), nn.ReLU())
        self.head = nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(x).mean((2, 3)))


class Words(nn.Module):
    """Averages the embeddings of words where the mask is true; takes keyword arguments."""

    def __init__(self, words: int = 20, width: int = 6) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.hidden = nn.Linear(width, width)
        self.head = nn.Linear(width, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.hidden(self.embedding(ids)))
        return self.head((x * mask.unsqueeze(-1)).sum(1))


class Deaf(nn.Module):
    """An output that its hidden channels do not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 0.0 * self.second(torch.relu(self.first(x)))


class Undecided(nn.Module):
    """Control flow that depends on the values of the input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if bool(x.sum() > 0) else x


class Noisy(nn.Module):
    """Prints and warns, and does something else in training."""

    def __init__(self) -> None:
        super().__init__()
        print("built")
        warnings.warn("built", stacklevel=1)
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print("called")
        x = torch.relu(self.first(x))
        return self.second(torch.tanh(x) if self.training else x)


class Tied(nn.Module):
    """Two layers that share one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(x)))


class TwoResults(nn.Module):
    """Two named results of two arguments, with a dropout, and a branch on the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.drop = nn.Linear(4, 8), nn.Linear(4, 8), nn.Dropout(0.5)
        self.cat, self.dog = nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, q: torch.Tensor, k: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.drop(torch.relu(self.one(q) - self.two(k)))
        hidden = hidden * 2 if len(q) > 5 else hidden
        return {"cat": self.cat(hidden), "dog": self.dog(hidden)}


def two_results() -> nn.Module:
    torch.manual_seed(0)
    return TwoResults().eval()


def narrow() -> nn.Module:
    """One layer between input and output: nothing can go."""
    return nn.Linear(4, 3)


def broken() -> nn.Module:
    raise ValueError("no such size")


def wants_timm() -> nn.Module:
    raise ModuleNotFoundError("No module named 'timm'", name="timm")


def seven() -> int:
    return 7


namespace = SimpleNamespace(maker=SimpleNamespace(mlp=mlp))
ready = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
number = 3
