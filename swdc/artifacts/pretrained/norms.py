"""Norms that a class computes over fewer channels: with other gains and another epsilon they are the old function.

The root mean square over N channels, of which n are left and the others zero, has the sum of the squares of n channels
divided by N. A class divides by n. So ``x / sqrt(sum / N + eps) * w`` is ``x / sqrt(sum / n + eps N / n) * w sqrt(N /
n)``. A norm that takes the mean away (layer norm) has no such form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from swdc.artifacts.pretrained.config_fields import Path, Sizes
from swdc.errors import ExportError
from swdc.ir.distributed import plain_class
from swdc.ops.base import OPERATORS


@dataclass(frozen=True)
class Rescaling:
    """What is multiplied: the gains of norms, by path, and numbers of the configuration.

    ``offset`` is what the class adds to a stored gain: 1 where it multiplies by ``1 + w``.
    """

    gains: Mapping[str, float]
    epsilons: Mapping[Path, float]
    offset: float = 0.0

    def apply(self, model: nn.Module) -> None:
        """Change the gains of a model."""
        with torch.no_grad():
            for path, ratio in self.gains.items():
                gain: Any = model.get_submodule(path).weight
                gain.copy_((gain.double() + self.offset) * ratio**0.5 - self.offset)


def rescalings(model: nn.Module, slim: nn.Module) -> list[Rescaling]:
    """Return the ways to compute the slim model's norms in the model's own class, the likely one first.

    Where ``slim`` holds another module than ``model``, the class cannot compute what is needed by itself. Raises
    ``ExportError`` if such a module is no norm with a gain alone.
    """
    config: Any = model.config
    gains: dict[str, float] = {}
    epsilons: dict[Path, float] = {}
    for path, module in model.named_modules():
        if type(slim.get_submodule(path)) is type(module) or any(path.startswith(f"{known}.") for known in gains):
            continue
        ratio = _ratio(path, module, slim.get_submodule(path))
        gains[path] = ratio
        for place, value in _epsilons(config, module):
            if epsilons.setdefault(place, value * ratio) != value * ratio:
                raise ExportError(
                    f"expected norms that lose the same share of their channels, because {'.'.join(map(str, place))} "
                    f"is one number for all, got others at {path}; ignore the modules that write their channels"
                )
    for path, module in model.named_modules():
        if path not in gains and any(epsilons.get(place, value) != value for place, value in _epsilons(config, module)):
            raise ExportError(
                f"expected norms that lose the same share of their channels, because their epsilon is one number for "
                f"all, got {path}, which keeps its channels, and {next(iter(gains))}, which does not; keep the "
                f"channels that the latter reads with ignore=, such as those of the embedding"
            )
    return [Rescaling(gains, epsilons), Rescaling(gains, epsilons, 1.0)] if gains else [Rescaling({}, {})]


def check_means(model: nn.Module, sizes: Sizes) -> None:
    """Raise ``ExportError`` if a norm over channels, with a bias, has fewer among the ``sizes`` of the slim tensors."""
    for path, module in model.named_modules():
        leaf = OPERATORS.leaves.get(plain_class(module))
        means = leaf is not None and leaf.is_norm and hasattr(module, "normalized_shape")
        if not means or len(list(module.parameters())) < 2:
            continue
        if any(sizes[f"{path}.{name}"] != tuple(own.shape) for name, own in module.named_parameters()):
            raise _no_form(path, module)


def _no_form(path: str, module: nn.Module) -> ExportError:
    return ExportError(
        f"expected modules that compute the same over fewer channels, got {type(module).__name__} at {path}, "
        f"which takes a mean over its channels, or has sizes of its own; keep the channels that it reads with "
        f"ignore=, such as those of the embedding"
    )


def _ratio(path: str, module: nn.Module, slim: nn.Module) -> float:
    parameters = dict(module.named_parameters(recurse=False))
    fewer = dict(slim.named_parameters())
    if list(parameters) != ["weight"] or parameters["weight"].dim() != 1 or "weight" not in fewer:
        raise _no_form(path, module)
    return float(len(parameters["weight"]) / len(fewer["weight"]))


def _epsilons(config: Any, module: nn.Module) -> Iterator[tuple[Path, float]]:
    """Yield the numbers of a configuration that are the epsilon of a norm."""
    values = {value for name, value in vars(module).items() if "eps" in name and isinstance(value, float)}
    yield from ((path, value) for path, value in _floats(config.to_dict(), ()) if value in values)


def _floats(plain: dict[str, Any], path: Path) -> Iterator[tuple[Path, float]]:
    for key, value in plain.items():
        if isinstance(value, float) and "eps" in key:
            yield (*path, key), value
        elif isinstance(value, dict):
            yield from _floats(value, (*path, str(key)))
