"""The methods of the experiments, and how long each trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn
from torch.optim import Optimizer

from common.recipes import Recipe
from common.rows import Setting
from swdc.ir.plan import Plan
from swdc.sparsity.baselines import METHODS as CLASSES
from swdc.sparsity.method import Method
from swdc.sparsity.targets import targets_of

LEAST_PENALTY_STEP = 1e-4
"""By how much GReg-1 raises its penalty every ten steps, over 100,000 steps."""


class Removal(Method):
    """Nothing but the removal at the end: what pruning costs without fine-tuning."""

    def __init__(self, model: nn.Module, target: float, structure: str, *, steps: int, optimizer: Optimizer) -> None:
        super().__init__(targets_of(model, target, structure), steps, optimizer, {"target": target})

    def _act(self) -> None:
        """Do nothing."""

    def plan(self) -> Plan:
        """Return the plan that removes what is targeted now."""
        return self._targets.plan()


@dataclass(frozen=True)
class Course:
    """A method's part in a training: its class, how long it trains, and its options.

    Up to ``shared_epochs`` the training is that of every setting of the same ``shared``, whatever the target.
    """

    method: type[Method] | None
    epochs: int
    options: dict[str, Any] = field(default_factory=dict)
    shared: str | None = None
    shared_epochs: int = 0


def course(setting: Setting, recipe: Recipe, steps: int) -> Course:
    """Return the course of a setting; ``steps`` are the batches of an epoch. ``ValueError`` for an unknown method."""
    makers = {
        "dense": _dense, "thin": _thin, "decay": _decay, "magnitude": _magnitude, "slimming": _slimming,
        "lr_rewinding": _lr_rewinding, "growing_l2": _growing_l2, "uniform_decay": _uniform_decay, "swd": _swd,
        "swd-proximal": _swd, "swd-auto": _swd,
    }  # fmt: skip
    if setting.method not in makers:
        raise ValueError(f"expected a method of {list(makers)}, got {setting.method!r}")
    return makers[setting.method](setting, recipe, steps)


def _dense(setting: Setting, recipe: Recipe, steps: int) -> Course:
    return Course(None, recipe.epochs, shared="dense", shared_epochs=recipe.epochs - 1)


def _thin(setting: Setting, recipe: Recipe, steps: int) -> Course:
    return Course(None, recipe.epochs)


def _decay(setting: Setting, recipe: Recipe, steps: int) -> Course:
    return Course(Removal, recipe.epochs, shared="dense", shared_epochs=recipe.epochs - 1)


def _magnitude(setting: Setting, recipe: Recipe, steps: int) -> Course:
    rounds = recipe.fine_tuning
    options = {"start": recipe.epochs * steps, "rounds": len(rounds), "every": rounds[0] * steps}
    return Course(
        CLASSES["magnitude"], recipe.epochs + sum(rounds), options, shared="dense", shared_epochs=recipe.epochs - 1
    )


def _slimming(setting: Setting, recipe: Recipe, steps: int) -> Course:
    options = {"start": recipe.epochs * steps, "penalty": recipe.smooth_l1, "norm": "smooth_l1"}
    epochs = recipe.epochs + recipe.slimming
    return Course(CLASSES["slimming"], epochs, options, shared="slimming", shared_epochs=recipe.epochs - 1)


def _lr_rewinding(setting: Setting, recipe: Recipe, steps: int) -> Course:
    slimming = setting.structure != "weights"
    penalty = {"penalty": recipe.smooth_l1, "norm": "smooth_l1"} if slimming else {}
    options = {"start": recipe.epochs * steps, **penalty}
    shared = "slimming" if slimming else "dense"
    return Course(CLASSES["lr_rewinding"], 2 * recipe.epochs, options, shared=shared, shared_epochs=recipe.epochs - 1)


def _growing_l2(setting: Setting, recipe: Recipe, steps: int) -> Course:
    """GReg-1 on the trained network: for a third of its epochs the penalty grows and settles, then fine-tuning."""
    growth = max(1, recipe.epochs // 3) * steps
    settle = growth // 11  # the authors' 100,000 and 10,000 steps
    rises = max(1, (growth - settle) // 10)
    options = {"start": recipe.epochs * steps, "delta": 1 / rises, "every": 10, "stabilize": settle}
    if growth - settle < 10:
        options.update(delta=1.0, every=max(1, growth - settle))
    epochs = recipe.epochs + max(1, recipe.epochs // 3) + recipe.slimming
    return Course(CLASSES["growing_l2"], epochs, options, shared="dense", shared_epochs=recipe.epochs - 1)


def _uniform_decay(setting: Setting, recipe: Recipe, steps: int) -> Course:
    options = {"a_min": setting.a_min, "a_max": setting.a_max, "mu": recipe.mu, "hold": False}
    shared = f"uniform_decay {setting.structure} {setting.a_min} {setting.a_max}"
    return Course(CLASSES["uniform_decay"], recipe.epochs, options, shared=shared, shared_epochs=recipe.epochs - 1)


def _swd(setting: Setting, recipe: Recipe, steps: int) -> Course:
    options: dict[str, Any] = {"mu": recipe.mu}
    if setting.method == "swd-auto":
        options["a"] = "auto"
    else:
        hold = bool(setting.held)  # the letter of the paper holds nothing
        options.update(a_min=setting.a_min, a_max=setting.a_max, hold=hold)
    if setting.method == "swd-proximal":
        options["penalty"] = "proximal"
    return Course(CLASSES["swd"], recipe.epochs, options)
