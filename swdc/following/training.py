"""Comparing a run in training with runs in evaluation: what does a model do there that its program does not?"""

from __future__ import annotations

from typing import Any

from torch import nn

from swdc.following.runs import Run, Slot, Step
from swdc.following.witness import bears_witness
from swdc.ir.call import schema_names
from swdc.modes import differing, is_torchs

_MODES = ("train", "training", "use_input_stats")
"""Arguments that say in which mode an operator is; leaf modules have one of their own."""
_MODAL = ("aten.dropout.default", "aten.dropout_.default", "aten.feature_dropout.default", "aten.batch_norm.default")
"""Operators that become leaf modules, which train."""


def trains_alike(one: Run, other: Run, trained: Run) -> bool:
    """Whether a run in training did what two in evaluation tell of its batch, but for what leaf modules do, too."""
    return not any(map(_keeps_still, trained.steps)) and bears_witness(one, other, trained, _without_mode)


def differences(model: nn.Module, evaluated: Run, trained: Run) -> tuple[str, ...]:
    """Return the paths of the modules that call other operators in training, or with other numbers.

    Those that keep a dropout or a batch norm in evaluation mode on purpose are among them. Both runs have one batch.
    """
    torchs = {path for path, module in model.named_modules() if is_torchs(module)}
    return tuple(differing(model, _told(evaluated, torchs, training=False), _told(trained, torchs, training=True)))


def _told(run: Run, torchs: set[str], training: bool) -> dict[str, list[Any]]:
    """Return what each module calls, but for tensors and modes; what a module of torch does counts for its caller."""
    calls: dict[str, list[Any]] = {}
    for step in run.steps:
        path = step.scope[0]
        while path and path in torchs:
            path = path.rpartition(".")[0]
        literals = [_literal(part) for part in _without_mode(step)]
        calls.setdefault(path, []).append((str(step.target), training and _keeps_still(step), literals))
    return calls


def _keeps_still(step: Step) -> bool:
    """Whether a dropout or a batch norm is in evaluation mode where the model trains."""
    if str(step.target) not in _MODAL:
        return False
    bound = dict(zip((name for name, _ in schema_names(step.target)), step.args, strict=False)) | step.kwargs
    return bound.get("p") != 0 and any(bound.get(mode) is False for mode in _MODES)


def _without_mode(step: Step) -> Any:
    names = [name for name, _ in schema_names(step.target)]
    args = [None if name in _MODES else argument for name, argument in zip(names, step.args, strict=False)]
    return args, {name: value for name, value in step.kwargs.items() if name not in _MODES}


def _literal(argument: Any) -> Any:
    if isinstance(argument, list | tuple):
        return [_literal(item) for item in argument]
    if isinstance(argument, dict):
        return {name: _literal(value) for name, value in argument.items()}
    return None if isinstance(argument, Slot) else argument
