"""What it takes to trace, analyse, plan and count models that are larger than the memory."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from examples.bench.networks.decoder import Decoder
from examples.bench.running.process import peak_of_torch, run
from swdc.capture.trace import trace
from swdc.costs.count import count
from swdc.errors import CommandError
from swdc.rewriting.rewrites import slim
from swdc.sparsity.planning.plan import plan

TOKENS = 16

Row = dict[str, Any]


def _decoder() -> nn.Module:
    return Decoder(blocks=80, width=8192, inner=28672, heads=64, shared=8, words=128256)


def _llama() -> nn.Module:
    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError as error:
        raise CommandError("expected transformers for llama; install it with pip install 'swdc[bench]'") from error
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

    Half of the parameters are planned to go, without looking at weights, for there are none.
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
    clock = _Clock()
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MODELS[name]().eval()
        clock.stop("build")
        program = trace(model, torch.zeros(1, TOKENS, dtype=torch.long))
    clock.stop("capture")
    explanation = program.explanation
    clock.stop("analysis")
    chosen = plan(program, 0.5, budget="parameters", criterion="uniform")
    clock.stop("plan")
    before = count(program)
    clock.stop("count")
    after = count(slim(program, chosen))
    clock.stop("slim")
    numbers = {"parameters": before.parameters, "parameters_after": after.parameters, "prunable": explanation.share}
    spent = {"seconds": sum(clock.seconds.values()), "cpu_seconds": clock.cpu()}
    return {**clock.seconds, **spent, **numbers, "groups": len(program.groups)}


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last, self._cpu = time.perf_counter(), time.process_time()

    def stop(self, name: str) -> None:
        """Note the seconds since the last stop."""
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now

    def cpu(self) -> float:
        """Return the seconds that the processor has worked for this process since the start."""
        return time.process_time() - self._cpu
