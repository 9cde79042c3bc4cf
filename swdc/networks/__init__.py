"""The paper's networks, as plain modules with random weights."""

from swdc.networks.lenet import LeNet5
from swdc.networks.resnet import ResNet, resnet18, resnet20, resnet32, resnet34, resnet44, resnet50, resnet56, resnet110

__all__ = [
    "LeNet5",
    "ResNet",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
    "resnet110",
]
