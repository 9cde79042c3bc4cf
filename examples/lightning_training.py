"""SWD in Lightning: a callback acts at every step of the optimizer, after clipping, and is part of every checkpoint."""

import logging

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import swdc
from swdc.networks import resnet20
from swdc.trainers.lightning import SWDCallback

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


class Classifier(pl.LightningModule):
    """A network that is traced once and trained as a program."""

    def __init__(self, images: torch.Tensor) -> None:
        super().__init__()
        self.program = swdc.trace(resnet20(width=8, channels=1), images)

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """Return the loss of a batch."""
        images, labels = batch
        return functional.cross_entropy(self.program(images), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)


pl.seed_everything(0, verbose=False)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
module = Classifier(images[:2])
callback = SWDCallback(lambda module, **given: swdc.SWD(module.program, target=0.75, a_min=1e1, a_max=1e4, **given))
trainer = pl.Trainer(
    max_epochs=2, accumulate_grad_batches=2, gradient_clip_val=1.0, callbacks=[callback], accelerator="cpu",
    logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
)  # fmt: skip
trainer.fit(module, DataLoader(TensorDataset(images, torch.tensor(digits.target)), batch_size=32, shuffle=True))

program, plan = module.program.eval(), callback.method.plan()
slim = swdc.slim(program, plan)
print(swdc.verify(swdc.mask(program, plan), slim))
print(f"{swdc.count(program).parameters:,} -> {swdc.count(slim).parameters:,} parameters")
