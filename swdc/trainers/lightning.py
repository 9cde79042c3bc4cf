"""SWD or another method as a callback of Lightning's ``Trainer``."""

from __future__ import annotations

from typing import Any

from swdc.errors import PackageError, PlanError
from swdc.ir.argument_types import checked
from swdc.sparsity.method import Method
from swdc.trainers.optimizer_hook import Acting, Factory

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise PackageError("lightning", "trainers") from error


class SWDCallback(Callback):
    """Lets a method act in the training of a ``LightningModule``::

        callback = SWDCallback(partial(swdc.SWD, target=0.9, structure="weights", a_min=1, a_max=1e4))
        Trainer(max_epochs=10, callbacks=[callback]).fit(module)
        callback.method.remove_()

    ``method`` is a method, or a function that makes one when training starts. The function is called as
    ``method(module, optimizer=optimizer, steps=steps)`` with the number of steps that the trainer will take (``None``
    if the trainer does not know it). For channels, keep the program in the module and train it::

        SWDCallback(lambda module, **given: swdc.SWD(module.program, target=0.9, a_min=1, a_max=1e4, **given))

    Lightning's order is: closures (accumulation, backward, reduction), unscaling, ``on_before_optimizer_step``,
    clipping, the optimizer. The method acts between the last two, so that its pull is not clipped away. It acts only
    when the optimizer does. If there are several optimizers, ``index`` says which one that is.

    The state of the method is part of every checkpoint, and ``fit(ckpt_path=...)`` continues from it. Raises
    ``PlanError`` if a checkpoint has no such state. Lightning itself can resume in the middle of an epoch only if the
    loader has a state. With other loaders, resume from checkpoints of the ends of epochs.
    """

    @checked(PlanError)
    def __init__(self, method: Method | Factory, index: int = 0) -> None:
        self._acting, self._index = Acting(method), index

    @property
    def method(self) -> Method | None:
        """The method; ``None`` before training has started if a function makes it."""
        return self._acting.method

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the method, and let it act."""
        steps = trainer.estimated_stepping_batches
        if not 0 <= self._index < len(trainer.optimizers):
            raise PlanError(f"expected index below the {len(trainer.optimizers)} optimizers, got {self._index}")
        self._acting.start(pl_module, trainer.optimizers[self._index], steps, trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop acting on the optimizer."""
        self._acting.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop acting on the optimizer."""
        self._acting.stop()

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the method."""
        return self._acting.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep a state from which to continue when training starts."""
        self._acting.load_state_dict(state_dict)
