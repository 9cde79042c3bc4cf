"""``swdc inspect``."""

from tests.cli.support_cli import run, run_error, run_json


def test_groups_frozen_channels_and_shares_are_printed() -> None:
    result = run("inspect", "tests.cli.small_models:Residual", "--input", "1x3x8x8")
    assert result.exit_code == 0, result.stderr
    assert "stem.weight[0], stem.bias[0], stem_norm.weight[0]" in result.stdout
    assert "is the model's output" in result.stdout
    assert "can be removed at most, when every group keeps one channel." in result.stdout


def test_json_has_groups_with_members_and_frozen_channels_with_reasons() -> None:
    document = run_json("inspect", "tests.cli.small_models:mlp", "--input", "1x4", "--arg", "width=6")
    assert document["groups"] == [
        {
            "name": "0",
            "width": 6,
            "writes": [{"tensor": "0.weight", "dim": 0}, {"tensor": "0.bias", "dim": 0}],
            "reads": [{"tensor": "2.weight", "dim": 1}],
        }
    ]
    held = {(entry["tensor"], entry["dim"]): entry for entry in document["frozen"]}
    assert set(held) == {("0.weight", 1), ("2.weight", 0), ("2.bias", 0)}
    assert held["2.weight", 0]["channels"] == 3
    assert held["2.weight", 0]["reason"] == "is the model's output"
    assert document["notes"] == []


def test_the_share_is_what_one_channel_a_group_leaves() -> None:
    document = run_json("inspect", "tests.cli.small_models:mlp", "--input", "1x4")
    assert document["parameters"] == 4 * 8 + 8 + 8 * 3 + 3
    left = 4 + 1 + 3 + 3
    assert document["removable_parameters"] == document["parameters"] - left
    assert document["removable_share"] == document["removable_parameters"] / document["parameters"]


def test_frozen_channels_have_the_users_source_line() -> None:
    document = run_json(
        "inspect", "tests.cli.small_models:Words", "--input", "ids=1x5:int64<20", "--input", "mask=1x5:bool"
    )
    rows = [entry for entry in document["frozen"] if entry["tensor"] == "embedding.weight"]
    assert [entry["operator"] for entry in rows] == ["aten.embedding.default"]
    assert "small_models.py:" in rows[0]["source"]


def test_a_graph_network_takes_features_and_edges() -> None:
    document = run_json(
        "inspect", "tests.cli.small_graph_models:GraphNetwork", "--input", "10x5", "--input", "2x30:int64<10"
    )
    assert [group["width"] for group in document["groups"]] == [8]


def test_a_model_of_which_nothing_can_go_is_told() -> None:
    result = run("inspect", "tests.cli.small_models:narrow", "--input", "1x4")
    assert result.exit_code == 0
    assert "No channel of this model can be removed." in result.stdout
    assert "0 of 15 parameters (0.00%)" in result.stdout


def test_notes_are_shown_and_what_the_model_prints_is_not_in_the_result() -> None:
    result = run("inspect", "tests.cli.small_models:Noisy", "--input", "1x4")
    assert result.exit_code == 0
    assert "note: " in result.stderr
    assert "train the model itself" in result.stderr
    assert "UserWarning" not in result.output
    assert "built" not in result.stdout
    assert "called" not in result.stdout
    document = run_json("inspect", "tests.cli.small_models:Noisy", "--input", "1x4")
    assert len(document["notes"]) == 1


def test_unusable_models_and_inputs_are_told() -> None:
    assert "expected a model as module:callable" in run_error("inspect", "resnet18", "--input", "1x3")
    assert "expected the shape of an example input, got none" in run_error("inspect", "tests.cli.small_models:mlp")
    message = run_error("inspect", "tests.cli.small_models:mlp", "--input", "1x5")
    assert "expected example inputs that Sequential can run on, got shapes [(1, 5)]" in message


def test_what_depends_on_values_is_recorded_and_says_so() -> None:
    result = run("inspect", "tests.cli.small_models:Undecided", "--input", "1x4")
    assert result.exit_code == 0
    assert "recorded on the example inputs" in " ".join((result.stdout + result.stderr).split())


def test_a_traceback_is_shown_on_demand() -> None:
    result = run("inspect", "tests.cli.small_models:broken", "--input", "1x4", "--traceback")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "ValueError: no such size" in result.stderr
