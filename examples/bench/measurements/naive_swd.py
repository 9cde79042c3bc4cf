"""SWD as Algorithm 1 of Tessier et al. (2022) reads: a sort or a bisection over the modules, a penalty, autograd.

As in the experiments of its authors there is a mask for every parameter, the penalty is a sum over all of them, and
each threshold that is tried walks through the modules to count what it would leave.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from examples.bench.networks.trained import GCN
from swdc.networks import ResNet
from swdc.networks.resnet import BasicBlock, Bottleneck

Masks = dict[str, Tensor]


def step(model: nn.Module, masks: Masks, strength: float) -> None:
    """Add the gradient of ``strength / 2`` times the sum of the squares of what is targeted, by autograd."""
    penalty = torch.zeros(())
    for name, parameter in model.named_parameters():
        penalty = penalty + ((parameter * masks[name]) ** 2).sum()
    (0.5 * strength * penalty).backward()  # type: ignore[no-untyped-call]


def weights(model: nn.Module, target: float) -> Masks:
    """Return the share of all weights outside batch norms with the least magnitude: all sorted together (eq. 4)."""
    norms = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for name, _ in module.named_parameters()
    }
    magnitudes = {name: p.detach().abs() for name, p in model.named_parameters()}
    ordered, _ = torch.cat([m.flatten() for name, m in magnitudes.items() if name not in norms]).sort()
    threshold = ordered[int(target * len(ordered)) - 1]
    return {name: torch.zeros_like(m, dtype=torch.bool) if name in norms else m <= threshold
            for name, m in magnitudes.items()}  # fmt: skip


def channels(model: nn.Module, target: float) -> Masks:
    """Return the channels that a threshold removes such that the parameters left are at most ``1 - target`` of all."""
    deciding, left_of = (_convolutions, _left_of_gcn) if isinstance(model, GCN) else (_norms, _left_of_resnet)
    threshold = _threshold(
        torch.cat([_scores(module) for _, module in deciding(model)]), target,
        lambda threshold: left_of(model, lambda module: int((_scores(module) > threshold).sum())),
    )  # fmt: skip
    masks = {name: torch.zeros_like(p, dtype=torch.bool) for name, p in model.named_parameters()}
    for path, module in deciding(model):
        gone = _scores(module) <= threshold
        for name, parameter in module.named_parameters(path):
            masks[name] = gone.view(-1, *[1] * (parameter.dim() - 1)).expand_as(parameter)
    return masks


def _scores(module: nn.Module) -> Tensor:
    """Return the magnitude of the gains of a batch norm, or the norm of what writes each unit of a convolution."""
    if isinstance(module, nn.BatchNorm2d):
        return module.weight.detach().abs()
    squares = [p.detach().square().view(len(p), -1).sum(1) for p in module.parameters()]
    return torch.stack(squares).sum(0).sqrt()


def _threshold(scores: Tensor, target: float, left: Callable[[float], int]) -> float:
    """Return the lowest score at and under which channels have to go, by bisection over the sorted ones."""
    candidates: list[float] = [-1.0, *scores.sort().values.tolist()]
    budget = (1 - target) * left(-1.0)
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        if left(candidates[middle]) <= budget:
            high = middle
        else:
            low = middle + 1
    return candidates[low]


def _norms(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the batch norms that decide over channels: not those before a sum, after which one is inserted."""
    assert isinstance(model, ResNet)
    for path, module in model.named_modules():
        overruled = "shortcut" in path or path.endswith("bn2" if isinstance(model.blocks[0], BasicBlock) else "bn3")
        if isinstance(module, nn.BatchNorm2d) and not overruled:
            yield path, module


def _convolutions(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the graph convolutions with hidden units: all but the last."""
    found = [(path, module) for path, module in model.named_modules() if hasattr(module, "lin")]
    yield from found[:-1]


def _left_of_resnet(model: nn.Module, kept: Callable[[nn.Module], int]) -> int:
    """Return the parameters left when each batch norm keeps as many channels as ``kept`` says."""
    assert isinstance(model, ResNet)
    last = kept(model.bn1)
    left = _convolution(model.conv1, model.conv1.in_channels, last) + 2 * last
    for block in model.blocks:
        assert isinstance(block, BasicBlock | Bottleneck)
        inputs, inner = last, []
        if isinstance(block, BasicBlock):
            convolutions, inner, inserted = [block.conv1, block.conv2], [block.bn1], block.bn3
        else:
            convolutions, inner = [block.conv1, block.conv2, block.conv3], [block.bn1, block.bn2]
            inserted = block.bn4
        assert isinstance(inserted, nn.BatchNorm2d)
        last = kept(inserted)
        before = inputs
        for convolution, outputs in zip(convolutions, [*map(kept, inner), last], strict=True):
            left += _convolution(convolution, before, outputs) + 2 * outputs
            before = outputs
        if isinstance(block.shortcut, nn.Sequential):
            projection = block.shortcut[0]
            assert isinstance(projection, nn.Conv2d)
            left += _convolution(projection, inputs, last) + 2 * last
        left += 2 * last
    return left + (last + 1) * model.fc.out_features


def _convolution(convolution: nn.Conv2d, inputs: int, outputs: int) -> int:
    return inputs * outputs * convolution.kernel_size[0] * convolution.kernel_size[1]


def _left_of_gcn(model: nn.Module, kept: Callable[[nn.Module], int]) -> int:
    """Return the parameters left when each graph convolution keeps as many hidden units as ``kept`` says."""
    assert isinstance(model, GCN)
    left, inputs = 0, model.conv1.in_channels
    for _, convolution in _convolutions(model):
        outputs = kept(convolution)
        left += (inputs + 1) * outputs
        inputs = outputs
    return int(left + (inputs + 1) * model.conv2.out_channels)
