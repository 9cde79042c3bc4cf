"""What it takes to trace, analyse, plan and count models that are larger than the memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

import torch
from torch import nn

from examples.bench.networks.decoder import Decoder
from examples.bench.running.process import peak_of_torch, run
from examples.bench.running.row_files import Row
from examples.bench.running.stopwatch import Stopwatch
from swdc import count, plan, slim, trace
from swdc.errors import CommandError, PackageError

TOKENS = 16


def _decoder() -> nn.Module:
    return Decoder(blocks=80, width=8192, inner=28672, heads=64, shared=8, words=128256)


def _llama() -> nn.Module:
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as error:
        raise PackageError("transformers", "bench") from error
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=8192, num_hidden_layers=80, intermediate_size=28672, num_attention_heads=64,
            num_key_value_heads=8, vocab_size=128256, use_cache=False,
        )
    )  # fmt: skip


MODELS: dict[str, Callable[[], nn.Module]] = {"decoder": _decoder, "llama": _llama}
"""Language models of the shape of Llama 70B: one made here, and that of transformers."""


def scale(names: list[str], announce: Callable[[str], None] = lambda name: None) -> Iterator[Row]:
    """Yield for each model, in a process of its own on one thread, seconds, megabytes, and parameters.

    Half of the parameters are planned to go, without looking at weights, because there are none: once by channels
    alone, and once a quarter by whole layers and the rest by channels.
    """
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        raise CommandError(f"expected models of {', '.join(MODELS)}, got {', '.join(unknown)}")
    imported = peak_of_torch()
    for name in names:
        announce(name)
        row, peak = run("examples.bench.measurements.scale:measure", name)
        yield {"model": name, **row, "torch_mb": imported, "peak_mb": peak}


def measure(name: str) -> Row:
    """Trace, analyse, plan, count and slim one of the models on the meta device."""
    watch = Stopwatch()
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MODELS[name]().eval()
        watch.note("build")
        program = trace(model, torch.zeros(1, TOKENS, dtype=torch.long))
    watch.note("capture")
    explanation = program.explanation
    watch.note("analysis")
    chosen = plan(program, 0.5, budget="parameters", criterion="uniform")
    watch.note("plan")
    layers = plan(program, 0.25, "parameters", lambda _, names, __: range(len(names)), structure="layers")
    both = plan(program, 0.5, "parameters", "uniform", after=layers)
    watch.note("depth")
    before = count(program)
    watch.note("count")
    after = count(slim(program, chosen))
    watch.note("slim")
    numbers = {
        "parameters": before.parameters, "parameters_after": after.parameters, "prunable": explanation.share,
        "branches_removed": len(both.branches),
    }  # fmt: skip
    spent = {"seconds": sum(watch.seconds.values()), "cpu_seconds": watch.cpu()}
    return {**watch.seconds, **spent, **numbers, "groups": len(program.groups)}
