"""Selective Weight Decay (Tessier et al. 2022): pull what would be pruned now towards zero, harder at every step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from swdc.costs.latency import LatencyTable
from swdc.errors import PlanError, told_as
from swdc.ir.argument_types import checked
from swdc.ir.distributed import local
from swdc.sparsity.arguments import LARGEST, check_count, check_minimises, check_optimizer, check_positive
from swdc.sparsity.fingerprints import of_function
from swdc.sparsity.method import Method
from swdc.sparsity.norm_parameters import ids_in_norms
from swdc.sparsity.penalties.automatic import AUTO, AutomaticPenalty, course
from swdc.sparsity.penalties.divergence import Watch
from swdc.sparsity.penalties.norms import L2, NORMS, Norm, find_norm
from swdc.sparsity.penalties.penalties import GRADIENT, Penalty, penalty_of
from swdc.sparsity.penalties.schedules import SCHEDULES, Schedule, constant, exponential, find_schedule
from swdc.sparsity.penalties.strengths import Strengths
from swdc.sparsity.planning.width_multiples import RoundTo
from swdc.sparsity.targets import Limits, Target, targets_of
from swdc.sparsity.targets.base import rests_of
from swdc.sparsity.weight_criteria import SALIENCIES, Saliency

_log = logging.getLogger("swdc")


class SWD(Method):
    """Selective Weight Decay, in any training loop::

        swd = SWD(program, target=0.9, a_min=1, a_max=1e5, steps=epochs * len(loader), optimizer=optimizer)
        ...
        loss.backward()
        swd.step()            # adds a(s) * mu * w to the gradient of everything targeted (eq. 2)
        optimizer.step()
        ...
        slim = swdc.slim(program, swd.plan())

    ``structure="channels"`` targets the channels that a plan with this budget would remove now. One threshold on the
    gains |gamma| of the batch norms that decide is set so that at most ``1 - target`` of the parameters are left; gamma
    and beta of the targeted channels are pulled. In a network without batch norms, the norm of the filters decides and
    the filters are pulled.
    ``structure="filters"`` is the same, but everything that writes a channel is pulled (filters, biases, gamma and
    beta), and channels without a batch norm are targeted too, by the norm of their filters.
    ``structure="heads"`` targets a share of the heads of all attentions, by the norm of the weights that write them.
    These weights are pulled.
    ``structure="blocks"`` targets a share of the residual branches (what a sum adds to a stream that the branch has
    read), ``"layers"`` numbered modules that hold nothing else, by the root mean square of the weights that write them.
    These weights and biases are pulled: when they are zero, the branch adds nothing. ``budget`` may then be the
    structure (the default), ``parameters``, ``bytes``, ``operations`` or ``macs``, and ``ignore`` names branches, as in
    ``swdc.plan``.
    ``structure="weights"`` targets the ``target`` share of all weights outside norms, those with the least magnitude
    (eq. 4), on any module: exactly as many, ties broken by position. Gains of other norms than torch's are found by
    what code does with them (``swdc.sparsity.norm_parameters``). The paper writes the share of all parameters, and its
    experiments take that of the weights outside norms, as here. ``norms=True`` takes all parameters, gains of norms
    among them. At 99.9 % the two differ: of ResNet-20-16, 0.92 % of all parameters are left by default.

    The coefficient grows as ``a(s) = a_min (a_max / a_min)^(s / steps)`` (eq. 3) and stays at ``a_max`` after ``steps``
    steps. ``mu`` is the weight decay coefficient of eq. 2; the usual decay itself is the optimizer's. If ``mu`` is not
    given, it is the weight decay of the parameter group in the ``optimizer`` (where that is zero, the largest of its
    groups), or 5e-4. The targets are found anew every ``refresh`` steps from the current weights.

    ``penalty="gradient"`` is the paper's. Under it, SGD with rate ``lr`` and momentum ``m`` diverges if ``lr a mu``
    exceeds ``2 (1 + m)``. If SGD is given as ``optimizer``, the pull is held (``hold=True``): ``lr a mu`` is at most 1,
    in each parameter group (``swdc.sparsity.penalties.bearable``). ``a`` is what acts, ``scheduled_a`` what eq. 3 asks
    for. Under Adam, AdamW and NAdam the pull follows the optimizer's step instead of entering its moments: a weight
    loses at most ``lr / (1 - beta1)`` in a step, and never passes zero (``swdc.sparsity.penalties.adaptive``). Under
    any other optimizer, a step raises ``PlanError`` when weights begin to diverge. ``hold=False`` is the letter of the
    paper: neither held nor watched.
    ``penalty="proximal"`` leaves the gradients alone. After each step of the ``optimizer`` it divides the targeted
    weights by ``1 + lr a mu``, with the learning rate of their parameter group. To first order in the rate the pull is
    the same, but it is stable at any ``a`` and does not enter momentum and moments. A momentum of 0.9 adds up ten steps
    of the gradient form and none of the proximal form. For the same pull, the proximal form then needs bounds ten times
    as high.

    ``a="auto"`` needs neither ``a_min`` nor ``a_max``, only the ``optimizer``::

        swd = SWD(program, target=0.9, a="auto", steps=epochs * len(loader), optimizer=optimizer)

    After each step of the optimizer, the magnitudes of all targeted weights lose the same amount. It is chosen so that
    their share of the norm of all weights that can be targeted follows a set course to zero
    (``swdc.sparsity.penalties.automatic``). Their gradients fade along the same course, except those of norms. At the
    last step the targeted weights are exactly zero, and the removal changes nothing. ``penalty``, ``norm``,
    ``schedule`` and ``mu`` then have no effect on the training.

    ``budget`` says what ``target`` is a share of, as in ``swdc.plan``: ``parameters`` (the default), ``channels``,
    ``operations``, ``macs`` or ``latency``, with ``table`` for other times than this machine's. ``round_to`` keeps the
    sizes of tensors at multiples of a number. At each step, what is targeted is what the plan with this budget and
    these units would remove, so that training kills whole blocks of channels. A budget in time is a search of its own;
    with ``refresh`` larger than 1, it is made at some steps only.

    ``ignore`` names modules or tensors (shell patterns) that are not targeted. The share ``target`` counts them, as in
    ``swdc.plan``, for every structure. Frozen parameters (``swdc.sparsity.frozen``) are neither targeted nor counted:
    those without ``requires_grad``, of norms held in evaluation, and outside the ``optimizer``.

    ``criterion`` scores single weights (``swdc.sparsity.weight_criteria``). ``norm`` is the norm of the penalty
    (``swdc.sparsity.penalties.norms``). ``schedule`` says how ``a`` grows (``swdc.sparsity.penalties.schedules``).

    Call ``step`` once for each step of the optimizer, after gradients are accumulated, unscaled and clipped, so that
    the pull is neither scaled nor clipped. Save the state after the optimizer's step.

    Raises ``PlanError`` for arguments out of range, and if nothing can be targeted.
    """

    name = "swd"

    @checked(PlanError)
    def __init__(
        self, model: nn.Module, target: float, structure: str = "channels", *, a_min: float | None = None,
        a_max: float | None = None, a: str | None = None, steps: int | None = None,
        mu: float | None = None, penalty: str = GRADIENT, hold: bool = True,
        norm: str | Norm | Callable[[torch.Tensor], torch.Tensor] = "l2", schedule: str | Schedule = "exponential",
        criterion: str | Saliency = "magnitude", refresh: int = 1, optimizer: Optimizer | None = None,
        ignore: str | Iterable[str] = (), norms: bool = False, budget: str | None = None, round_to: RoundTo = 1,
        table: LatencyTable | None = None,
    ) -> None:  # fmt: skip
        if mu is not None:
            check_positive("mu", mu)
        check_count("refresh", refresh)
        chosen, self._schedule = find_norm(norm), find_schedule(schedule)
        _check_coefficient(a, a_min, a_max, self._schedule, chosen, optimizer)
        ignore = (ignore,) if isinstance(ignore, str) else tuple(ignore)
        limits = Limits(budget, round_to, table)
        targets = targets_of(model, target, structure, ignore, criterion, optimizer, norms, limits)
        if penalty == GRADIENT and a != AUTO:
            check_minimises(optimizer, "or take penalty='proximal'")
        self._strengths = Strengths(optimizer, mu, hold and penalty == GRADIENT)
        settings = {
            "target": target, "structure": structure, "a": a, "a_min": a_min, "a_max": a_max,
            "mu": self._strengths.mus, "penalty": penalty, "norms": norms, "hold": hold,
            "held_for": self._strengths.way,
            "norm": chosen.name if chosen in NORMS.values() else of_function(chosen.value, ()),
            "schedule": of_function(self._schedule, SCHEDULES.values()),
            "criterion": of_function(targets.scoring.saliency, SALIENCIES.values()),
            "ignore": [*ignore], "refresh": refresh, **limits.settings(),
        }  # fmt: skip
        self._penalty: Penalty = penalty_of(penalty, chosen, optimizer, self._strengths)
        self._automatic: AutomaticPenalty | None = None
        super().__init__(targets, steps, optimizer, settings)
        if a == AUTO and optimizer is not None:
            parameters = self._ownership.parameters.values()
            self._penalty = self._automatic = AutomaticPenalty(parameters, optimizer, steady=ids_in_norms(model))
        watched = hold and a != AUTO and penalty == GRADIENT and self._strengths.way == "none"
        self._watch = Watch(self._ownership.parameters.values()) if watched else None
        self.a_min, self.a_max, self.mu, self.refresh = a_min, a_max, self._strengths.mus[-1], refresh
        self.applied: float | None = None
        """The coefficient that acted in the last step; ``None`` before the first."""
        self._chosen: Sequence[Target] = ()
        self._removed: Sequence[Target] = ()
        self._holding = False

    @property
    def a(self) -> float:
        """The coefficient that acts in the next step, at the present rate of the optimizer.

        That is ``scheduled_a``, or less where the pull is held; of several parameter groups, the least. With
        ``a="auto"`` it is the ``a`` with which the proximal penalty of the L1 norm would have shrunk as much as the
        last step did: 0 if nothing was shrunk, infinite if everything was.
        """
        if self._automatic is not None:
            return self._automatic.coefficient(self.mu)
        return self._strengths.held(self.scheduled_a)

    @property
    def scheduled_a(self) -> float:
        """The coefficient that the schedule asks for in the next step: eq. 3, unless another schedule was given."""
        expected = "a schedule that takes (s, a_min, a_max, steps) and returns a number, got another function"
        with told_as(PlanError, expected, "see swdc.sparsity.penalties.schedules for examples"):
            return float(self._schedule(self.s, self.a_min, self.a_max, self.steps))

    def _act(self) -> None:
        """Add the gradient of the penalty, or note what to shrink."""
        strength = self._strength()
        if self._watch is not None:
            self._watch.look(self.s, strength, strength * self.mu)
        self._targets.scoring.observe()
        if self.s % self.refresh == 0 or not self._chosen:
            self._chosen = self._pulled()
        if not self._chosen and self.s == 0:
            _log.warning("step 0: SWD targets nothing, and pulls nothing")
        self._penalty.act(self._chosen, strength)

    def _strength(self) -> float:
        """Return the coefficient that is asked for, or with ``a="auto"`` the value of the course."""
        if self._automatic is not None:
            return course(self.s, self.steps)
        if not 0 <= (a := self.scheduled_a) <= LARGEST / max(self.mu, 1.0):
            raise PlanError(f"expected a schedule of numbers that are not negative nor huge, got {a} at step {self.s}")
        self.applied = self._strengths.held(a)
        self._strengths.tell(self.s, a, self.applied)
        return a

    def _pulled(self) -> Sequence[Target]:
        """Return what is pulled towards zero now."""
        return self._targets.find()

    @torch.no_grad()
    def _follow(self) -> None:
        """Shrink the targeted weights, with ``penalty="proximal"`` or ``a="auto"``; keep removed ones at zero."""
        self._penalty.follow()
        for target in self._removed if self._holding else ():
            local(target.parameter).masked_fill_(local(target.chosen), target.rest)

    def remove_(self) -> None:
        """Set everything targeted to zero, in place: the one removal at the end of training.

        Says in the log if the course has not ended: what is removed then may still matter.
        """
        if self.s < self.steps:
            _log.warning(
                "remove_ after %d of %d steps: the coefficient has not reached its end, and what is removed may still "
                "matter; swd.gap(metric) says how much", self.s, self.steps,
            )  # fmt: skip
        removed = self.targeted()
        super().remove_()
        self._removed = removed

    def hold(self) -> None:
        """Keep what ``remove_`` has removed at zero from now on, after every step of the ``optimizer``.

        For training that goes on without ``step``. Raises ``PlanError`` without an optimizer, and before ``remove_``.
        """
        check_optimizer(self._optimizer, "after whose steps removed weights are held at zero")
        if not self._removed:
            raise PlanError("expected hold() after remove_(), got it before; there is nothing to hold at zero yet")
        self._holding = True

    def state_dict(self) -> dict[str, Any]:
        """Return the state: steps, settings, remembered scores, and the targets that hold until the next refresh."""
        stands = self._chosen if self.s % self.refresh else ()
        return {
            **super().state_dict(),
            "chosen": {target.name: target.chosen.clone() for target in stands},
            "scores": self._targets.scoring.state_dict(),
            "applied": self.applied,
            "course": {} if self._automatic is None else self._automatic.state_dict(),
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        super()._load(state)
        self._targets.scoring.load_state_dict(state.get("scores", {}))
        if self._automatic is not None:
            self._automatic.load_state_dict(state.get("course", {}))
        self.applied = state.get("applied")
        parameters = self._ownership.parameters
        given = state.get("chosen", {})
        unfit = [name for name, chosen in given.items() if chosen.shape != parameters[name].shape]
        if unfit:
            raise PlanError(f"expected targets of the parameters of this model, got others for {', '.join(unfit[:3])}")
        rests = rests_of(self._targets.model)
        self._chosen = [
            Target(parameters[name], name, chosen.to(parameters[name].device, copy=True), rests.get(name, 0.0))
            for name, chosen in given.items()
        ]


def _check_coefficient(
    a: str | None, a_min: float | None, a_max: float | None, schedule: Schedule, norm: Norm,
    optimizer: Optimizer | None,
) -> None:  # fmt: skip
    """Raise ``PlanError`` unless the coefficient is given by its bounds, or is ``"auto"`` with an optimizer."""
    if a not in (None, AUTO):
        raise PlanError(f"expected a as 'auto', or bounds a_min and a_max in its place, got {a!r}")
    if a == AUTO:
        if a_min is not None or a_max is not None:
            raise PlanError("expected no a_min and a_max with a='auto', which takes their place; give one or the other")
        if schedule is not exponential or norm is not L2:
            raise PlanError("expected the default norm and schedule with a='auto', got others; leave them out")
        check_optimizer(optimizer, "whose steps the shrinkage of a='auto' follows")
        return
    bounded = {"a_max"} if schedule is constant else {"a_min", "a_max"}
    needed = bounded if schedule in SCHEDULES.values() else set()
    for name, value in (("a_min", a_min), ("a_max", a_max)):
        if value is not None or name in needed:
            check_positive(name, value, "; or give a='auto' and no bounds")
