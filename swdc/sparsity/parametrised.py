"""Parameters from which a module computes its weights: weight norm, spectral norm and other parametrizations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from swdc.errors import PlanError

_FOLDER = "parametrizations"  # the name under which torch.nn.utils.parametrize keeps the originals


def refuse_parametrised(model: nn.Module, names: Iterable[str]) -> None:
    """Raise ``PlanError`` if a weight is computed from some of the named parameters.

    Small numbers among them are not small weights: a gain of zero in a weight norm makes the weight NaN.
    """
    given = list(names)
    made = next((n for n in given if _FOLDER in n.split(".")), None) or next(_computed(model, given), None)
    if made is not None:
        path = made.split(f".{_FOLDER}.")[0] if _FOLDER in made.split(".") else made.rpartition(".")[0]
        raise PlanError(
            f"expected parameters that are weights themselves, but {made} is one from which {path or 'the model'} "
            f"computes its weight (weight norm, spectral norm or another parametrization); put the weight in its place "
            f"first (torch.nn.utils.parametrize.remove_parametrizations, remove_weight_norm, remove_spectral_norm), or "
            f"give ignore=[{path + '.*'!r}]"
        )


def _computed(model: nn.Module, names: list[str]) -> Iterator[str]:
    """Yield parameters ``x_...`` of modules that keep a computed tensor ``x`` beside them, as older hooks do."""
    for name in names:
        path, _, last = name.rpartition(".")
        module = model.get_submodule(path) if path else model
        plain = [key for key, value in vars(module).items() if isinstance(value, torch.Tensor)]
        if any(last.startswith(f"{key}_") for key in plain):
            yield name
