from examples.bench.coverage.table import markdown, tables
from examples.bench.running.row_files import blank, write_rows
from tests.examples.bench.support_bench import run_bench


def measured(name, capture, **found):
    return {
        **blank("timm", name), "captured_by": "export", "prunable_share": 0.9, "parameters_before": 100,
        "parameters_after": 40, "operations_before": 200, "operations_after": 100, "reduction": 0.6, "exact": True,
        "max_relative_error": 2e-15, "effect": 0.5, "onnx": "ok", "onnx_max_relative_error": 3e-6,
        "transplant": "ok",
        "seconds": {"capture": capture, "analysis": 0.25, "plan": 0.25, "slim": 0.5, "verify": 9.0},
        "kind": "", "reason": "", "seed": 0, "versions": {"swdc": "0.1.0", "timm": "1.0"}, **found,
    }  # fmt: skip


def beside(**found):
    row = {"passes": True, "reduction": 0.5, "exact": True, "max_relative_error": 1e-16, "kind": "", "reason": ""}
    return {**row, "seconds": {"build": 1.0, "prune": 3.0, "compare": 20.0}, **found}


ROWS = [
    measured("first", 1.0, peer=beside()),
    measured("second", 5.0, peer=beside(exact=False, max_relative_error=0.4)),
    measured(
        "third", 2.0, exact=False, max_relative_error=0.1, onnx="dense export impossible: no",
        transplant="error: no | way",
        kind="not exact", reason="not exact: " + "long " * 50, peer=beside(passes=False, kind="time-out"),
    ),
]  # fmt: skip


def test_the_summary_counts_both_sides():
    text = tables(ROWS)
    assert "3 networks; swdc 0.1.0, timm 1.0; seed 0." in text
    assert "| runs with at least 25% fewer parameters | 2 | 2 |" in text
    assert "| computes what the masked network computes (1e-9 in float64) | 2 | 1 |" in text
    assert "| onnxruntime agrees (1e-3 in float32) | 2 |  |" in text
    assert "| the dense network cannot be exported either | 1 |  |" in text
    assert "Not met: not exact 1." in text


def test_times_are_compared_where_both_slim():
    text = tables(ROWS)
    assert "sum | 8.0 | 8.0 |" in text
    assert "| median of the ratios | 1.00 |  |" in text
    slowest = text.partition("Slowest of timm")[2]
    assert slowest.index("`second`") < slowest.index("`third`") < slowest.index("`first`")


def test_medians_of_paired_runs_count_where_there_are_any():
    paired = {"ours": {"capture": 0.5, "slim": 0.25}, "peer": {"build": 0.5, "prune": 2.5}, "runs": 3}
    text = tables([measured("first", 1.0, peer=beside(paired=paired)), {**ROWS[0], "library": "pyg"}])
    assert "| timm | 1 | 1 | 0.8 | 3.0 | 0.25 | 0.25 |" in text
    assert "| pyg | 1 | 1 | 2.0 | 4.0 | 0.50 | 0.50 |" in text
    assert "| all | 2 | 2 | 2.8 | 7.0 | 0.39 | 0.38 |" in text


def test_every_network_has_a_line():
    lines = {line.split(" | ")[0].strip("| `"): line for line in tables(ROWS).splitlines() if line.startswith("| `")}
    assert lines.keys() >= {"first", "second", "third"}
    text = tables(ROWS)
    assert "| `first` | export | 90% | -60% | -50% | 2e-15 | 3e-06 | ok | 2.0 | -50% | 1e-16 | 4.0 |  |" in text
    assert "| **4e-01** | 4.0 |" in text
    assert "| **1e-01** | dense fails | error | 3.0 | time-out |  |  | not exact: long" in text
    assert all(len(line) < 300 for line in text.splitlines())


def test_without_the_peer_its_columns_are_empty():
    text = tables([measured("first", 1.0)])
    assert "| runs with at least 25% fewer parameters | 1 |  |" in text
    assert "| ok | 2.0 |  |  |  |  |" in text


def test_cells_cannot_break_a_table():
    assert markdown(["a"], [["x | y"]]).splitlines()[2] == "| x \\| y |"


def test_the_command_prints_the_tables_of_files(tmp_path):
    write_rows(tmp_path / "timm.json", ROWS)
    result = run_bench("zoo-table", tmp_path / "timm.json")
    assert result.exit_code == 0, result.output
    assert "## timm" in result.output
    assert "| `second` |" in result.output
