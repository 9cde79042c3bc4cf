"""SWD as Algorithm 1 of Tessier et al. (2022) reads: a sort or a bisection over the modules, a penalty, autograd."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from swdc.bench.swd_networks import GCN
from swdc.networks import ResNet
from swdc.networks.resnet import BasicBlock, Bottleneck

Masks = dict[str, Tensor]


def step(model: nn.Module, masks: Masks, strength: float) -> None:
    """Add the gradient of ``strength / 2`` times the sum of the squares of what is targeted, by autograd."""
    penalty = torch.zeros(())
    for name, parameter in model.named_parameters():
        if name in masks:
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
    found = {name: p.detach().abs() for name, p in model.named_parameters() if name not in norms}
    magnitudes, _ = torch.cat([m.flatten() for m in found.values()]).sort()
    threshold = magnitudes[int(target * len(magnitudes)) - 1]
    return {name: m <= threshold for name, m in found.items()}


def channels(model: nn.Module, target: float) -> Masks:
    """Return the channels that a threshold removes such that the parameters left are at most ``1 - target`` of all."""
    if isinstance(model, GCN):
        return _hidden_units(model, target)
    assert isinstance(model, ResNet)
    norms = dict(_deciding(model))
    threshold = _threshold(
        torch.cat([norm.weight.detach().abs() for norm in norms.values()]), target,
        lambda threshold: _left_of_resnet(model, lambda norm: int((norm.weight.detach().abs() > threshold).sum())),
    )  # fmt: skip
    masks = {}
    for path, norm in norms.items():
        masks[f"{path}.weight"] = masks[f"{path}.bias"] = norm.weight.detach().abs() <= threshold
    return masks


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


def _deciding(model: ResNet) -> Iterator[tuple[str, nn.BatchNorm2d]]:
    """Yield the batch norms that decide over channels: not those before a sum, after which one is inserted."""
    for path, module in model.named_modules():
        overruled = "shortcut" in path or path.endswith("bn2" if isinstance(model.blocks[0], BasicBlock) else "bn3")
        if isinstance(module, nn.BatchNorm2d) and not overruled:
            yield path, module


def _left_of_resnet(model: ResNet, kept: Callable[[nn.BatchNorm2d], int]) -> int:
    """Return the parameters left when each batch norm keeps as many channels as ``kept`` says."""
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


def _hidden_units(model: GCN, target: float) -> Masks:
    """Return the hidden units with the least norm of what writes them."""
    weight, bias = model.conv1.lin.weight, model.conv1.bias
    norms = (weight.detach().square().sum(1) + bias.detach().square()).sqrt()
    outputs, inputs = model.conv2.lin.weight.shape[0], weight.shape[1]

    def left(threshold: float) -> int:
        kept = int((norms > threshold).sum())
        return int(kept * (inputs + 1) + kept * outputs + outputs)

    gone = norms <= _threshold(norms, target, left)
    return {"conv1.lin.weight": gone[:, None].expand_as(weight), "conv1.bias": gone}
