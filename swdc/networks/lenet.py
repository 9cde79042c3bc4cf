"""LeNet-5 with the two summed branches of the paper's experiments."""

import torch
from torch import nn


class LeNet5(nn.Module):
    """LeNet-5 on images of shape ``(N, 1, 32, 32)``; returns log-probabilities of shape ``(N, classes)``.

    Its middle stage is two parallel convolutions whose pooled results are added.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5)
        self.left = nn.Conv2d(6, 16, 5)
        self.right = nn.Conv2d(6, 16, 5)
        self.conv3 = nn.Conv2d(16, 120, 5)
        self.fc1 = nn.Linear(120, 84)
        self.fc2 = nn.Linear(84, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return log-probabilities."""
        x = nn.functional.max_pool2d(torch.relu(self.conv1(x)), 2)
        left = nn.functional.max_pool2d(torch.relu(self.left(x)), 2)
        right = nn.functional.max_pool2d(torch.relu(self.right(x)), 2)
        x = torch.relu(self.conv3(left + right)).flatten(1)
        return torch.log_softmax(self.fc2(torch.relu(self.fc1(x))), dim=1)
