"""Trained weights from files."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from swdc.cli.terminal.weights import load_weights, read_weights
from swdc.errors import CommandError
from tests.cli import small_models


def trained() -> nn.Module:
    torch.manual_seed(11)
    return small_models.mlp()


def equal(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_pickled_weights_are_found_at_the_top_or_in_a_checkpoint(tmp_path: Path, wrap: Any, suffix: str) -> None:
    source, model = trained(), small_models.mlp()
    torch.save(wrap(source.state_dict()), tmp_path / f"best{suffix}")
    load_weights(model, tmp_path / f"best{suffix}")
    assert equal(source, model)


def test_safetensors_are_read(tmp_path: Path) -> None:
    source, model = trained(), small_models.mlp()
    save_file(source.state_dict(), tmp_path / "best.safetensors")
    load_weights(model, tmp_path / "best.safetensors")
    assert equal(source, model)


def test_a_tied_tensor_may_be_stored_once(tmp_path: Path) -> None:
    source, model = small_models.Tied(), small_models.Tied()
    once = {name: t for name, t in source.state_dict().items() if name != "second.weight"}
    save_file(once, tmp_path / "tied.safetensors")
    load_weights(model, tmp_path / "tied.safetensors")
    assert equal(source, model)


def test_numbers_among_the_names_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({**nn.Linear(2, 2).state_dict(), 3: torch.zeros(1)}, path)
    with pytest.raises(CommandError, match="to hold tensors by name"):
        read_weights(path)


def test_complex_weights_of_a_real_model_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({name: torch.complex(t, t) for name, t in nn.Linear(2, 2).state_dict().items()}, path)
    with pytest.raises(CommandError, match="expected real numbers"):
        load_weights(nn.Linear(2, 2), path)


def test_missing_and_unexpected_names_are_listed(tmp_path: Path) -> None:
    state = trained().state_dict()
    state["3.weight"] = state.pop("2.weight")
    torch.save(state, tmp_path / "best.pt")
    with pytest.raises(
        CommandError,
        match=r"expected a tensor in .*best\.pt for each of Sequential and no other, but "
        r"1 \(2\.weight\) are missing and "
        r"1 \(3\.weight\) are unexpected; give the --arg values",
    ):
        load_weights(small_models.mlp(), tmp_path / "best.pt")


def test_long_lists_of_names_are_cut(tmp_path: Path) -> None:
    state = {**trained().state_dict(), **{f"extra.{n:02}": torch.zeros(1) for n in range(25)}}
    torch.save(state, tmp_path / "best.pt")
    with pytest.raises(
        CommandError, match=r"none are missing and 25 \(extra\.00, .*extra\.19 and 5 more\) are unexpected"
    ):
        load_weights(small_models.mlp(), tmp_path / "best.pt")


def test_other_shapes_are_listed(tmp_path: Path) -> None:
    torch.save(trained().state_dict(), tmp_path / "best.pt")
    with pytest.raises(
        CommandError,
        match=r"expected weights that fit Sequential, but .*size mismatch for 0\.weight.*give the --arg",
    ):
        load_weights(small_models.mlp(width=9), tmp_path / "best.pt")


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        CommandError, match=r"expected a file of weights, but there is none at .*none\.pt; check the path"
    ):
        read_weights(tmp_path / "none.pt")


def test_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.h5").write_bytes(b"")
    with pytest.raises(CommandError, match=r"expected weights in a file \.safetensors, .*got 'model\.h5'; convert it"):
        read_weights(tmp_path / "model.h5")


@pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(CommandError, match=r"expected .*broken.* to hold tensors only, but it cannot be read \(\w+"):
        read_weights(tmp_path / name)


class Intruder:
    """Would run code if it were unpickled."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("intruded"),)


def test_code_in_a_pickled_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Intruder()}, tmp_path / "bad.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Intruder()))
    for name in ("bad.pt", "plain.pt"):
        with pytest.raises(CommandError, match=r"expected .* to hold tensors only, but it cannot be read"):
            read_weights(tmp_path / name)
    assert not (tmp_path / "intruded").exists()


@pytest.mark.parametrize(("content", "found"), [([torch.zeros(1)], "list"), ({"epoch": 3}, r"the keys 1 \(epoch\)")])
def test_a_file_without_tensors_by_name_is_refused(tmp_path: Path, content: Any, found: str) -> None:
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(
        CommandError, match=rf"to hold tensors by name, at its top or under .*got {found}; save the model's"
    ):
        read_weights(tmp_path / "odd.pt")
