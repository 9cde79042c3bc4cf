"""A class of transformers, slimmed in four ways: what can its configuration say, and does it compute the same?"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import torch
from torch import nn

from examples.bench.coverage.measure import of_any_machine
from examples.bench.networks.pretrained import entry
from examples.bench.networks.randomise import random_network
from examples.bench.running.apart import Report
from swdc import Plan, Program, calibrate, mask, plan, save_pretrained, slim, trace
from swdc.artifacts.transplanting.float64 import in_float64, wide_program
from swdc.errors import SwdcError, brief
from swdc.ir.differences import relative_error
from swdc.ir.handed_state import results_of
from swdc.rewriting.certificate import LEAST_EFFECT, TOLERANCE

EQUAL, REFUSED, SILENT, RAW = "equal", "refused", "silent", "raw"
"""What may come of a way: a folder that computes the same, an error of swdc, another result, any other error."""
_STREAM = ("*embed*", "*shared*", "*wte*", "*downsampl*", "*.conv1", "*.conv2", "*classifier*")
_HEADS = ("*attn*", "*[aA]ttention*")
_SHARE, _LAYERS = 0.5, 0.3
_TOKENS: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def measure_pretrained(report: Report, library: str, name: str, seed: int) -> None:
    """Slim a class in each way, reporting for each what came of it. ``library`` is that of the class."""
    torch.set_num_threads(1)  # in a process of its own, which ends with the measurement
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs = random_network(entry(name), seed)
        report({"class": type(model).__name__})
        program = trace(model, inputs)
        report({"captured_by": program.facts.captured_by})
        for way, planned in WAYS.items():
            report({way: _verdict(program, model, inputs, planned)})


def _evenly(*ignore: str) -> Callable[[Program, Any], Plan]:
    """Return what plans half of each group's channels, without the groups of some modules."""

    def planned(program: Program, inputs: Any) -> Plan:
        names = {part for name in program.tensors for part in (name, name.rpartition(".")[0])}
        known = [pattern for pattern in ignore if any(fnmatch(name, pattern) for name in names)]
        return plan(program, _SHARE, scope="group", even=True, ignore=known)

    return planned


def _depth(program: Program, inputs: Any) -> Plan:
    statistics = calibrate(program, [inputs])
    return plan(program, _LAYERS, "layers", "influence", structure="layers", statistics=statistics)


WAYS: dict[str, Callable[[Program, Any], Plan]] = {
    "width": _evenly(), "heads and feed-forward": _evenly(*_STREAM), "feed-forward": _evenly(*_STREAM, *_HEADS),
    "depth": _depth,
}  # fmt: skip
"""The ways: all channels, those inside blocks, those of feed-forward layers, and whole layers."""


def _verdict(program: Program, model: Any, inputs: Any, planned: Callable[[Program, Any], Plan]) -> dict[str, Any]:
    try:
        return _compared(program, model, inputs, planned(program, inputs))
    except SwdcError as refusal:
        return {"verdict": REFUSED, "reason": of_any_machine(str(refusal))}
    except Exception as failure:  # what must not be
        return {"verdict": RAW, "reason": of_any_machine(brief(failure))}


def _compared(program: Program, model: Any, inputs: Any, chosen: Plan) -> dict[str, Any]:
    """Save a slim model, load it by the class alone, and compare it with the masked one in float64."""
    masked = mask(program, chosen)
    with tempfile.TemporaryDirectory() as place:
        save_pretrained(slim(program, chosen), model, Path(place) / "slim")
        found = type(model).from_pretrained(Path(place) / "slim").eval()
    experts = getattr(model.config, "_experts_implementation", None)
    if experts is not None:
        found.set_experts_implementation(experts)
    with in_float64():  # norms and rotary positions ask for float32
        wanted = wide_program(masked)(**inputs)
        error = relative_error(wanted, results_of(found, (), inputs))
        effect = relative_error(results_of(model, (), inputs), wanted)
    tokens = _same_tokens(found, _with_tensors_of(masked, model), inputs)
    before, after = (sum(p.numel() for p in each.parameters()) for each in (model, found))
    alike = error <= TOLERANCE and effect >= LEAST_EFFECT and tokens is not False
    return {
        "verdict": EQUAL if alike else SILENT, "error": error, "effect": effect, "tokens": tokens,
        "parameters_before": before, "parameters_after": after, "reason": "",
    }  # fmt: skip


def _same_tokens(found: Any, masked: Any, inputs: dict[str, Any]) -> bool | None:
    """Whether two models generate the same tokens with a cache; ``None`` if they generate none."""
    if not found.can_generate():
        return None
    given = {name: value for name, value in inputs.items() if not name.startswith("decoder_")}
    one, other = (each.generate(**given, **_TOKENS, use_cache=True) for each in (found, masked))
    return torch.equal(one, other)


def _with_tensors_of(masked: Program, model: nn.Module) -> nn.Module:
    dense = copy.deepcopy(model)
    dense.load_state_dict(masked.state_dict(), strict=False)
    return dense


def reasons(row: dict[str, Any], verdicts: Sequence[str] = (REFUSED, SILENT, RAW)) -> dict[str, str]:
    """Return why ways of a row are not equal, by way."""
    return {way: row[way]["reason"] for way in WAYS if row.get(way, {}).get("verdict") in verdicts}
