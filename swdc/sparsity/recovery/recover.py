"""Training a slim program until it computes again what the dense one computes: distillation, in plain PyTorch."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from swdc.capture.restore import buffers_kept
from swdc.errors import PlanError, told_as
from swdc.ir.argument_types import check_type, checked
from swdc.ir.content_hash import content_hash
from swdc.ir.module_tensors import cuda_devices, modes_kept, need_values
from swdc.ir.program import Program
from swdc.ir.progress import progress_bar
from swdc.rewriting.rewrites import mask
from swdc.sparsity.arguments import by_name, check_count, check_positive
from swdc.sparsity.calibration.refit import refit
from swdc.sparsity.calibration.statistics import Calibration
from swdc.sparsity.fingerprints import of_function
from swdc.sparsity.recovery.distillation import DISTANCES, Distance, Distillation
from swdc.sparsity.recovery.saved_state import SavedState
from swdc.sparsity.recovery.training import Settings, Training

OptimizerOf = Callable[[list[nn.Parameter]], Optimizer]


@checked(PlanError)
def recover(
    slim: Program,
    teacher: nn.Module,
    data: Any,
    epochs: int,
    *,
    inputs: Callable[..., Any] | None = None,
    loss: Callable[..., Any] | None = None,
    distance: str | Distance = "mse",
    logits: float = 1.0,
    features: float = 1.0,
    task: float = 1.0,
    statistics: Calibration | None = None,
    optimizer: OptimizerOf | None = None,
    rate: float = 1e-3,
    autocast: torch.dtype | None = None,
    metric: Callable[..., Any] | None = None,
    patience: int | None = None,
    folder: str | Path | None = None,
    every: int | None = None,
    report: Callable[..., Any] | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Program:
    """Train a copy of a slim program on data until it computes again what the dense program computes.

    ``teacher`` is the program that the plan was made for, or with ``features=0`` any module of the same outputs; it
    runs in evaluation. ``data`` is an iterable of batches, such as a data loader, that is read once in each of
    ``epochs``; ``inputs`` returns the program's part of a batch that holds more, as in ``swdc.calibrate``.
    The loss of a step is the sum of three distances:

    - ``logits`` times the distance of the outputs: ``"mse"`` relative to the teacher's outputs, ``"kl"`` between the
      classes in the last dimension, or a function of both outputs that returns a number;
    - ``features`` times the relative mean square between the results of layers, in the channels that are left (which
      are known from the plan, so that no adapter is learned);
    - ``task`` times ``loss(output, batch)``, if a ``loss`` is given. Without one no labels are needed.

    With ``statistics`` (``swdc.calibrate(dense, ..., moments=True)``) layers are first solved again as by
    ``swdc.refit``. Before training, statistics of batch norms are estimated anew on the data. ``optimizer`` makes an
    optimizer from the parameters (AdamW with ``rate`` by default), whose rates fall to zero along half a cosine.
    ``autocast`` is a type for mixed precision; float16 is scaled against underflow.

    ``metric`` takes a program in evaluation and returns a number, higher if better; it is called before training and
    after each epoch, and the best program is returned. ``patience`` stops after that many epochs without a better one.
    ``report`` is called with an ``Epoch`` (its number, mean loss and metric) after each. In ``folder`` the state is
    saved after each epoch and after ``every`` steps. A run that was killed goes on from there, and ends with the same
    bits on a CPU, if the data come in the same order under the same seed. ``seed`` seeds torch at the start of each
    epoch. Norms whose gain is frozen keep their statistics.

    Returns a new program in evaluation. Neither ``slim`` nor ``teacher`` is changed, nor torch's random state.
    The result is **another function** than the slim program: the certificate of the latter does not hold for it.

    Raises ``PlanError`` for arguments out of range, for a teacher whose features are not those of the plan, if there is
    no batch, if a loss is no finite number, and for a folder that holds the state of another recovery.

    Example::

        recovered = swdc.recover(slim, program, batches, epochs=2)
    """
    need_values(slim, PlanError, "recovery")
    if torch.is_inference_mode_enabled():
        raise PlanError("expected a call outside of torch.inference_mode, in which nothing can be trained; leave it")
    check_count("epochs", epochs)
    check_positive("rate", rate)
    for name, weight in (("logits", logits), ("features", features), ("task", task)):
        if not 0 <= weight < math.inf:
            raise PlanError(f"expected {name} as a weight of at least 0, got {weight}")
    if not logits and not features and (loss is None or not task):
        raise PlanError("expected something to learn from, got logits=0 and features=0 without a loss; give one")
    for name, number in (("patience", patience), ("every", every)):
        if number is not None:
            check_count(name, number)
    if patience is not None and metric is None:
        raise PlanError("expected a metric together with patience, got none; give metric=")
    if every is not None and folder is None:
        raise PlanError("expected a folder together with every, got none; give folder=")
    if autocast not in (None, torch.float16, torch.bfloat16):
        raise PlanError(f"expected autocast as torch.bfloat16 or torch.float16, got {autocast}")
    chosen = by_name("distance", DISTANCES, distance, " or a function of two outputs")
    start = _start(slim, teacher, statistics)
    settings = {
        "slim": content_hash(slim), "epochs": epochs, "logits": logits, "features": features, "task": task,
        "distance": of_function(chosen, DISTANCES.values()), "rate": rate, "autocast": str(autocast), "seed": seed,
        "loss": None if loss is None else of_function(loss, ()), "refit": statistics is not None, "patience": patience,
    }  # fmt: skip
    saved = None if folder is None else SavedState(Path(folder), settings)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(cuda_devices(slim)))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(modes_kept(teacher))
        stack.enter_context(buffers_kept(teacher))
        bar = stack.enter_context(progress_bar(hidden=not progress))
        distill = Distillation(start, teacher.eval(), chosen, logits, features)
        made = _optimizer(start, optimizer or (lambda parameters: AdamW(parameters, lr=rate)))
        how = Settings(epochs, inputs, loss, task, autocast, metric, patience, every, report, seed)
        Training(start, distill, made, data, how, saved, bar).run()
    return start.eval()


def _start(slim: Program, teacher: nn.Module, statistics: Calibration | None) -> Program:
    """Return a copy of the slim program, whose layers are solved again if there are statistics."""
    if statistics is None:
        return slim.clone()
    if not isinstance(teacher, Program) or slim.facts.origin is None:
        raise PlanError("expected the dense program as the teacher together with statistics, got another module")
    return refit(slim, mask(teacher, slim.facts.origin.plan), statistics, progress=False)


def _optimizer(program: Program, make: OptimizerOf) -> Optimizer:
    """Return the optimizer; ``PlanError`` if it is none, or one that calls the loss by itself."""
    trained = _trained(program)
    with told_as(PlanError, "optimizer as a function of parameters that returns an optimizer", "see torch.optim"):
        made: Optimizer = check_type(PlanError, "what optimizer returns", make(trained), Optimizer)
    held = {id(parameter) for group in made.param_groups for parameter in group["params"]}
    if not held & {id(parameter) for parameter in trained}:
        raise PlanError(
            "expected an optimizer of the parameters that the function is given, got one that holds none of them; "
            "pass them on: optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.1)"
        )
    closure = inspect.signature(made.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        raise PlanError(
            f"expected an optimizer whose step takes one gradient, got {type(made).__name__}, which evaluates the loss "
            f"itself; give another, such as torch.optim.AdamW"
        )
    return made


def _trained(program: Program) -> list[nn.Parameter]:
    found = [parameter for parameter in program.parameters() if parameter.requires_grad]
    if not found:
        raise PlanError("expected parameters that require gradients, got none; let the slim program's parameters train")
    return found
