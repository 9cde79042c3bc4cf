"""``swdc slim hf:FOLDER``."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.cli.support_cli import run_error, run_json
from tests.support import randomise

transformers = pytest.importorskip("transformers")

IDS = torch.tensor([[3, 9, 1, 40, 7, 7]])


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a small Llama, in several files, with a tokenizer's files beside it."""
    folder = tmp_path_factory.mktemp("hf") / "llama"
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    randomise(transformers.LlamaForCausalLM(config)).float().save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 16}')
    (folder / "notes.txt").write_text("mine")
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """Return a copy of the folder that may be changed."""
    return Path(shutil.copytree(saved, tmp_path / "llama"))


def test_a_folder_in_a_folder_out(saved: Path, tmp_path: Path) -> None:
    out = tmp_path / "slim"
    document = run_json("slim", f"hf:{saved}", "--sparsity", 0.3, "--round-to", 4, "--out", out)
    assert document["certificate"]["exact"] is True
    assert document["out"] == str(out)
    dense, slim = (transformers.AutoModelForCausalLM.from_pretrained(each) for each in (saved, out))
    assert slim.config.use_cache is True
    assert slim.config.intermediate_size < dense.config.intermediate_size
    assert slim.num_parameters() == document["parameters"]["after"] < dense.num_parameters()
    slim.generate(IDS, max_new_tokens=3)
    assert json.loads((out / "tokenizer_config.json").read_text()) == {"model_max_length": 16}
    assert not (out / "notes.txt").exists()
    assert document["settings"]["even"] is True


def change(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


def without_weights(folder: Path) -> None:
    for file in [*folder.glob("*.safetensors"), folder / "model.safetensors.index.json"]:
        file.unlink()


def truncated(folder: Path) -> None:
    file = sorted(folder.glob("*.safetensors"))[0]
    file.write_bytes(file.read_bytes()[:-8])


def linked(folder: Path) -> None:
    file = sorted(folder.glob("*.safetensors"))[0]
    file.rename(folder.parent / "elsewhere")
    file.symlink_to(folder.parent / "elsewhere")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "code of its own": (
        lambda f: change(f / "config.json", auto_map={"AutoModel": "evil.Model"}), "got 'auto_map' in .*config.json"
    ),
    "code of a tokenizer": (
        lambda f: change(f / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}),
        "got 'auto_map' in .*tokenizer_config.json",
    ),
    "a class of another package": (
        lambda f: change(f / "config.json", architectures=["os.system"]), "name one class of transformers"
    ),
    "no class of a model": (
        lambda f: change(f / "config.json", architectures=["AutoTokenizer"]), "name one class of transformers"
    ),
    "another kind": (lambda f: change(f / "config.json", model_type="gpt2"), "expected a model_type of 'llama'"),
    "no weights": (without_weights, "expected model.safetensors or model.safetensors.index.json"),
    "other sizes": (lambda f: change(f / "config.json", intermediate_size=40), "that fit its config.json"),
    "more layers": (lambda f: change(f / "config.json", num_hidden_layers=3), "9 are missing"),
    "fewer layers": (lambda f: change(f / "config.json", num_hidden_layers=1), "9 are unknown"),
    "a truncated file": (truncated, "model-00001-of"),
    "a link out of the folder": (linked, "link out of the folder"),
    "no configuration": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "expected JSON"),
    "an adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "expected a whole model"),
    "quantised": (lambda f: change(f / "config.json", quantization_config={"bits": 4}), "whose weights are quantised"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_other_folders_are_refused_in_one_line_and_execute_nothing(
    what: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage, message = DAMAGE[what]
    marker = tmp_path / "executed"
    (folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')")
    monkeypatch.syspath_prepend(str(folder))
    damage(folder)
    said = run_error("slim", f"hf:{folder}", "--out", tmp_path / "slim")
    assert len(said.strip().splitlines()) == 1, said
    assert re.search(message, said), said
    assert not marker.exists()
    assert not (tmp_path / "slim").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--weights", "x"), "expected hf:.* alone, got --weights"),
        (("--onnx", "x.onnx"), "expected no --onnx with a model of transformers"),
        (("--input", "2x16:int64"), "expected inputs by name"),
    ],
)
def test_options_that_do_not_fit(arguments: tuple[str, str], message: str, saved: Path, tmp_path: Path) -> None:
    assert re.search(message, run_error("slim", f"hf:{saved}", *arguments, "--out", tmp_path / "slim"))


def test_the_folder_itself_is_not_overwritten(saved: Path) -> None:
    assert "another folder" in run_error("slim", f"hf:{saved}", "--out", saved)
