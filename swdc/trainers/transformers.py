"""SWD or another method as a callback of transformers' ``Trainer``."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from swdc.errors import PackageError, PlanError
from swdc.ir.argument_types import checked
from swdc.sparsity.method import Method
from swdc.trainers.optimizer_hook import Acting, Factory

try:
    from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
except ImportError as error:
    raise PackageError("transformers", "trainers") from error

_STATE = "swdc"


class SWDCallback(TrainerCallback):
    """Lets a method act in the training of a model of transformers::

        callback = SWDCallback(partial(swdc.SWD, target=0.9, structure="weights", a_min=1, a_max=1e4))
        Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()
        callback.method.remove_()

    ``method`` is a method, or a function that makes one when training starts. The function is called as
    ``method(model, optimizer=optimizer, steps=steps)`` with the number of steps that the trainer will take. For
    channels, trace the model first. To train the model is to train the program, because they share their parameters::

        program = swdc.trace(model, inputs)
        SWDCallback(lambda model, **given: swdc.SWD(program, target=0.5, a_min=1, a_max=1e4, **given))

    The method acts after accumulation, reduction, unscaling and clipping, at the beginning of the optimizer's step. It
    does not act if the step is skipped.

    The state of the method is saved with that of the optimizer, in ``optimizer.pt`` of every checkpoint, and
    ``train(resume_from_checkpoint=...)`` continues from it. Raises ``PlanError`` if a checkpoint has no such state.
    """

    @checked(PlanError)
    def __init__(self, method: Method | Factory) -> None:
        self._acting = Acting(method)
        self._hooked: Optimizer | None = None

    @property
    def method(self) -> Method | None:
        """The method; ``None`` before training has started if a function makes it."""
        return self._acting.method

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Make the method, and let it act."""
        inner: Optimizer = getattr(kwargs["optimizer"], "optimizer", kwargs["optimizer"])  # accelerate wraps it
        self._acting.load_state_dict(inner.param_groups[0].pop(_STATE, {}))
        self._acting.start(kwargs["model"], inner, state.max_steps, state.global_step)
        if self._hooked is not inner:
            inner.register_state_dict_post_hook(self._save)
            self._hooked = inner

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop acting on the optimizer."""
        self._acting.stop()

    def _save(self, _: Optimizer, state: dict[str, Any]) -> None:
        first, *others = state["param_groups"]
        state["param_groups"] = [{**first, _STATE: self._acting.state_dict()}, *others]
