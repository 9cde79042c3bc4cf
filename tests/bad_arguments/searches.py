"""Functions that search and measure, that find targets, and that take what others add: passes and ways of capture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import swdc
from passes.eliminate_identities import EliminateIdentities
from swdc.capture.ways import WAYS
from swdc.sparsity.planning.criteria import uniform
from swdc.sparsity.targets import Limits
from tests.bad_arguments.targets import Target
from tests.bad_arguments.values import AMOUNT, COUNT, FLAG, NONE, POSITIVE, SHARE, Takes

if TYPE_CHECKING:
    from tests.bad_arguments.calls import Prepared

BUDGETS = ("channels", "parameters", "operations", "macs")
CALLED = ("module", "nn.Linear", "len", "int", "no layers", "other program")
"""Functions that a call of a metric fails in, or that return no number: whether they are asked depends on the call."""


def searches(prepared: Prepared) -> list[Target]:
    """Return the functions, with arguments from what was prepared."""
    program, x = prepared.program, prepared.x
    whole = Takes(("other program",), (program, prepared.masked, prepared.slim))
    criterion = Takes(good=("l2", "l1", "uniform", uniform), bad=(lambda *_: None,))
    ignore = Takes(("()",), ("3", ["3"], {"3"}, iter(["3"])), ("none",))
    metric = Takes(good=(_metric,), bad=(lambda model: None, lambda model: "1", lambda model: 1 / 0), unjudged=CALLED)
    seed = Takes(COUNT, (2**40,), (2**64,))
    return [
        Target(
            "apply_pass", swdc.apply_pass,
            {"program": whole, "step": Takes(good=("eliminate-identities", EliminateIdentities()), bad=(swdc.Pass,))},
            {"program": program, "step": "eliminate-identities"},
        ),
        Target(
            "apply_pass(plan)", lambda plan: swdc.apply_pass(program, "mask-channels", plan=plan),
            {"plan": Takes(good=(prepared.plan,))},
        ),
        Target(
            "apply_pass(plan) of a cut", lambda plan: swdc.apply_pass(program, "eliminate-dead-channels", plan=plan),
            {"plan": Takes(good=(prepared.plan,))},
        ),
        Target("register_way", _registered, {"cls": Takes(good=(_way("mine"),), bad=_WRONG_WAYS)}),
        Target(
            "targets_of", _targeted,
            {
                "model": Takes(("other program",), (program, prepared.masked, prepared.slim), (prepared.empty,)),
                "target": Takes(SHARE, (0.25,), (1.5,)),
                "structure": Takes(good=("channels", "filters", "weights"), bad=("blocks", "layers", "heads")),
                "ignore": ignore,
                "criterion": Takes(good=("magnitude", "movement", "l1"), bad=(lambda *_: None,), unjudged=CALLED),
                "optimizer": Takes(NONE, (prepared.optimizer,)),
                "norms": Takes(bad=(True,), unjudged=FLAG),
                "limits": Takes(NONE, (Limits(),)),
            },
            {"model": program, "target": 0.5, "structure": "channels"},
        ),
        Target(
            "sensitivity", swdc.sensitivity,
            {
                "program": whole, "metric": metric, "budget": Takes(good=BUDGETS), "criterion": criterion,
                "shares": Takes(("[0.5]",), ([0.25], (np.float32(0.5),)), ([], [1.5], [0], "0.5")), "ignore": ignore,
                "statistics": Takes(NONE, (prepared.statistics,)), "table": Takes(NONE),
                "folder": Takes(NONE, (prepared.folder / "measured",), (prepared.file,), unjudged=("'text'", "'1'")),
                "seed": seed, "progress": Takes(unjudged=FLAG),
            },
            {"program": program, "metric": _metric, "shares": (0.5,), "progress": False},
        ),
        Target(
            "compress", swdc.compress,
            {
                "model": Takes((), (prepared.model,), (prepared.empty, torch.nn.LazyLinear(3))),
                "example": Takes(good=(x, (x,)), bad=((x, x), x[:, :3])),
                "data": Takes(good=([x], [(x, x)]), bad=(x, [], [torch.ones(2, 5)], iter([x]))),
                "metric": metric, "most_drop": Takes(("0", *AMOUNT)), "budget": Takes(good=BUDGETS),
                "loss": Takes(NONE, (), (), unjudged=CALLED), "inputs": Takes(NONE, (), (), unjudged=CALLED),
                "epochs": Takes(("0",), (), (-5,), unjudged=POSITIVE), "rate": Takes(AMOUNT),
                "trials": Takes(POSITIVE, (), (-5,)), "criterion": criterion,
                "round_to": Takes((*POSITIVE, "{}"), (2, {"*": np.int64(2)}), (-8, {"*": 0}, {"*": 2.5})),
                "ignore": ignore,
                "folder": Takes(NONE, (prepared.folder / "small",), (prepared.file,), unjudged=("'text'", "'1'")),
                "storage": Takes(NONE, (), ("no://where",)), "onnx": Takes(bad=(1, "no"), unjudged=FLAG),
                "int8": Takes(bad=(1, "no"), unjudged=FLAG), "seed": seed, "progress": Takes(unjudged=FLAG),
            },
            {
                "model": prepared.model, "example": x, "data": [x], "metric": _metric, "trials": 1, "epochs": 0,
                "onnx": False, "progress": False,
            },
        ),
    ]  # fmt: skip


def _metric(model: Any) -> float:
    return -float(sum(parameter.square().sum() for parameter in model.parameters()))


def _targeted(**arguments: Any) -> None:
    """Find the targets, which asks the criterion."""
    swdc.targets_of(**arguments)


def _registered(cls: Any) -> None:
    """Register a way, and take it away again, so that the next calls are traced as ever."""
    before = WAYS[:]
    try:
        swdc.register_way(cls)
    finally:
        WAYS[:] = before


def _way(name: Any, **parts: Any) -> type[swdc.Way]:
    return type("Mine", (swdc.Way,), {"name": name, "capture": lambda self, subject: None, **parts})


def _failing(self: Any) -> None:
    raise ZeroDivisionError


_WRONG_WAYS = (
    swdc.Way, _way(None), _way(1), _way(""), _way("mine", __init__=lambda self, needed: None),
    _way("mine", __init__=_failing), _way("mine", capture=None), _way("mine", example_only="no"),
)  # fmt: skip
