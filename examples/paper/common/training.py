"""The one training loop of all methods; it resumes a training that was interrupted."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from common.tasks import Task
from swdc.errors import PlanError
from swdc.sparsity.method import Method

SECONDS_BETWEEN_SAVES = 60.0
Rate = Callable[[float], float]
"""The learning rate by how much of the schedule is done, from 0 to 1; beyond 1 the last rate."""
Tell = Callable[[str], None]


def thirds(base: float) -> Rate:
    """Return ``base``, a tenth of it and a hundredth of it, a third of the training each (section 4.1)."""
    return lambda done: base * 0.1 ** min(int(3 * done + 1e-9), 2)


def constant(base: float) -> Rate:
    """Return ``base`` throughout."""
    return lambda done: base


def one_cycle(peak: float) -> Rate:
    """Return a rate that rises to its peak over the first quarter, and falls like a cosine to a hundredth of it.

    It begins at a tenth. Its last rate is that of ``thirds``, so that fine-tuning is done at the same.
    """

    def rate(done: float) -> float:
        if done < 0.25:
            return peak * (0.1 + 0.9 * done / 0.25)
        return peak * (0.01 + 0.99 * (1 + math.cos(math.pi * min((done - 0.25) / 0.75, 1.0))) / 2)

    return rate


RATES: dict[str, Callable[[float], Rate]] = {"thirds": thirds, "one-cycle": one_cycle}
"""Courses of the rate, by the name that a setting gives."""


class DivergenceError(ArithmeticError):
    """The weights or the loss of a training are no longer finite."""


@dataclass
class Training:
    """A network, what trains it, and for how many epochs.

    ``schedule`` are the epochs that the rate's schedule spans; it begins anew, and momentum with it, at the method's
    ``restarts``. ``path`` keeps the state of an unfinished training. ``shared`` names a file for the state after
    ``shared_epochs`` epochs, up to which all trainings of that name are the same: the first to get there writes it,
    the others begin with it.
    """

    task: Task
    model: nn.Module
    optimizer: torch.optim.Optimizer
    method: Method | None
    epochs: int
    schedule: int
    rate: Rate
    path: Path
    shared: Path | None = None
    shared_epochs: int = 0
    epoch: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)

    def run(self, tell: Tell) -> float:
        """Train to the end, and return the seconds that it took in all, interruptions and sharing apart."""
        self._restore()
        saved = time.monotonic()
        while self.epoch < self.epochs:
            start = time.perf_counter()
            loss = self.one_epoch()
            self.epoch += 1
            self.seconds += time.perf_counter() - start
            tell(f"epoch {self.epoch} of {self.epochs}, loss {loss:.4f}, {self.seconds:.0f} s")
            if self.shared is not None and self.epoch == self.shared_epochs and not self.shared.exists():
                self._save(self.shared)
            if time.monotonic() > saved + SECONDS_BETWEEN_SAVES:
                self._save(self.path)
                saved = time.monotonic()
        return self.seconds

    def forget(self) -> None:
        """Delete the state of this training, once its results are kept."""
        self.path.unlink(missing_ok=True)

    def one_epoch(self) -> float:
        """Train for an epoch, and return its last loss; ``DivergenceError`` if that is not a finite number."""
        self.model.train()
        step = self.epoch * self.task.steps
        for loss in self.task.losses(self.model):
            self._set_rate(step)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            try:
                if self.method is not None:
                    self.method.step()
            except PlanError as error:  # methods refuse weights that are not numbers
                self._check(loss)
                raise error
            self.optimizer.step()
            step += 1
        self._check(loss)
        return float(loss.detach())

    def _check(self, loss: torch.Tensor) -> None:
        if not (loss.isfinite() and all(p.isfinite().all() for p in self.model.parameters())):
            raise DivergenceError(f"weights or loss are not finite in epoch {self.epoch + 1}")

    def _set_rate(self, step: int) -> None:
        restarts = () if self.method is None else self.method.restarts
        if step in restarts:
            self.optimizer.state.clear()
        begun = max((restart for restart in restarts if restart <= step), default=0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate((step - begun) / (self.schedule * self.task.steps))

    def _save(self, path: Path) -> None:
        state = {
            "epoch": self.epoch, "seconds": self.seconds, "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(), "random": _random_state(),
            "method": None if self.method is None else self.method.state_dict(),
        }  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}")
        torch.save(state, partial)
        os.replace(partial, path)

    def _restore(self) -> None:
        path = self.path if self.path.exists() else self.shared
        if path is None or not path.exists():
            return
        state: Mapping[str, Any] = torch.load(path, weights_only=True)
        self.epoch, self.seconds = state["epoch"], state["seconds"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.method is not None:
            own = state["method"] if path == self.path else None
            # a shared state is from before the method has one beyond the number of steps
            self.method.load_state_dict(own or {**self.method.state_dict(), "s": self.epoch * self.task.steps})
        _set_random_state(state["random"])


def _random_state() -> dict[str, Any]:
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state_all()}


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
