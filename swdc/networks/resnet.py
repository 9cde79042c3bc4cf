"""ResNets for small images, with batch norms inserted after the residual sums (section 3.3 of Tessier et al. 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the sum with the shortcut, and the inserted batch norm."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, inserted: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(inputs, width, stride)
        self.bn3 = nn.BatchNorm2d(width) if inserted else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a feature map of ``width`` channels."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out)) + self.shortcut(x)
        return torch.relu(self.bn3(out))


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 convolutions, the sum with the shortcut, and the inserted batch norm."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, inserted: bool) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride)
        self.bn4 = nn.BatchNorm2d(outputs) if inserted else nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return a feature map of ``4 * width`` channels."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out)) + self.shortcut(x)
        return torch.relu(self.bn4(out))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """A ResNet on images of shape ``(N, channels, H, W)``; returns logits of shape ``(N, classes)``.

    ``depths`` gives the number of blocks of each stage. The blocks of stage ``i`` have width ``width * 2**i``. Every
    stage but the first halves the resolution.
    """

    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], depths: Sequence[int], width: int = 64, classes: int = 10,
        channels: int = 3, inserted_batchnorm: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        blocks, inputs = [], width
        for stage, depth in enumerate(depths):
            for position in range(depth):
                stride = 2 if stage > 0 and position == 0 else 1
                blocks.append(block(inputs, width * 2**stage, stride, inserted_batchnorm))
                inputs = width * 2**stage * block.expansion
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits."""
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(self.pool(self.blocks(x)).flatten(1))  # type: ignore[no-any-return]


def _three_stages(depth: int, width: int, classes: int, channels: int, inserted_batchnorm: bool) -> ResNet:
    return ResNet(BasicBlock, [(depth - 2) // 6] * 3, width, classes, channels, inserted_batchnorm)


def resnet20(width: int = 16, classes: int = 10, channels: int = 3, inserted_batchnorm: bool = True) -> ResNet:
    """ResNet-20: three stages of three basic blocks."""
    return _three_stages(20, width, classes, channels, inserted_batchnorm)


def resnet32(width: int = 16, classes: int = 10, channels: int = 3, inserted_batchnorm: bool = True) -> ResNet:
    """ResNet-32: three stages of five basic blocks."""
    return _three_stages(32, width, classes, channels, inserted_batchnorm)


def resnet44(width: int = 16, classes: int = 10, channels: int = 3, inserted_batchnorm: bool = True) -> ResNet:
    """ResNet-44: three stages of seven basic blocks."""
    return _three_stages(44, width, classes, channels, inserted_batchnorm)


def resnet56(width: int = 16, classes: int = 10, channels: int = 3, inserted_batchnorm: bool = True) -> ResNet:
    """ResNet-56: three stages of nine basic blocks."""
    return _three_stages(56, width, classes, channels, inserted_batchnorm)


def resnet110(width: int = 16, classes: int = 10, channels: int = 3, inserted_batchnorm: bool = True) -> ResNet:
    """ResNet-110: three stages of eighteen basic blocks."""
    return _three_stages(110, width, classes, channels, inserted_batchnorm)


def resnet18(width: int = 64, classes: int = 10, channels: int = 3, inserted_batchnorm: bool = True) -> ResNet:
    """ResNet-18 for small images: four stages of two basic blocks."""
    return ResNet(BasicBlock, [2, 2, 2, 2], width, classes, channels, inserted_batchnorm)


def resnet34(width: int = 64, classes: int = 10, channels: int = 3, inserted_batchnorm: bool = True) -> ResNet:
    """ResNet-34 for small images: four stages of basic blocks."""
    return ResNet(BasicBlock, [3, 4, 6, 3], width, classes, channels, inserted_batchnorm)


def resnet50(width: int = 64, classes: int = 10, channels: int = 3, inserted_batchnorm: bool = True) -> ResNet:
    """ResNet-50 for small images: four stages of bottlenecks."""
    return ResNet(Bottleneck, [3, 4, 6, 3], width, classes, channels, inserted_batchnorm)
