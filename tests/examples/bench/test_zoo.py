import json

import pytest

from examples.bench.coverage.rows import Settings, zoo
from examples.bench.running.apart import Limits
from examples.bench.running.row_files import blank, read_rows, summary, write_rows
from swdc.errors import CommandError
from tests.examples.bench.support_bench import run_bench


def test_the_command_writes_a_row_for_each_network_and_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "rows" / "zoo.json"
    result = run_bench("zoo", "--only", "mlp", "--json", path)
    (first,) = json.loads(path.read_text())
    assert set(first) >= set(blank("core", "mlp")) | {"seed", "versions", "time_limit"}
    assert first["exact"]
    assert first["onnx"] == "ok"
    assert first["parameters_after"] <= 0.55 * first["parameters_before"]
    assert result.exit_code == (1 if first["kind"] else 0), result.output
    assert "1 of 1 exact" in result.output

    run_bench("zoo", "--only", "lenet5,mlp", "--peer", "--json", path)
    mlp, lenet = json.loads(path.read_text())
    assert [mlp["name"], lenet["name"]] == ["mlp", "lenet5"]
    assert mlp["seconds"] == first["seconds"], "measured again, though only the peer was missing"
    assert (mlp["peer"]["passes"], mlp["peer"]["exact"]) == (True, False)
    assert (lenet["peer"]["passes"], lenet["peer"]["exact"]) == (True, True)

    run_bench("zoo", "--only", "mlp", "--again", "--json", path)
    again, kept = json.loads(path.read_text())
    assert again["seconds"] != first["seconds"]
    assert kept == lenet


def test_a_network_without_time_is_a_row():
    (row,) = zoo(["mlp"], Settings(limits=Limits(0.01)))
    assert row["kind"] == "time-out"
    assert row["reason"].endswith("not done after 0.01 s")
    assert not row["exact"]


def test_what_is_gone_on_with():
    settings = Settings(limits=Limits(100.0))
    row = {**blank("core", "mlp"), "seed": 0, "time_limit": 100.0, "versions": {}}
    assert not settings.same(row)
    row["versions"] = settings.versions
    assert settings.same(row)
    assert not Settings(seed=1).same(row)
    assert not Settings("pyg").same(row)
    assert settings.same({**row, "kind": "time-out"})
    assert not Settings(limits=Limits(200.0)).same({**row, "kind": "time-out"})
    assert settings.complete(row)
    assert not Settings(peer=True).complete(row)
    assert Settings(peer=True).complete({**row, "peer": {}})
    assert not Settings(peer=True).complete({**row, "peer": {"versions": {"torch": "1.0"}}})  # of an earlier run


def test_rows_are_kept_in_a_file(tmp_path):
    path = tmp_path / "zoo.json"
    assert read_rows(path) == read_rows(None) == []
    rows = [blank("core", "one"), {**blank("core", "two"), "kind": ""}]
    write_rows(path, rows)
    assert read_rows(path) == rows
    assert [file.name for file in tmp_path.iterdir()] == ["zoo.json"]
    assert summary(rows) == {"": 1, "error": 1}
    for text in ("{", '{"rows": []}', "[1]"):
        path.write_text(text)
        with pytest.raises(CommandError, match="expected a JSON list of rows"):
            read_rows(path)


def test_unknown_networks_are_refused():
    result = run_bench("zoo", "--only", "alexnot")
    assert result.exit_code == 2
    assert "got 'alexnot'" in result.output
