"""``swdc slim``."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import swdc
from swdc.artifacts.folder.save import load
from swdc.artifacts.report.slimming import why_not_exact
from swdc.cli.slim.latency import latency_rows
from swdc.costs.latency import MeasuredTable
from swdc.costs.latency.measuring import Probe
from swdc.ir.groups import ChannelGroup
from swdc.ir.program import Program
from tests.artifacts.report.reading import Page
from tests.cli import small_models
from tests.cli.support_cli import run, run_error, run_json

RESIDUAL = ("slim", "tests.cli.small_models:Residual", "--input", "1x3x8x8")


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let layers take the time of a formula, and return the folder of their table.

    How much of the time of a tiny network can go is up to the machine, and so is whether a budget can be met.
    """

    def microseconds(probes: Sequence[Probe], threads: int) -> list[float]:
        return [prod(sizes) / 1000 for _, sizes in probes]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("swdc.cli.slim.command.MeasuredTable", partial(MeasuredTable, measure=microseconds))
    return tmp_path / "cache" / "swdc" / "latency"


def test_a_model_is_cut_certified_and_saved(tmp_path: Path) -> None:
    result = run(*RESIDUAL, "--out", tmp_path / "slim")
    assert result.exit_code == 0, result.stderr
    assert "certificate: exact" in result.stdout
    assert "Channels that each layer writes" in result.stdout
    assert [n for n in ("parameters", "(paper)", "(reference)", "(macs)") if n not in result.stdout] == []
    assert f"swdc.load('{tmp_path / 'slim'}')" in result.stdout
    slim = load(tmp_path / "slim")
    assert slim.stem.out_channels < 8
    assert slim(torch.randn(2, 3, 8, 8)).shape == (2, 3)


def test_json_has_what_stood_before_and_after(tmp_path: Path) -> None:
    document = run_json(*RESIDUAL, "--scope", "group", "--out", tmp_path / "slim")
    dense = swdc.count(swdc.trace(small_models.Residual().eval(), torch.randn(1, 3, 8, 8)))
    slim = swdc.count(load(tmp_path / "slim"))
    assert document["exact"] is True
    assert document["max_relative_error"] <= 1e-9
    assert document["parameters"] == {"before": dense.parameters, "after": slim.parameters}
    assert document["operations"] == {"before": dense.operations, "after": slim.operations}
    assert document["macs"] == {"before": dense.macs, "after": slim.macs}
    assert document["conventions"]["macs"] == document["macs"]
    assert document["groups"] == {"stem": {"before": 8, "after": 4}}
    stem = next(layer for layer in document["layers"] if layer["name"] == "stem")
    assert stem["width"] == {"before": 8, "after": 4}
    assert stem["parameters"] == {"before": 224, "after": 112}
    assert document["certificate"]["exact"] is True
    assert document["reason"] is None
    assert document["out"] == str(tmp_path / "slim")
    assert document["onnx"] is None


def test_settings_reach_the_plan(tmp_path: Path) -> None:
    document = run_json(
        *RESIDUAL, "--sparsity", 0.4, "--budget", "parameters", "--criterion", "l1", "--round-to", 2,
        "--ignore", "head", "--ignore", "head.*", "--out", tmp_path / "slim",
    )  # fmt: skip
    assert document["settings"] == {
        "sparsity": 0.4, "budget": "parameters", "criterion": "l1", "scope": "global", "round_to": 2,
        "at_most": 1.0, "even": False, "ignore": ["head", "head.*"], "policy": "tied", "frozen": "cut",
        "seed": 0,
    }  # fmt: skip
    assert document["groups"]["stem"]["after"] % 2 == 0
    assert document["parameters"]["after"] <= 0.6 * document["parameters"]["before"]


def first_channels(program: Program, groups: Sequence[ChannelGroup]) -> list[np.ndarray]:
    """Score the first channels highest."""
    return [np.arange(group.width, 0, -1.0) for group in groups]


def test_a_criterion_may_be_a_function_of_ones_own(tmp_path: Path) -> None:
    own = f"{__name__}:first_channels"
    document = run_json(*RESIDUAL, "--criterion", own, "--out", tmp_path / "slim")
    plan = swdc.load(tmp_path / "slim").facts.origin.plan
    assert document["settings"]["criterion"] == "first_channels"
    assert plan.kept == {name: tuple(range(width // 2)) for name, width in plan.widths.items()}


def test_batch_norms_are_inserted_on_demand(tmp_path: Path) -> None:
    arguments = (*RESIDUAL, "--insert-batchnorm", "--criterion", "gamma")
    document = run_json(*arguments, "--out", tmp_path / "slim")
    assert document["exact"] is True
    names = [layer["name"] for layer in document["layers"]]
    assert "sum_batchnorm" in names
    assert load(tmp_path / "slim").sum_batchnorm.num_features == 4


def test_weights_from_a_file_are_used(tmp_path: Path) -> None:
    torch.manual_seed(9)
    model = small_models.mlp().eval()
    torch.save(model.state_dict(), tmp_path / "best.pt")
    arguments = ("--input", "1x4", "--weights", tmp_path / "best.pt", "--out", tmp_path / "slim")
    run_json("slim", "tests.cli.small_models:mlp", *arguments)
    program = swdc.trace(model, torch.randn(1, 4))
    masked = swdc.mask(program, swdc.plan(program))
    x = torch.randn(6, 4)
    torch.testing.assert_close(load(tmp_path / "slim")(x), masked(x))


def test_an_onnx_file_is_written_on_demand(tmp_path: Path) -> None:
    file = tmp_path / "slim.onnx"
    document = run_json(
        "slim", "tests.cli.small_models:mlp", "--input", "1x4", "--out", tmp_path / "slim", "--onnx", file
    )
    assert document["onnx"]["path"] == str(file)
    assert document["onnx"]["max_relative_error"] <= 1e-4
    onnx.checker.check_model(str(file))


def test_a_page_shows_the_numbers_of_the_document(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    document = run_json(*RESIDUAL, "--out", tmp_path / "slim", "--onnx", tmp_path / "slim.onnx", "--report", page)
    data = Page(page).data
    assert document["report"] == str(page)
    assert data["title"] == document["model"] == RESIDUAL[1]
    assert data["slim"] == {name: document[name] for name in data["slim"]}
    assert data["onnx"] == document["onnx"]
    assert data["inspect"] == {
        name: value for name, value in run_json("inspect", *RESIDUAL[1:]).items() if name in data["inspect"]
    }


def test_without_a_proof_only_the_page_is_written_which_says_why(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    arguments = ("slim", "tests.cli.small_models:Deaf", "--input", "1x4", "--out", tmp_path / "slim")
    result = run(*arguments, "--report", page)
    assert result.exit_code == 1
    assert "nothing but the report was written" in result.stderr
    assert list(tmp_path.iterdir()) == [page]
    assert "removing these channels changes the output by 0.0e+00" in Page(page).by_id("main").text


def test_a_page_goes_to_a_file_of_that_name_only(tmp_path: Path) -> None:
    for name, told in (("page.txt", "expected a path that ends in .html"), (".", "got the folder")):
        assert told in run_error(*RESIDUAL, "--out", tmp_path / "slim", "--report", tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_graph_network_is_slimmed(tmp_path: Path) -> None:
    inputs = ("--input", "10x5", "--input", "2x30:int64<10")
    document = run_json("slim", "tests.cli.small_graph_models:GraphNetwork", *inputs, "--out", tmp_path / "slim")
    assert document["exact"] is True
    assert document["parameters"]["after"] < document["parameters"]["before"]


def test_inputs_by_keyword(tmp_path: Path) -> None:
    inputs = ("--input", "ids=1x5:int64<20", "--input", "mask=1x5:bool")
    document = run_json("slim", "tests.cli.small_models:Words", *inputs, "--out", tmp_path / "slim")
    assert document["exact"] is True
    slim = load(tmp_path / "slim")
    assert slim(ids=torch.zeros(2, 5, dtype=torch.int64), mask=torch.ones(2, 5, dtype=torch.bool)).shape == (
        2,
        2,
    )


def test_resnet18_of_torchvision(tmp_path: Path) -> None:
    result = run("slim", "torchvision.models:resnet18", "--input", "1x3x64x64", "--out", tmp_path / "slim")
    assert result.exit_code == 0, result.stderr
    assert "certificate: exact" in result.stdout
    assert "layer4.1.conv2" in result.stdout
    counted = run_json("count", tmp_path / "slim")
    assert counted["before"]["parameters"] == 11_689_512
    assert counted["parameters"] < 0.5 * 11_689_512


def test_a_saved_folder_is_inspected_and_counted_beside_what_it_was(tmp_path: Path) -> None:
    run_json(*RESIDUAL, "--out", tmp_path / "slim")
    inspected = run_json("inspect", tmp_path / "slim")
    assert inspected["groups"][0]["width"] == 4
    assert inspected["certificate"]["exact"] is True
    assert "certificate: exact" in run("inspect", tmp_path / "slim").stdout
    result = run("count", tmp_path / "slim")
    assert result.exit_code == 0, result.stderr
    assert "before" in result.stdout
    message = run_error("count", tmp_path / "slim", "--input", "1x3x8x8")
    assert "expected a saved folder alone" in message


@pytest.mark.parametrize("as_json", [False, True])
def test_without_a_proof_nothing_is_written_and_the_code_is_1(tmp_path: Path, as_json: bool) -> None:
    arguments: tuple[Any, ...] = (
        "slim",
        "tests.cli.small_models:Deaf",
        "--input",
        "1x4",
        "--out",
        tmp_path / "slim",
    )
    result = run(*arguments, "--onnx", tmp_path / "slim.onnx", *(["--json"] if as_json else []))
    assert result.exit_code == 1
    assert "expected an exact certificate, but removing these channels changes the output by 0.0e+00" in result.stderr
    assert "nothing was written" in result.stderr
    assert list(tmp_path.iterdir()) == []
    if as_json:
        document = run_json(*arguments, exit_code=1)
        assert document["exact"] is False
        assert document["out"] is None
        assert "too little for the comparison to prove anything" in document["reason"]
    else:
        assert "certificate: NOT exact" in result.stdout


def test_a_plan_that_removes_nothing_proves_nothing(tmp_path: Path) -> None:
    document = run_json(*RESIDUAL, "--sparsity", 0, "--out", tmp_path / "slim", exit_code=1)
    assert "the plan removes no channel, so that there is nothing to prove" in document["reason"]


def test_a_difference_is_told_with_its_node() -> None:
    program = swdc.trace(small_models.mlp(), torch.randn(1, 4))
    chosen = swdc.plan(program)
    certificate = swdc.verify(swdc.mask(program, chosen), swdc.slim(program, chosen))
    assert why_not_exact(certificate) is None
    node = "relu (aten.relu.default) at model.py:3"
    differing = replace(certificate, exact=False, max_relative_error=0.25, first_difference=node)
    assert why_not_exact(differing) == (
        "the slim program differs from the masked one by 2.5e-01 of its output (at most 1e-09 is rounding); "
        "the first node that differs is relu (aten.relu.default) at model.py:3"
    )


@pytest.mark.parametrize("sparsity", ["1", "-1", "1.5"])
def test_a_sparsity_out_of_range_is_told(tmp_path: Path, sparsity: str) -> None:
    message = run_error(*RESIDUAL, "--sparsity", sparsity, "--out", tmp_path / "slim")
    assert "expected a sparsity (the share that is removed) of at least 0 and below 1" in message
    assert list(tmp_path.iterdir()) == []


def test_a_budget_that_cannot_be_met_is_told(tmp_path: Path) -> None:
    message = run_error(*RESIDUAL, "--sparsity", "0.999", "--budget", "parameters", "--out", tmp_path / "slim")
    assert "expected a budget that can be met, but at most" in message


def test_a_pattern_that_matches_nothing_is_told(tmp_path: Path) -> None:
    message = run_error(*RESIDUAL, "--ignore", "layer9.*", "--out", tmp_path / "slim")
    assert "'layer9.*' matches none" in message


def test_rounding_to_less_than_one_is_told(tmp_path: Path) -> None:
    message = run_error(*RESIDUAL, "--round-to", "0", "--out", tmp_path / "slim")
    assert "expected round_to as a whole number of at least 1, got 0" in message


def test_a_model_of_which_nothing_can_go_is_told(tmp_path: Path) -> None:
    message = run_error("slim", "tests.cli.small_models:narrow", "--input", "1x4", "--out", tmp_path / "slim")
    assert "expected at least one group of removable channels" in message


def test_where_results_go_is_checked_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    message = run_error("slim", "tests.cli.small_models:broken", "--out", tmp_path / "file")
    assert f"expected --out to name a folder, got the file {tmp_path / 'file'}" in message
    assert (tmp_path / "file").read_text() == "mine"
    message = run_error("slim", "tests.cli.small_models:broken", "--out", tmp_path / "slim", "--onnx", tmp_path)
    assert f"expected --onnx to name a file, got the folder {tmp_path}" in message
    for option, file in (("--onnx", "slim.onnx"), ("--report", "parts/slim.html")):
        into = tmp_path / "slim" / file
        message = run_error("slim", "tests.cli.small_models:broken", "--out", tmp_path / "slim", option, into)
        assert f"expected {option} to name a file outside of --out" in message


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    torch.save(small_models.mlp(width=5).state_dict(), tmp_path / "best.pt")
    arguments = ("--input", "1x4", "--weights", tmp_path / "best.pt", "--out", tmp_path / "slim")
    assert "size mismatch for 0.weight" in run_error("slim", "tests.cli.small_models:mlp", *arguments)


def checkpoint(folder: Path, model: nn.Module) -> Path:
    """Write the weights of a model to two safetensors files and an index."""
    folder.mkdir()
    names = list(model.state_dict())
    where = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    for file in set(where.values()):
        save_file({n: model.state_dict()[n] for n in names if where[n] == file}, folder / file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def test_a_sharded_checkpoint_is_streamed_to_what_it_would_become_in_memory(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = small_models.Residual()
    weights = checkpoint(tmp_path / "weights", model)
    save_file(model.state_dict(), tmp_path / "one.safetensors")
    document = run_json(*RESIDUAL, "--weights", weights, "--out", tmp_path / "streamed")
    assert (document["exact"], document["certificate"]) == (None, None)
    assert "neither program was run" in document["reason"]
    run_json(*RESIDUAL, "--weights", tmp_path / "one.safetensors", "--out", tmp_path / "whole")
    streamed, whole = load(tmp_path / "streamed"), load(tmp_path / "whole")
    assert document["parameters"]["after"] == swdc.count(whole).parameters
    assert list(streamed.tensors) == list(whole.tensors)
    assert all(torch.equal(t, whole.tensors[name]) for name, t in streamed.tensors.items())
    result = run(*RESIDUAL, "--weights", tmp_path / "one.safetensors", "--stream", "--out", tmp_path / "streamed")
    assert "not verified: the weights were streamed" in result.stdout
    assert (tmp_path / "streamed" / "model.safetensors.index.json").is_file()
    assert load(tmp_path / "streamed").hash() == whole.hash()


def test_what_cannot_be_streamed_is_told(tmp_path: Path) -> None:
    weights = checkpoint(tmp_path / "weights", small_models.Residual())
    out = ("--out", tmp_path / "slim")
    assert "expected no --onnx with weights" in run_error(*RESIDUAL, *out, "--weights", weights, "--onnx", "x.onnx")
    message = run_error(*RESIDUAL, *out, "--weights", weights, "--insert-batchnorm")
    assert "expected no --insert-batchnorm with weights that are streamed" in message
    assert "expected --weights as a .safetensors file or a folder" in run_error(*RESIDUAL, *out, "--stream")
    message = run_error("slim", "tests.cli.small_models:mlp", "--input", "1x4", *out, "--weights", weights)
    assert "4 (0.weight, 0.bias, 2.weight, 2.bias) are missing" in message
    message = run_error(*RESIDUAL, *out, "--arg", "width=6", "--weights", weights)
    assert "expected stem.weight of shape (6, 3, 3, 3), got (8, 3, 3, 3) in the weights" in message
    assert not (tmp_path / "slim").exists()


def test_a_sharded_checkpoint_is_inspected_in_memory(tmp_path: Path) -> None:
    weights = checkpoint(tmp_path / "weights", small_models.Residual())
    document = run_json("inspect", "tests.cli.small_models:Residual", "--input", "1x3x8x8", "--weights", weights)
    assert document["groups"]


def test_a_budget_in_time_reports_what_was_predicted_and_what_was_measured(tmp_path: Path, clock: Path) -> None:
    arguments = ("slim", "tests.cli.small_models:Residual", "--input", "2x3x8x8", "--arg", "width=32")
    budget = ("--budget", "latency", "--round-to", 8, "--sparsity", 0.3)
    document = run_json(*arguments, *budget, "--out", tmp_path / "slim")
    found = document["latency"]
    assert document["exact"] is True
    assert (found["threads"], found["batch"], found["reason"]) == (1, 2, None)
    assert 0 < found["predicted_ms"]["after"] <= 0.7 * found["predicted_ms"]["before"] * (1 + 1e-9)
    assert found["predicted_ms"]["after"] == document["settings"]["predicted_ms"]
    assert min(found["measured_ms"].values()) > 0
    assert document["groups"]["stem"]["after"] % 8 == 0
    assert len(list(clock.glob("*.json"))) == 1
    title, rows = latency_rows({**found, "measured_ms": {"before": 2.0, "after": 0.5}})
    assert title == "In onnxruntime, 1 thread, batch 2"
    assert [row[0] for row in rows] == ["predicted", "measured"]
    assert rows[1][1:] == ["2.00", "0.50", "75.0%"]


def test_other_budgets_report_no_time(tmp_path: Path) -> None:
    document = run_json(*RESIDUAL, "--budget", "macs", "--out", tmp_path / "slim")
    assert document["latency"] is None
    assert document["macs"]["after"] <= 0.5 * document["macs"]["before"]


@pytest.mark.usefixtures("clock")
def test_streamed_weights_are_planned_for_time_but_not_timed(tmp_path: Path) -> None:
    weights = checkpoint(tmp_path / "weights", small_models.Residual(width=32))
    arguments = (*RESIDUAL, "--arg", "width=32", "--weights", weights, "--out", tmp_path / "slim")
    budget = ("--budget", "latency", "--round-to", 8, "--sparsity", 0.3)
    document = run_json(*arguments, *budget)
    assert document["latency"]["measured_ms"] is None
    assert "neither program was run" in document["latency"]["reason"]
    assert document["latency"]["predicted_ms"]["after"] < document["latency"]["predicted_ms"]["before"]
    result = run(*arguments, *budget)
    assert "In onnxruntime, 1 thread, batch 1" in result.stdout
    assert "predicted" in result.stdout
    assert "not measured: the weights were streamed" in result.stdout


def test_sides_of_residual_sums_are_freed_on_demand(tmp_path: Path) -> None:
    network = ("slim", "swdc.networks:resnet20", "--input", "1x3x16x16")
    free = run_json(*network, "--policy", "free", "--out", tmp_path / "free")
    tied = run_json(*network, "--out", tmp_path / "tied")
    assert free["exact"]
    assert free["settings"]["policy"] == "free"
    assert len(free["groups"]) > len(tied["groups"])
    assert swdc.load(tmp_path / "free").facts.policy == "free"
