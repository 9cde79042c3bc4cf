from statistics import median

import pytest
import torch

import swdc
from examples.bench.measurements import seconds as compiling
from examples.bench.measurements.seconds import Chain, compare, scaling


def test_rows_put_both_sides_beside_each_other(monkeypatch):
    monkeypatch.setattr(compiling, "NETWORKS", ("squeezenet1_1",))
    monkeypatch.setattr(compiling, "SIDE", 64)
    (row,) = compare(repeats=1)
    assert row["network"] == "squeezenet1_1"
    assert row["ours"] == pytest.approx(row["analysis"] + row["plan"] + row["slim"])
    assert row["peer"] == pytest.approx(row["peer_build"] + row["peer_prune"])
    assert row["ratio"] == pytest.approx(row["ours"] / row["peer"])


def test_analysis_grows_about_linearly():
    rows = list(scaling(blocks=(20, 160), repeats=3))
    assert [row["blocks"] for row in rows] == [20, 160]
    assert rows[1]["ratio"] <= 8 * 1.5


def test_the_chain_is_one_stream_and_a_group_for_each_block():
    program = swdc.trace(Chain(5), torch.randn(2, 16))
    assert len(program.groups) == 6
    assert median(group.width for group in program.groups) == 16
