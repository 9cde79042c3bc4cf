"""Parameters from which a module computes its weights: weight norm, spectral norm and other parametrizations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import nn

from swdc.errors import PlanError
from swdc.ops.computed_weights import makers_of_weights
from swdc.sparsity.norm_parameters import graphs_of

_FOLDER = "parametrizations"  # the name under which torch.nn.utils.parametrize keeps the originals


def refuse_parametrised(model: nn.Module, names: Iterable[str]) -> None:
    """Raise ``PlanError`` if a weight is computed from some of the named parameters.

    Small numbers among them are not small weights: a gain of zero in a weight norm makes the weight NaN.
    """
    given = list(names)
    made = next((n for n in given if _FOLDER in n.split(".")), None) or next(_computed(model, given), None)
    made = made or next(_parts_of_weights(model, given), None)
    if made is not None:
        path = made.split(f".{_FOLDER}.")[0] if _FOLDER in made.split(".") else made.rpartition(".")[0]
        raise PlanError(
            f"expected parameters that are weights themselves, but {made} is one from which {path or 'the model'} "
            f"computes its weight (weight norm, spectral norm, a low-rank update or another parametrization); put the "
            f"weight in its place first (torch.nn.utils.parametrize.remove_parametrizations, remove_weight_norm, "
            f"remove_spectral_norm, or a merge of the update), or give ignore=[{path + '.*'!r}]"
        )


def _computed(model: nn.Module, names: list[str]) -> Iterator[str]:
    """Yield parameters ``x_...`` of modules that keep a computed tensor ``x`` beside them, as older hooks do."""
    for name in names:
        path, _, last = name.rpartition(".")
        module = model.get_submodule(path) if path else model
        plain = [key for key, value in vars(module).items() if isinstance(value, torch.Tensor)]
        if any(last.startswith(f"{key}_") for key in plain):
            yield name


def _parts_of_weights(model: nn.Module, names: list[str]) -> Iterator[str]:
    """Yield parameters from several of which the code of a module computes a weight."""
    wanted = {id(model.get_parameter(name)): name for name in names}
    for _, module, graph in graphs_of(model):
        named = dict(module.named_parameters(remove_duplicate=False))
        parts = makers_of_weights(graph, named)
        yield from sorted(wanted[id(named[part])] for part in parts if id(named[part]) in wanted)
