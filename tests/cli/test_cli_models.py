"""Programs from what the command line names."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from swdc.cli.terminal.models import Source, find_callable, load_program, make_model, parse_arguments
from swdc.errors import CommandError
from tests.cli import small_models


@pytest.fixture(autouse=True)
def _own_module_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


def test_a_module_that_exits_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(7)\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match="that can be imported, but that raises SystemExit: 7"):
        find_callable("leaves:make")


def test_arguments_are_literals_where_they_can_be() -> None:
    texts = ["a=3", "b=0.5", "c=[1, 2]", "d=None", "e=True", "f=IMAGENET1K_V1", "g=x=y", "h="]
    expected = {
        "a": 3,
        "b": 0.5,
        "c": [1, 2],
        "d": None,
        "e": True,
        "f": "IMAGENET1K_V1",
        "g": "x=y",
        "h": "",
    }
    assert parse_arguments(texts) == expected


@pytest.mark.parametrize("text", ["width", "=3", "a-b=3", ""])
def test_other_arguments_are_refused(text: str) -> None:
    with pytest.raises(
        CommandError, match=r"expected an argument as key=value, got .*write for example num_classes=10"
    ):
        parse_arguments([text])


def test_an_argument_comes_once() -> None:
    with pytest.raises(CommandError, match="expected each argument once, got 'width' twice"):
        parse_arguments(["width=1", "width=2"])


@pytest.mark.parametrize("path", ["mlp", "namespace.maker.mlp"])
def test_a_callable_is_found_by_its_dotted_name(path: str) -> None:
    assert find_callable(f"tests.cli.small_models:{path}") is small_models.mlp


def test_modules_of_the_current_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model_of_this_folder.py").write_text("def build(): return 5\n")
    monkeypatch.chdir(tmp_path)
    assert find_callable("model_of_this_folder:build")() == 5


@pytest.mark.parametrize("name", ["resnet18", "module:", ":callable", "no/such/folder", "net.onnx", ""])
def test_another_form_is_refused(name: str) -> None:
    with pytest.raises(
        CommandError,
        match=r"expected a model as module:callable or the folder of a saved one, got .*which is neither",
    ):
        load_program(Source(name))  # the name is told first, though the inputs are missing, too


def test_a_misspelt_callable_gets_a_suggestion() -> None:
    with pytest.raises(CommandError, match=r"there is no 'Residuall' in it; did you mean Residual"):
        find_callable("tests.cli.small_models:Residuall")


def test_a_callable_like_none_gets_a_hint() -> None:
    with pytest.raises(CommandError, match=r"there is no 'qqqqqq' in it; check the name after the colon"):
        find_callable("tests.cli.small_models:namespace.qqqqqq")


def test_a_value_is_no_callable() -> None:
    with pytest.raises(
        CommandError, match=r"to name a callable that makes a model, got int; name a function or a class"
    ):
        find_callable("tests.cli.small_models:number")


def test_a_missing_module_is_named() -> None:
    with pytest.raises(
        CommandError, match=r"there is no module 'no_such_module'; install it, or run swdc in the folder"
    ):
        find_callable("no_such_module:build")


def test_a_missing_submodule_is_named() -> None:
    with pytest.raises(CommandError, match=r"there is no module 'torch\.no_such'; check its name"):
        find_callable("torch.no_such:build")


def test_a_missing_dependency_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model_with_dependency.py").write_text("import torchvision.models\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(
        CommandError,
        match=r"there is no module 'torchvision(\.models)?'; install it with pip install 'swdc\[vision\]'",
    ):
        find_callable("model_with_dependency:build")


def test_a_dependency_missing_at_the_call_names_its_extra() -> None:
    with pytest.raises(CommandError, match=r"there is no module 'timm'; install it with pip install 'swdc\[bench\]'"):
        make_model("tests.cli.small_models:wants_timm", small_models.wants_timm, {}, 0)


def test_an_error_while_importing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model_that_fails.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        CommandError, match=r"that can be imported, but that raises ZeroDivisionError: division by zero"
    ):
        find_callable("model_that_fails:build")


def test_an_error_while_making_the_model_is_told() -> None:
    with pytest.raises(
        CommandError, match=r"expected m:broken\(\) to make a model, but that raises ValueError: no such size"
    ):
        make_model("m:broken", small_models.broken, {}, 0)


def test_arguments_that_do_not_fit_are_told() -> None:
    with pytest.raises(
        CommandError, match=r"expected m:mlp\(depth=3\) to make a model, but that raises TypeError: .*depth"
    ):
        make_model("m:mlp", small_models.mlp, {"depth": 3}, 0)


def test_what_is_made_must_be_a_module() -> None:
    with pytest.raises(CommandError, match=r"expected m:seven\(\) to make a torch\.nn\.Module, got int"):
        make_model("m:seven", small_models.seven, {}, 0)


def test_a_module_that_is_there_is_taken() -> None:
    assert make_model("m:ready", small_models.ready, {}, 0) is small_models.ready
    with pytest.raises(CommandError, match=r"expected no --arg with 'm:ready', which is a Sequential made already"):
        make_model("m:ready", small_models.ready, {"width": 3}, 0)


def test_the_seed_decides_the_weights_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, again, other = (make_model("m:mlp", small_models.mlp, {"width": 6}, seed) for seed in (1, 1, 2))
    weights = [next(model.parameters()) for model in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].shape == (6, 4)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_program_has_the_weights_and_inputs_asked_for(tmp_path: Path) -> None:
    torch.manual_seed(3)
    trained: nn.Module = small_models.mlp(width=6)
    torch.save(trained.state_dict(), tmp_path / "best.pt")
    program = load_program(Source("tests.cli.small_models:mlp", ["2x4:float32"], ["width=6"], tmp_path / "best.pt"))
    x: Any = torch.randn(5, 4)
    torch.testing.assert_close(program(x), trained(x), rtol=0, atol=0)
    assert not program.training


def test_a_folder_comes_alone(tmp_path: Path) -> None:
    with pytest.raises(
        CommandError, match=r"expected a saved folder alone, got .* with --input, --arg; leave them out"
    ):
        load_program(Source(str(tmp_path), ["1x3"], ["a=3"]))
