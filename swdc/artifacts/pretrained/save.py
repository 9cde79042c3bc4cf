"""Saving a slim model so that transformers loads it without swdc: ``from_pretrained`` of the user's own class."""

from __future__ import annotations

import copy
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from swdc.artifacts.pretrained.config_fields import Path as Place
from swdc.artifacts.pretrained.config_fields import with_numbers
from swdc.artifacts.pretrained.depth_and_width import in_depth_alone, in_width_alone
from swdc.artifacts.pretrained.making import made_with
from swdc.artifacts.pretrained.norms import Rescaling, check_means, rescalings
from swdc.artifacts.pretrained.shortening import shortened, slim_sizes
from swdc.artifacts.pretrained.solving import solutions
from swdc.artifacts.storage.folders import new_folder, resolved
from swdc.artifacts.storage.plain_json import write_json
from swdc.artifacts.transplanting.comparison import Comparison
from swdc.artifacts.transplanting.float64 import Tensors, wide_program
from swdc.artifacts.transplanting.same_program import copy_with_program
from swdc.artifacts.transplanting.transplantation import Transplanting
from swdc.errors import ExportError, TransplantError, told_as
from swdc.ir.argument_types import checked
from swdc.ir.program import Program

_KNOWN = re.compile(
    r"(config|generation_config|model\.safetensors\.index|tokenizer\w*|special_tokens_map|added_tokens|vocab|"
    r"preprocessor_config|processor_config|chat_template)\.json|model.*\.safetensors|merges\.txt|vocab\.txt|"
    r"\w+\.model|chat_template\.jinja"
)
"""Files that transformers writes."""
_PLAN = "swdc_plan.json"
"""The plan, by which a folder is known as one that may be replaced."""


@checked(ExportError)
def save_pretrained(
    slim: Program, model: nn.Module, folder: str | os.PathLike[str], tokenizer: Any = None, shard_size: str = "5GB"
) -> Path:
    """Save a slim program as a checkpoint of transformers that its own classes load, without swdc; return the folder.

    ``model`` is the model of transformers that was traced. Its configuration is solved for the numbers (hidden and
    intermediate size, heads, size of a head, ...) with which its class makes tensors of the slim sizes. Norms by the
    root mean square over fewer channels get other gains and another epsilon, with which they compute the same. The new
    model is compared with the slim program in float64, as ``swdc.transplant`` does, then saved in files of at most
    ``shard_size``, and what ``from_pretrained`` loads is compared bit by bit. ``tokenizer``, or anything else that has
    ``save_pretrained``, is saved beside it. The given model is not changed.

    Layers that a plan with ``structure="layers"`` removed are gone from the class, too, with a smaller number of layers
    in its configuration. A plan ``after`` it may have removed channels of the layers that are left.

    Raises ``ExportError`` if the class cannot have the widths of the slim program; then the message names the number of
    the configuration, or the module. ``swdc.plan(even=True)`` gives equal layers equal widths. Raises
    ``TransplantError`` if the program was not made from the model, and ``ArtifactError`` if the folder cannot be
    written; a folder that this function wrote before is replaced, and stays as it is if anything fails.
    """
    _check(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is replaced by a part of the program is not saved
        made = _of_plan(slim, model)
    with new_folder(resolved(folder), _is_known, _PLAN) as path:
        made.save_pretrained(path, max_shard_size=shard_size)
        if tokenizer is not None:
            tokenizer.save_pretrained(path)
        _check_loaded(made, path)
        write_json(slim.facts.origin.plan.to_dict(), path / _PLAN)  # type: ignore[union-attr]
    return Path(folder)


def _of_plan(slim: Program, model: Any) -> Any:
    """Return the model of the class that a plan leaves: with fewer channels, fewer layers, or both."""
    plan = None if slim.facts.origin is None else slim.facts.origin.plan
    if plan is None or not plan.branches:
        return _narrower(slim, model)
    if not plan.removed_channels:
        return _shorter(slim, model)
    _, dense = copy_with_program(model, slim)
    short = _shorter(in_depth_alone(slim, dense), model)
    narrow = in_width_alone(slim, dense, model, short)
    Comparison(slim, dense, model).in_float64(wide_program(narrow).eval())
    return _narrower(narrow, short)


def _narrower(slim: Program, model: Any) -> Any:
    """Return the model of the class with fewer channels."""
    sizes = slim_sizes(model, slim)
    check_means(model, sizes)
    found = list(solutions(model, sizes))
    transplanting = Transplanting(slim, model)
    return _of_class(transplanting, model, transplanting.result(), found)


def _shorter(slim: Program, model: Any) -> Any:
    """Return the model of the class with fewer layers, which computes what the slim program computes."""
    _, dense = copy_with_program(model, slim)
    comparison, failure = Comparison(slim, dense, model), None
    for made in shortened(model, slim):
        wide = Tensors()
        wide.widen(made)
        try:
            comparison.in_float64(made.eval())
        except TransplantError as error:
            failure = error
            continue
        finally:
            wide.restore(made)
            made.train(model.training)
        _take_generation(made, model)
        return made
    raise ExportError(
        f"expected a configuration with which {type(model).__name__} computes what the slim program computes, but with "
        f"fewer layers it computes something else ({failure}); save the slim program with swdc.save"
    ) from failure


def _is_known(name: str) -> bool:
    return name == _PLAN or _KNOWN.fullmatch(name) is not None


def _check(model: Any) -> None:
    for name in ("config", "save_pretrained", "from_pretrained"):
        if not hasattr(model, name):
            raise ExportError(
                f"expected a model of transformers, which has a config and save_pretrained, got {type(model).__name__} "
                f"without {name}; save the slim program with swdc.save"
            )


def _of_class(transplanting: Transplanting, model: Any, mine: nn.Module, found: Sequence[Mapping[Place, float]]) -> Any:
    """Return a model that the class makes from a configuration, and that computes what the slim program computes."""
    failure: TransplantError | None = None
    for config, rescaling in _candidates(model, mine, found):
        with told_as(ExportError, "a configuration that its class takes", "save the slim program with swdc.save"):
            made = _loaded(model, config, mine)
        try:
            _compare(transplanting, made, rescaling)
        except TransplantError as error:
            failure = failure or error
            continue
        rescaling.apply(made)
        return made
    raise ExportError(
        f"expected a configuration with which {type(model).__name__} computes what the slim program computes, but with "
        f"those that give its sizes it computes something else ({failure}); its code reads a number that changed (the "
        f"hidden size scales something, say): ignore the modules that write these channels"
    ) from failure


def _candidates(model: Any, mine: nn.Module, found: Sequence[Mapping[Place, float]]) -> Iterator[tuple[Any, Rescaling]]:
    norms = rescalings(model, mine)
    for numbers in found:
        for rescaling in norms:
            yield with_numbers(model.config, {**numbers, **rescaling.epsilons}), rescaling


def _loaded(model: Any, config: Any, mine: nn.Module) -> Any:
    """Return a model of the class with the tensors of the transplanted one."""
    made = made_with(model, config, mine.state_dict())
    _take_generation(made, model)
    return made


def _take_generation(made: Any, model: Any) -> None:
    if getattr(model, "generation_config", None) is not None:
        made.generation_config = copy.deepcopy(model.generation_config)


def _compare(transplanting: Transplanting, made: nn.Module, rescaling: Rescaling) -> None:
    """Raise ``TransplantError`` unless a rescaled model computes in float64 what the slim program computes."""
    wide, modes = Tensors(), {module: module.training for module in made.modules()}
    wide.widen(made)
    rescaling.apply(made)  # before its gains are rounded for storage
    try:
        transplanting.comparison.in_float64(made.eval())
    finally:
        wide.restore(made)
        for module, mode in modes.items():
            module.training = mode


def _check_loaded(made: Any, path: Path) -> None:
    """Raise ``ExportError`` unless the library loads from a folder what was saved in it."""
    with told_as(ExportError, "a folder that from_pretrained loads", "save the slim program with swdc.save"):
        loaded = type(made).from_pretrained(path).state_dict()
    for name, tensor in made.state_dict().items():
        if name not in loaded or not torch.equal(loaded[name], tensor):
            raise ExportError(
                f"expected from_pretrained to load what was saved, but {name} is another tensor; save the slim program "
                f"with swdc.save"
            )
