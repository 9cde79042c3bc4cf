"""Random weights for comparisons: whatever starts constant hides errors, so nothing is left constant."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from examples.bench.networks.entry import Entry, call

STATISTICS = ("running_mean", "running_var")
"""Buffers of norms, batch norms frozen or not, which the affine parameters beside them follow."""

SAMPLES = 64
"""Images that statistics are taken of.

Statistics of two images fit no third one, so that a hundred layers grow its signal a millionfold.
"""

USUAL_GAIN, LEAST_GAIN = 1.0, 0.4
"""Deviation of a weight times the root of its number of inputs: what keeps a signal, and the least to leave."""


def random_network(network: Entry, seed: int) -> tuple[nn.Module, Any]:
    """Return a network in evaluation with random weights and statistics, and example inputs, both drawn by a seed.

    A network that is trained keeps its weights.
    """
    torch.manual_seed(seed)
    if network.trained:
        return network.model().eval(), network.inputs()
    model = randomise_(network.model(), seed).eval()
    inputs = network.inputs()
    return calibrate_(model, _samples(network, inputs)), inputs


def _samples(network: Entry, inputs: Any) -> Any:
    """Return inputs to take statistics of: ``SAMPLES`` rows where the input is one tensor, and else ``inputs``."""
    if not isinstance(inputs, Tensor):
        return inputs
    with torch.random.fork_rng(devices=[]):
        return torch.cat([inputs, *(network.inputs() for _ in range(SAMPLES // len(inputs) - 1))])


def randomise_(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fill norm statistics, and every parameter and buffer that starts constant or is a vector, with random values.

    So zero heads, layer scales of 1e-6, biases, norms of all kinds, and position embeddings of zeros all come to
    matter. Weights that are random already stay, but those so small that a deep network computes the same for any
    input are scaled up, but for gains of one number for each channel. Buffers of numbers that the model computes with
    (frequencies, masks, single values) stay. Changes the model in place and returns it.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if _has_statistics(module):
                _normalisation(module, generator)
        for parameter in model.parameters():
            if parameter.is_floating_point() and (parameter.dim() < 2 or _constant(parameter)):
                _shift(parameter, generator)
            if parameter.is_floating_point() and parameter.dim() > 1 and parameter[0].numel() > 1:
                _strengthen(parameter)
        for buffer in model.buffers():
            if buffer.is_floating_point() and buffer.numel() > 1 and _constant(buffer):
                _shift(buffer, generator)
    return model


def _normalisation(module: nn.Module, generator: torch.Generator) -> None:
    """Draw statistics, gains and biases: means around 0, variances and gains in [0.5, 1.5)."""
    for name, deviation in (("running_mean", 0.3), ("bias", 0.2)):
        if isinstance(tensor := getattr(module, name, None), Tensor):
            tensor.normal_(0.0, deviation, generator=generator)
    for name in ("running_var", "weight"):
        if isinstance(tensor := getattr(module, name, None), Tensor):
            tensor.uniform_(0.5, 1.5, generator=generator)


def calibrate_(model: nn.Module, inputs: Any) -> nn.Module:
    """Centre the random norm statistics on what the model computes from ``inputs`` (a tensor, a tuple or a dict).

    Deep networks of random weights would otherwise grow or shrink their signals by orders of magnitude, until detectors
    find nothing and rounding is all that is left. Means come to lie within about a third of a deviation of those seen,
    variances at half to one and a half times of them. Changes the model in place and returns it.
    """
    args, kwargs = call(inputs)
    waiting = {module for module in model.modules() if _has_statistics(module)}

    def centre(module: nn.Module, given: tuple[Any, ...]) -> None:
        if module in waiting and given:
            waiting.remove(module)
            _centre(module, given[0])

    hooks = [module.register_forward_pre_hook(centre) for module in waiting]
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(*args, **kwargs) if hooks else None
    finally:
        for hook in hooks:
            hook.remove()
    return model


def _has_statistics(module: nn.Module) -> bool:
    return all(isinstance(getattr(module, name, None), Tensor) for name in STATISTICS)


def _centre(module: nn.Module, values: Any) -> None:
    mean, spread = (getattr(module, name) for name in STATISTICS)
    if values.dim() < 2 or values.shape[1] != len(mean):
        return
    variance, centre = torch.var_mean(values.to(mean.dtype), [d for d in range(values.dim()) if d != 1], correction=0)
    if float(variance.mean()) > 0.0:
        variance = variance + 0.1 * variance.mean()
        mean.mul_(variance.sqrt()).add_(centre)
        spread.mul_(variance)


def _constant(tensor: Tensor) -> bool:
    return tensor.numel() > 0 and bool((tensor == tensor.flatten()[0]).all())


def _shift(tensor: Tensor, generator: torch.Generator) -> None:
    """Add about a tenth of what is usual for a weight; what is infinite (a mask) stays."""
    if bool(tensor.isfinite().all()):
        tensor.add_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) * 0.1)


def _strengthen(weight: Tensor) -> None:
    """Scale a weight up to what keeps a signal, where it is well below."""
    inputs = weight[0].numel()
    gain = float(weight.float().std()) * inputs**0.5 if weight.numel() > 1 else 0.0
    if 0.0 < gain < LEAST_GAIN:
        weight.mul_(USUAL_GAIN / gain)
