"""Classes of transformers as they come, with small configurations: three layers, and a cache where they have one."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from examples.bench.networks.entry import Entry, known
from examples.bench.networks.libraries.transformers import ARCHITECTURES, GROUPED, Architecture, build

_EXPERTS: dict[str, Any] = {"experts_implementation": "batched_mm"}
"""What torch uses otherwise on the CPU cannot compute in float64."""
_MORE = {
    "gemma3": Architecture("Gemma3ForCausalLM", {**GROUPED, "head_dim": 16}, config="Gemma3TextConfig"),
    "qwen2_moe": Architecture(
        "Qwen2MoeForCausalLM",
        {**GROUPED, "num_experts": 4, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 64, **_EXPERTS},
    ),
}
_OTHER_OPTIONS: dict[str, dict[str, Any]] = {
    "convnext": {"depths": [1, 1, 3, 1]}, "segformer": {"depths": [1, 1, 3, 1]}, "swin": {"depths": [2, 4]},
    "mixtral": _EXPERTS,
}  # fmt: skip
_NAMES = (
    "llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "phi", "gpt2", "gpt_neox", "opt", "mixtral", "qwen2_moe",
    "bert", "roberta", "distilbert", "t5", "whisper", "vit", "dinov2", "swin", "segformer", "convnext", "clip",
)  # fmt: skip
_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers", "decoder_layers")


def names() -> tuple[str, ...]:
    """Return the names of the classes."""
    return _NAMES


def entry(name: str) -> Entry:
    """Return a class with a small configuration and random weights in float64, and inputs for it."""
    chosen = {**ARCHITECTURES, **_MORE}[known(name, _NAMES)]
    options = {**_as_it_comes(chosen.options), **_OTHER_OPTIONS.get(name, {})}
    return Entry(name, partial(_wide, replace(chosen, options=options)), partial(_inputs, chosen))


def _as_it_comes(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with three layers, and without the one that asks for no cache."""
    deep = {name: 3 for name in _LAYERS if name in options}
    inner = {name: _as_it_comes(value) for name, value in options.items() if isinstance(value, dict)}
    return {name: value for name, value in {**options, **inner, **deep}.items() if name != "use_cache"}


def _wide(chosen: Architecture) -> nn.Module:
    return build(chosen).double()


def _inputs(chosen: Architecture) -> dict[str, Tensor]:
    return {name: each.double() if each.is_floating_point() else each for name, each in chosen.inputs().items()}
