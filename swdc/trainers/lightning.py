"""SWD, or any method of its kind, as a callback of Lightning's ``Trainer``."""

from __future__ import annotations

from typing import Any

from swdc.errors import PackageError
from swdc.sparsity.method import Method
from swdc.trainers.acting import Acting, Factory

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise PackageError("lightning", "trainers") from error


class SWDCallback(Callback):
    """Lets a method act in the training of a ``LightningModule``::

        callback = SWDCallback(partial(swdc.SWD, target=0.9, structure="weights", a_min=1, a_max=1e4))
        Trainer(max_epochs=10, callbacks=[callback]).fit(module)
        callback.method.remove_()

    ``method`` is a method that has been made, or a function that makes one when training starts. It is called as
    ``method(module, optimizer=optimizer, steps=steps)``, with the steps that the trainer will take (``None`` where it
    does not know). For channels, keep the program in the module and train it::

        SWDCallback(lambda module, **given: swdc.SWD(module.program, target=0.9, a_min=1, a_max=1e4, **given))

    Lightning's order is: closures (accumulation, backward, reduction), unscaling, ``on_before_optimizer_step``,
    clipping, the optimizer. The method acts between the last two, so that its pull is not clipped away, and acts only
    when the optimizer does. ``index`` says which of several optimizers that is.

    Its state is part of every checkpoint; ``fit(ckpt_path=...)`` goes on from it. ``PlanError`` where a checkpoint
    has none. Lightning itself goes on in the middle of an epoch only with a loader that has a state; with others, the
    checkpoints to resume from are those of the ends of epochs.
    """

    def __init__(self, method: Method | Factory, index: int = 0) -> None:
        self._acting, self._index = Acting(method), index

    @property
    def method(self) -> Method | None:
        """The method; ``None`` before training has started where a function makes it."""
        return self._acting.method

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the method, and let it act."""
        steps = trainer.estimated_stepping_batches
        self._acting.start(pl_module, trainer.optimizers[self._index], steps, trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let go of the optimizer."""
        self._acting.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Let go of the optimizer."""
        self._acting.stop()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the method."""
        return self._acting.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state when training starts."""
        self._acting.load_state_dict(state_dict)
