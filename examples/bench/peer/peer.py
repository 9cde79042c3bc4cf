"""What Torch-Pruning, the strongest peer, makes of the same network in its documented use."""

from __future__ import annotations

import copy
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from math import lcm
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from examples.bench.networks.catalogue import entry
from examples.bench.networks.entry import call
from examples.bench.networks.randomise import random_network
from examples.bench.peer.mirror import Mirror
from examples.bench.peer.pace import paired
from examples.bench.running.apart import Report
from swdc.errors import brief
from swdc.ir.differences import flat_outputs, relative_error
from swdc.ir.packages import package
from swdc.rewriting.certificate import TOLERANCE

SECONDS = 90.0
"""What the peer may take to build and prune."""
PAIRING = 60.0
"""Seconds after which no further pair of runs is begun."""
PASS = 0.25
"""Share of the parameters that must go for a pass, where the forward still runs; that is all that a pass asks."""
QUERIES = ("qkv", "query", "key", "value", "q_proj", "k_proj", "v_proj", "q", "k", "v", "q_lin", "k_lin", "v_lin")
HEADS = ("num_heads", "num_attention_heads", "n_heads", "heads")
LAST = (
    "rpn.head.cls_logits", "rpn.head.bbox_pred", "backbone.fpn", "roi_heads.box_predictor",
    "roi_heads.keypoint_predictor.kps_score_lowres", "roi_heads.mask_predictor.mask_fcn_logits",
    "head.classification_head.cls_logits", "head.regression_head.bbox_reg", "head.regression_head.bbox_ctrness",
    "head.classification_head.module_list", "head.regression_head.module_list",
)  # fmt: skip
"""Last layers of detectors, which its documentation says to ignore."""

Call = tuple[tuple[Any, ...], dict[str, Any]]


def blank_peer() -> dict[str, Any]:
    """Return the peer's part of a row of which nothing is known yet."""
    return {
        "passes": False, "parameters_before": None, "parameters_after": None, "reduction": None, "exact": False,
        "max_relative_error": None, "effect": None, "phase": None, "seconds": {}, "paired": None, "kind": "error",
        "reason": "nothing was measured",
    }  # fmt: skip


def measure_peer_by_name(report: Report, library: str, name: str, seed: int) -> None:
    """Prune a network of the catalogue with Torch-Pruning, reporting after every phase.

    Its documented use: the magnitude pruner, half of the channels, layers that write the outputs ignored, numbers of
    heads given. ``max_relative_error`` is that to the masked network: the same one with the channels that it removed
    set to zero, in float64. Where it passes, ``paired`` has the seconds of both, from the module to the slim network.
    """
    torch.set_num_threads(1)  # in a process of its own, which ends with the measurement
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs = random_network(entry(name, library), seed)
        try:
            _measure(report, model, inputs)
        except _Stop as stop:
            report(stop.found)


class _Stop(Exception):  # noqa: N818 - not an error: there is no more to find out
    def __init__(self, kind: str, reason: str) -> None:
        self.found = {"kind": kind, "reason": f"{kind}: {reason}"}


def _measure(report: Report, model: nn.Module, inputs: Any) -> None:
    arguments = call(inputs)
    seconds: dict[str, float] = {}
    before = _parameters(model)
    dense = copy.deepcopy(model)
    with _phase(report, "build", seconds, SECONDS):
        pruner = magnitude_pruner(model, arguments)
    mirror = Mirror(dense)
    with _phase(report, "prune", seconds, SECONDS - seconds["build"]):
        seconds["prune"] = _prune(pruner, mirror)
    with _phase(report, "forward", seconds):
        _outputs(model, arguments)
    after = _parameters(model)
    reduction = 1 - after / before
    passes = reduction >= PASS
    report({
        "passes": passes, "parameters_before": before, "parameters_after": after, "reduction": reduction,
        "kind": "" if passes else "reduction",
        "reason": "" if passes else f"reduction: {reduction:.1%} of the parameters went",
    })  # fmt: skip
    with _phase(report, "compare", seconds):
        found = _compared(copy.deepcopy(dense), mirror.masked(), model, arguments)
    report({**found, "seconds": dict(seconds)})
    del model, mirror
    if passes:
        report({"phase": "paired"})
        report({"paired": paired(dense, inputs, lambda network: magnitude_pruner(network, arguments), limit=PAIRING)})


@contextmanager
def _phase(report: Report, name: str, seconds: dict[str, float], limit: float = 0.0) -> Iterator[None]:
    """Time a phase; a signal stops it after ``limit`` seconds, if that is not 0: the process runs nothing else."""
    report({"phase": name})
    start = time.perf_counter()
    signal.signal(signal.SIGALRM, _late)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        yield
    except _Late as late:
        raise _Stop("time-out", f"{name} not done within {SECONDS:g} s") from late
    except Exception as error:
        raise _Stop(name, brief(error)) from error
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    seconds.setdefault(name, time.perf_counter() - start)
    report({"seconds": dict(seconds)})


class _Late(BaseException):
    """Raised by the alarm; no code of the peer's catches it."""


def _late(*_: Any) -> None:
    raise _Late


def magnitude_pruner(model: nn.Module, arguments: Call, share: float = 0.5, round_to: int | None = None) -> Any:
    """Return the peer's pruner of a model in its documented use; ``share`` of each layer's channels is to go.

    With ``round_to`` widths are multiples of it and, as its examples have it for vision transformers of torchvision,
    of the number of heads of each ``nn.MultiheadAttention``, which is told in no other way: else their width stays.
    """
    library = package("torch_pruning", "bench")
    args, kwargs = arguments
    heads = numbers_of_heads(model)
    if round_to is not None:
        whole = {layer: number for layer, number in heads.items() if isinstance(layer, nn.MultiheadAttention)}
        round_to = lcm(round_to, *whole.values())
        heads = {layer: number for layer, number in heads.items() if layer not in whole}
    return library.pruner.MagnitudePruner(
        model, kwargs or (args[0] if len(args) == 1 else args), pruning_ratio=share, round_to=round_to,
        importance=library.importance.MagnitudeImportance(p=2), ignored_layers=last_layers(model, arguments),
        num_heads=heads,
    )  # fmt: skip


def _prune(pruner: Any, mirror: Mirror) -> float:
    """Prune group by group, following in the mirror; return the seconds that the peer took of it."""
    taken = 0.0
    start = time.perf_counter()
    for group in pruner.step(interactive=True):
        taken += time.perf_counter() - start
        mirror.follow(group, pruner.DG)
        start = time.perf_counter()
        group.prune()
    return taken + time.perf_counter() - start


def last_layers(model: nn.Module, arguments: Call) -> list[nn.Module]:
    """Return the layers that the peer is told to leave: the last of each output's width, and those of detectors."""
    order: list[tuple[int, nn.Module]] = []
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    layers = [module for module in model.modules() if isinstance(module, kinds)]
    hooks = [layer.register_forward_hook(lambda m, *_: order.append((len(m.weight), m))) for layer in layers]
    outputs = _outputs(model, arguments)
    for hook in hooks:
        hook.remove()
    widths = {size for output in outputs for size in output.shape[1:]}
    last = {width: layer for width, layer in order if width in widths}
    named = dict(model.named_modules())
    return [*last.values(), *(named[path] for path in LAST if path in named)]


def numbers_of_heads(model: nn.Module) -> dict[nn.Module, int]:
    """Return the number of heads of each attention, as the peer's documentation says to give them."""
    found: dict[nn.Module, int] = {}
    for module in model.modules():
        if isinstance(module, nn.MultiheadAttention):
            found[module] = module.num_heads
            continue
        heads = next((n for name in HEADS if isinstance(n := getattr(module, name, None), int)), None)
        layers = [layer for name in QUERIES if isinstance(layer := getattr(module, name, None), nn.Linear)]
        found.update(dict.fromkeys(layers, heads) if heads is not None else {})
    return found


def _compared(dense: nn.Module, masked: nn.Module, pruned: nn.Module, arguments: Call) -> dict[str, Any]:
    precise = pytree.tree_map_only(Tensor, lambda t: t.double() if t.is_floating_point() else t, arguments)
    before, wanted, got = (_outputs(network.double(), precise) for network in (dense, masked, pruned))
    error = relative_error(wanted, got)
    return {
        "max_relative_error": error, "effect": relative_error(before, wanted), "exact": error <= TOLERANCE,
    }  # fmt: skip


def _outputs(model: nn.Module, arguments: Call) -> list[Tensor]:
    with torch.no_grad():
        return flat_outputs(model.eval()(*arguments[0], **arguments[1]))


def _parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
