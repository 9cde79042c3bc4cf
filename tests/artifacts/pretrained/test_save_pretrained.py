"""Slim models that transformers loads without swdc, and computes with as the masked model does."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.artifacts.transplanting.float64 import in_float64, wide_program
from swdc.errors import ArtifactError, ExportError, TransplantError
from tests.support import randomise

transformers = pytest.importorskip("transformers")
transformers.utils.logging.disable_progress_bar()

IDS = torch.tensor([[3, 9, 1, 40, 7, 7], [0, 61, 5, 5, 12, 33]])
SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


def llama() -> Any:
    config = transformers.LlamaConfig(
        **SIZES, num_key_value_heads=2, bos_token_id=1, eos_token_id=2, pad_token_id=0, use_cache=False
    )
    return randomise(transformers.LlamaForCausalLM(config)).float().eval()


def gpt2() -> Any:
    config = transformers.GPT2Config(
        vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=16, use_cache=False, attn_pdrop=0.0
    )
    return randomise(transformers.GPT2LMHeadModel(config)).float().eval()


def qwen() -> Any:
    config = transformers.Qwen2Config(**SIZES, num_key_value_heads=2, bos_token_id=1, eos_token_id=2, use_cache=False)
    return randomise(transformers.Qwen2ForCausalLM(config)).float().eval()


def cut(model: Any, **settings: Any) -> tuple[swdc.Program, swdc.Program]:
    program = swdc.trace(model, {"input_ids": IDS})
    plan = swdc.plan(program, even=True, **settings)
    return swdc.mask(program, plan), swdc.slim(program, plan)


def loaded(model: Any, folder: Path) -> Any:
    return type(model).from_pretrained(folder).eval()


def error_of(model: Any, masked: swdc.Program, **more: Any) -> float:
    """Return how much the logits of a model differ from the masked program's, relative to the largest, in float64."""
    with in_float64():  # norms and rotary positions ask for float32
        wanted = wide_program(masked)(input_ids=IDS, **more).logits
        return float((copy.deepcopy(model).double()(input_ids=IDS).logits - wanted).abs().max() / wanted.abs().max())


WIDTHS: dict[str, tuple[Any, dict[str, float], dict[str, Any]]] = {
    "heads and feed-forward layers of a Llama": (
        llama, {"*.q_proj": 0.5, "*.gate_proj": 0.4},
        {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 28, "hidden_size": 32},
    ),
    "a size of the heads that the configuration leaves open": (
        qwen, {"*.q_proj": 0.5, "*.gate_proj": 0.25},
        {"num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 36, "head_dim": 8},
    ),
    "an inner size that the configuration leaves open": (gpt2, {"*.c_fc*": 0.25}, {"n_inner": 96, "n_embd": 32}),
}  # fmt: skip


@pytest.mark.parametrize("name", WIDTHS)
def test_what_is_loaded_computes_what_the_masked_model_computes(name: str, tmp_path: Path) -> None:
    make, sparsity, numbers = WIDTHS[name]
    model = make()
    masked, slim = cut(model, sparsity=sparsity)
    assert swdc.save_pretrained(slim, model, tmp_path / "slim") == tmp_path / "slim"
    found = loaded(model, tmp_path / "slim")
    assert type(found) is type(model)
    assert {key: getattr(found.config, key) for key in numbers} == numbers
    assert error_of(found, masked) <= 1e-9
    assert error_of(copy.deepcopy(model), masked) > 1e-3


def test_norms_over_fewer_channels_are_the_old_function(tmp_path: Path) -> None:
    model = llama()
    masked, slim = cut(model, sparsity={"*embed_tokens*": 0.25, "*.gate_proj": 0.25})
    swdc.save_pretrained(slim, model, tmp_path / "slim")
    found = loaded(model, tmp_path / "slim")
    assert found.config.hidden_size == 24
    assert found.config.rms_norm_eps == pytest.approx(model.config.rms_norm_eps * 32 / 24, rel=1e-12)
    assert error_of(found, masked) <= 1e-6  # gains are rounded to float32
    plain = copy.deepcopy(found)
    plain.config.rms_norm_eps = model.config.rms_norm_eps
    for path, module in plain.named_modules():
        if path.endswith("norm"):
            module.weight.data *= (24 / 32) ** 0.5
    assert error_of(plain, masked) > 1e-3


def test_greedy_tokens_are_those_of_the_masked_model(tmp_path: Path) -> None:
    model = llama()
    masked, slim = cut(model, sparsity={"*embed_tokens*": 0.25, "*": 0.3})
    swdc.save_pretrained(slim, model, tmp_path / "slim")
    dense = copy.deepcopy(model)
    dense.load_state_dict(masked.state_dict(), strict=False)
    found = loaded(model, tmp_path / "slim")
    options = {"max_new_tokens": 8, "do_sample": False, "use_cache": True, "eos_token_id": None}
    assert torch.equal(found.generate(IDS, **options), dense.generate(IDS, **options))


@pytest.mark.filterwarnings("ignore:cache comes back as None")
def test_a_model_that_returns_a_cache_is_traced_without_it(tmp_path: Path) -> None:
    model = llama()
    model.config.use_cache = True
    masked, slim = cut(model, sparsity={"*.q_proj": 0.5})
    swdc.save_pretrained(slim, model, tmp_path / "slim")
    found = loaded(model, tmp_path / "slim")
    assert (found.config.use_cache, found.config.num_attention_heads) == (True, 2)
    dense = copy.deepcopy(model)
    dense.load_state_dict(masked.state_dict(), strict=False)
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    assert torch.equal(found.generate(IDS, **options), dense.generate(IDS, **options))


def every_second(program: Any, names: Any, statistics: Any) -> list[float]:
    """Score layers so that every second one goes, the first among them."""
    return [float(place % 2) for place in range(len(names))]


def deep_qwen() -> Any:
    """Return a model whose configuration has a list with an entry for each layer."""
    config = transformers.Qwen2Config(
        **{**SIZES, "num_hidden_layers": 4}, num_key_value_heads=2, bos_token_id=1, eos_token_id=2, use_cache=True,
        use_sliding_window=True, sliding_window=4, max_window_layers=2, tie_word_embeddings=True,
    )  # fmt: skip
    return randomise(transformers.Qwen2ForCausalLM(config)).float().eval()


def swin() -> Any:
    """Return a model whose configuration has a list of depths, names of stages, and a ratio for a width."""
    config = transformers.SwinConfig(
        image_size=16,
        patch_size=4,
        embed_dim=8,
        depths=[1, 3],
        num_heads=[2, 2],
        window_size=2,
        num_labels=3,
        drop_path_rate=0.0,
    )
    return randomise(transformers.SwinForImageClassification(config)).double().eval()


def test_depths_in_a_list_and_widths_by_a_ratio(tmp_path: Path) -> None:
    model, x = swin(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    program = swdc.trace(model, {"pixel_values": x})
    layers = swdc.plan(program, 0.3, "layers", criterion=every_second, structure="layers")
    widths = swdc.plan(program, {"*.mlp.fc1": 0.25}, even=True)
    for plan, numbers in ((layers, {"depths": [1, 2]}), (widths, {"mlp_ratio": 3.0})):
        masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
        swdc.save_pretrained(slim, model, tmp_path / "slim")
        found = loaded(model, tmp_path / "slim")
        assert {key: getattr(found.config, key) for key in numbers} == numbers
        wanted, got = masked(pixel_values=x).logits, found(pixel_values=x).logits
        assert (got - wanted).abs().max() <= 1e-9 * wanted.abs().max()


@pytest.mark.parametrize("make", [llama, gpt2, deep_qwen])
def test_fewer_layers(make: Any, tmp_path: Path) -> None:
    model = make()
    program = swdc.trace(model, {"input_ids": IDS, "use_cache": False})
    options = {"structure": "layers", "criterion": every_second}
    plan = swdc.plan(program, 0.5, "layers", **options)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    assert swdc.verify(masked, slim).exact
    swdc.save_pretrained(slim, model, tmp_path / "slim")
    found = loaded(model, tmp_path / "slim")
    assert found.config.num_hidden_layers == model.config.num_hidden_layers // 2
    assert error_of(found, masked, use_cache=False) <= 1e-9
    dense = copy.deepcopy(model)
    dense.load_state_dict(masked.state_dict(), strict=False)
    words = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    assert torch.equal(found.generate(IDS, **words), dense.generate(IDS, **words))


DEPTH_AND_WIDTH: dict[Any, tuple[dict[str, float], dict[str, float]]] = {
    llama: (
        {"*.q_proj": 0.5, "*.gate_proj": 0.25, "*embed_tokens*": 0.25},
        {"num_hidden_layers": 1, "intermediate_size": 36, "num_attention_heads": 2, "hidden_size": 24},
    ),
    gpt2: ({"*.c_fc*": 0.25}, {"n_layer": 1, "n_inner": 96}),
}


@pytest.mark.parametrize("make", DEPTH_AND_WIDTH)
def test_fewer_layers_and_channels(make: Any, tmp_path: Path) -> None:
    model = make()
    sparsity, numbers = DEPTH_AND_WIDTH[make]
    program = swdc.trace(model, {"input_ids": IDS, "use_cache": False})
    layers = swdc.plan(program, 0.5, "layers", every_second, structure="layers")
    plan = swdc.plan(program, sparsity, even=True, after=layers)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    assert swdc.verify(masked, slim).exact
    with torch.no_grad():  # as if it had been trained
        for one in (masked.tensors, slim.tensors):
            one["model.layers.1.mlp.up_proj.weight" if make is llama else next(iter(one))].mul_(1.5)
    swdc.save_pretrained(slim, model, tmp_path / "slim")
    found = loaded(model, tmp_path / "slim")
    assert {key: getattr(found.config, key) for key in numbers} == numbers
    assert error_of(found, masked, use_cache=False) <= (1e-6 if make is llama else 1e-9)  # gains are rounded


def test_parts_of_layers_cannot_be_said(tmp_path: Path) -> None:
    model = llama()
    program = swdc.trace(model, {"input_ids": IDS})
    plan = swdc.plan(program, 0.25, "blocks", structure="blocks", criterion=lambda _, names, __: range(len(names)))
    with pytest.raises(ExportError, match="expected whole layers of LlamaForCausalLM to be removed"):
        swdc.save_pretrained(swdc.slim(program, plan), model, tmp_path / "slim")
    assert not (tmp_path / "slim").exists()


def test_it_loads_where_swdc_is_not_installed(tmp_path: Path) -> None:
    model = gpt2()
    _, slim = cut(model, sparsity={"*.c_fc*": 0.5})
    swdc.save_pretrained(slim, model, tmp_path / "slim")
    code = (
        "import sys; sys.modules['swdc'] = None\n"
        "from transformers import AutoModelForCausalLM\n"
        f"model = AutoModelForCausalLM.from_pretrained({str(tmp_path / 'slim')!r})\n"
        "print(model.transformer.h[0].mlp.c_fc.weight.shape)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == "torch.Size([32, 64])"


def test_widths_that_the_configuration_cannot_say_are_refused(tmp_path: Path) -> None:
    model = llama()
    program = swdc.trace(model, {"input_ids": IDS})
    uneven = swdc.slim(program, swdc.plan(program, {"model.layers.0.mlp.gate_proj": 0.5}))
    with pytest.raises(ExportError, match=r"intermediate_size in its configuration would have to be 24 and 48 at once"):
        swdc.save_pretrained(uneven, model, tmp_path / "slim")
    heads = swdc.slim(program, swdc.plan(program, {"*embed_tokens*": 0.5}, policy="tied"))
    swdc.save_pretrained(heads, model, tmp_path / "slim")
    assert json.loads((tmp_path / "slim" / "config.json").read_text())["hidden_size"] == 16
    assert not [path for path in tmp_path.iterdir() if path.name != "slim"]


def test_layer_norms_over_fewer_channels_are_refused(tmp_path: Path) -> None:
    model = gpt2()
    _, slim = cut(model, sparsity={"transformer.wte*": 0.25})
    with pytest.raises(ExportError, match=r"got LayerNorm at transformer\.h\.0\.ln_1, which takes a mean over"):
        swdc.save_pretrained(slim, model, tmp_path / "slim")


def test_what_is_not_of_transformers_is_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    program = swdc.trace(model, torch.randn(2, 4))
    slim = swdc.slim(program, swdc.plan(program, 0.5))
    with pytest.raises(ExportError, match=r"expected a model of transformers, .* got Sequential without config"):
        swdc.save_pretrained(slim, model, tmp_path / "slim")
    with pytest.raises(TransplantError, match="got one of another graph"):
        swdc.save_pretrained(cut(gpt2(), sparsity={"*.c_fc*": 0.5})[1], llama(), tmp_path / "slim")


def test_a_folder_of_something_else_stays(tmp_path: Path) -> None:
    model = gpt2()
    _, slim = cut(model, sparsity={"*.c_fc*": 0.5})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(ArtifactError, match="which holds other files"):
        swdc.save_pretrained(slim, model, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for _ in range(2):  # its own folder is replaced
        swdc.save_pretrained(slim, model, tmp_path / "slim")
    model.save_pretrained(tmp_path / "dense")
    with pytest.raises(ArtifactError, match="which holds other files"):
        swdc.save_pretrained(slim, model, tmp_path / "dense")
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.config.n_inner is None


def test_a_kill_while_a_folder_is_written_leaves_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = gpt2()
    _, first = cut(model, sparsity={"*.c_fc*": 0.5})
    _, second = cut(model, sparsity={"*.c_fc*": 0.25})
    swdc.save_pretrained(first, model, tmp_path / "slim")
    before = {file.name: file.read_bytes() for file in (tmp_path / "slim").iterdir()}

    def killed(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr("swdc.artifacts.pretrained.save._check_loaded", killed)  # all files are written by then
    child = os.fork()
    if child == 0:
        swdc.save_pretrained(second, model, tmp_path / "slim")
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert {file.name: file.read_bytes() for file in (tmp_path / "slim").iterdir()} == before
    monkeypatch.undo()
    swdc.save_pretrained(second, model, tmp_path / "slim")
    assert [path.name for path in tmp_path.iterdir()] == ["slim"]
    assert loaded(model, tmp_path / "slim").config.n_inner == 96


def test_heads_that_the_class_counts_by_the_residual_stream_are_refused_by_name(tmp_path: Path) -> None:
    """GPT-2 has one number for the residual stream and for heads times their size: no even plan mends that."""
    model = gpt2()
    program = swdc.trace(model, {"input_ids": IDS})
    slim = swdc.slim(program, swdc.plan(program, {"*attn.c_attn*": 0.5}, even=True))
    with pytest.raises(ExportError, match=r"n_embd .* would have to be 16 and 32 at once .* one number for") as refused:
        swdc.save_pretrained(slim, model, tmp_path / "slim")
    assert "ignore=['transformer.h.*.attn.c_attn']" in str(refused.value)
    assert "even=True" not in str(refused.value)


def test_numbers_that_the_class_refuses_are_told_with_those_of_before(tmp_path: Path) -> None:
    model = llama()
    program = swdc.trace(model, {"input_ids": IDS})
    slim = swdc.slim(program, swdc.plan(program, {"*embed_tokens*": 2 / 32}, even=True))
    with pytest.raises(ExportError, match=r"got hidden_size=30 \(now 32\), with which it fails"):
        swdc.save_pretrained(slim, model, tmp_path / "slim")
