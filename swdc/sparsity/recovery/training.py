"""The loop of a recovery: epochs, mixed precision, a metric that decides, and a state that can be saved at any step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from swdc.errors import PlanError, told_as
from swdc.ir.program import Program
from swdc.ir.progress import Bar
from swdc.ir.seeding import seed_all
from swdc.sparsity.calibration.batch_norms import estimate_norms_, is_held
from swdc.sparsity.calibration.batches import arguments_of, length_of, read
from swdc.sparsity.metrics import measured
from swdc.sparsity.recovery.distillation import Distillation
from swdc.sparsity.recovery.saved_state import SavedState


@dataclass(frozen=True)
class Epoch:
    """What an epoch of a recovery came to: the mean loss of its steps, and the metric if there is one.

    Epoch 0 is the slim program before training; its loss is NaN.
    """

    epoch: int
    loss: float
    metric: float | None


@dataclass(frozen=True)
class Settings:
    """How a recovery trains; ``swdc.recover`` says what each of these is."""

    epochs: int
    inputs: Callable[..., Any] | None
    loss: Callable[..., Any] | None
    task: float
    autocast: torch.dtype | None
    metric: Callable[..., Any] | None
    patience: int | None
    every: int | None
    report: Callable[..., Any] | None
    seed: int


class Training:
    """A recovery and where it stands; ``program`` is trained in place."""

    def __init__(
        self, program: Program, distill: Distillation, optimizer: Optimizer, data: Any, settings: Settings,
        saved: SavedState | None, bar: Bar,
    ) -> None:  # fmt: skip
        self._program, self._distill, self._optimizer, self._data = program, distill, optimizer, data
        self._settings, self._saved, self._bar = settings, saved, bar
        self._device = next(program.parameters()).device
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=settings.autocast is torch.float16)
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._epoch, self._steps, self._total = 0, 0, 0.0
        self._random: Tensor | None = None
        self._best: tuple[float, int, dict[str, Tensor]] | None = None

    def run(self) -> None:
        """Train to the end, from the saved state if there is one, and leave the best state in the program."""
        state = None if self._saved is None else self._saved.load()
        if state is None:
            seed_all(self._settings.seed)
            estimate_norms_(self._program, self._data, self._settings.inputs, progress=False)
            self._end_epoch(math.nan)
        else:
            with told_as(PlanError, "the state of this recovery in the folder, got another", "give an empty folder"):
                self._load(state)
        while self._epoch < self._settings.epochs and not self._is_settled():
            self._train_epoch()
            self._epoch += 1
            self._end_epoch(self._total / self._steps)
        if self._best is not None:
            self._program.load_state_dict(self._best[2])

    def _train_epoch(self) -> None:
        done, length = self._steps, length_of(self._data)
        self._program.train()
        for leaf in self._program.leaves.values():
            if is_held(leaf):
                leaf.eval()
        seed_all(self._settings.seed + 1 + self._epoch)  # data come in the same order after a resumption
        for number, batch in enumerate(read(self._data)):
            if number < done:
                continue
            if number == done and self._random is not None:
                torch.set_rng_state(self._random)
            self._bar.show(f"recovering, epoch {self._epoch + 1} of {self._settings.epochs}", number, length)
            self._train_step(batch, number / length if length else 0.0)
            self._steps = number + 1
            if self._settings.every is not None and self._steps % self._settings.every == 0:
                self._save(torch.get_rng_state())
        if not self._steps:
            raise PlanError("expected at least one batch to recover with, got none; an iterator can be read once only")

    def _train_step(self, batch: Any, done: float) -> None:
        """Take a step of the optimizer; ``done`` is the share of the epoch that is done."""
        settings, optimizer = self._settings, self._optimizer
        factor = (1 + math.cos(math.pi * (self._epoch + done) / settings.epochs)) / 2
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        args, kwargs = arguments_of(batch, settings.inputs)
        with torch.autocast(self._device.type, settings.autocast, enabled=settings.autocast is not None):
            output, loss = self._distill(args, kwargs)
            if settings.loss is not None and settings.task:
                with told_as(PlanError, "loss as a function of output and batch", "return a single number"):
                    loss = loss + settings.task * settings.loss(output, batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not math.isfinite(number := float(loss.detach())):
            raise PlanError(
                f"expected a loss that is a finite number, got {loss} at step {self._steps} of epoch "
                f"{self._epoch + 1}; lower the rate, or look at the data and the loss"
            )
        optimizer.zero_grad()
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self._scaler.step(optimizer)
        self._scaler.update()
        self._total += number

    @torch.no_grad()
    def _end_epoch(self, loss: float) -> None:
        """Measure, remember the best state, tell, and save."""
        settings, found = self._settings, None
        if settings.metric is not None:
            found = measured(settings.metric, self._program, settings.seed)
            if self._best is None or found > self._best[0]:
                state = {name: tensor.clone() for name, tensor in self._program.state_dict().items()}
                self._best = found, self._epoch, state
        self._steps, self._total = 0, 0.0
        if settings.report is not None:
            settings.report(Epoch(self._epoch, loss, found))
        self._save(None)

    def _is_settled(self) -> bool:
        patience, best = self._settings.patience, self._best
        return patience is not None and best is not None and self._epoch - best[1] >= patience

    def _save(self, random: Tensor | None) -> None:
        if self._saved is not None:
            self._saved.save({
                "epoch": self._epoch, "steps": self._steps, "total": self._total, "random": random, "best": self._best,
                "program": self._program.state_dict(), "optimizer": self._optimizer.state_dict(),
                "scaler": self._scaler.state_dict(),
            })  # fmt: skip

    def _load(self, state: dict[str, Any]) -> None:
        self._program.load_state_dict(state["program"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scaler.load_state_dict(state["scaler"])
        self._epoch, self._steps, self._total = state["epoch"], state["steps"], state["total"]
        self._random, self._best = state["random"], state["best"]
