import copy
import warnings

import pytest
import torch
from torch import nn

import swdc
from examples.bench.coverage import measure as measuring
from examples.bench.coverage.measure import measure
from examples.bench.networks.entry import Entry
from examples.bench.running.row_files import KINDS, blank
from swdc.errors import ExportError


def row_of(model, *shape, least=0.25):
    row = blank("core", "it")
    measure(row.update, Entry("it", model, lambda: torch.randn(2, *shape)), 0, least)
    assert row["kind"] in KINDS
    assert bool(row["kind"]) == bool(row["reason"])
    return row


def dense():
    return nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3))


@pytest.fixture
def without_onnx(monkeypatch):
    monkeypatch.setattr(measuring, "_exported_error", lambda program: 0.0)


def test_a_network_of_which_all_holds():
    row = row_of(dense, 4)
    assert row["exact"]
    assert row["max_relative_error"] < 1e-12
    assert row["effect"] > 1e-3
    assert row["captured_by"] == "follow"
    assert row["parameters_before"] == 4 * 12 + 12 + 12 * 3 + 3
    assert row["parameters_after"] == 4 * 6 + 6 + 6 * 3 + 3
    assert row["reduction"] == 1 - row["parameters_after"] / row["parameters_before"]
    assert row["prunable_share"] == 1 - (4 + 1 + 3 + 3) / row["parameters_before"]
    assert (row["onnx"], row["transplant"]) == ("ok", "ok")
    assert row["onnx_max_relative_error"] < 1e-5
    assert list(row["seconds"]) == ["build", "capture", "analysis", "plan", "slim", "verify", "onnx", "transplant"]


def test_a_network_that_cannot_be_built():
    def broken():
        raise TypeError("no such option")

    row = row_of(broken, 4)
    assert (row["kind"], row["reason"]) == ("build", "build: TypeError: no such option")


def test_a_network_that_cannot_be_captured():
    class Broken(nn.Module):
        def forward(self, x):
            raise ValueError("not today")

    row = row_of(Broken, 3)
    assert row["kind"] == "capture"
    assert "not today" in row["reason"]
    assert not row["exact"]


def test_a_network_without_groups_says_what_holds_its_channels():
    row = row_of(lambda: nn.Linear(4, 3), 4)
    assert row["kind"] == "no groups"
    assert row["prunable_share"] == 0
    assert "output" in row["reason"]


def test_a_network_that_shrinks_too_little(without_onnx):
    def wide_head():
        return nn.Sequential(nn.Linear(400, 4), nn.ReLU(), nn.Linear(4, 400), nn.ReLU(), nn.Linear(400, 400))

    row = row_of(wide_head, 400, least=0.9)
    assert row["exact"]
    assert row["kind"] == "reduction"
    assert "of the parameters went, expected 90%" in row["reason"]


def test_a_network_whose_mask_changes_nothing(without_onnx):
    class Deaf(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, x):
            return x.mean() + 0.0 * self.second(torch.relu(self.first(x)))

    row = row_of(Deaf, 4)
    assert not row["exact"]
    assert row["kind"] == "no effect"


def test_a_defect_is_a_row_too(monkeypatch):
    def fails(program, plan):
        raise AssertionError("labels do not fit")

    monkeypatch.setattr(measuring, "slim", fails)
    row = row_of(dense, 4)
    assert (row["kind"], row["reason"]) == ("surgery", "surgery: AssertionError: labels do not fit")


def test_a_slim_network_that_differs(monkeypatch):
    def wrong(program, plan):
        small = swdc.slim(program, plan)
        with torch.no_grad():
            next(small.parameters()).mul_(1.001)
        return small

    monkeypatch.setattr(measuring, "slim", wrong)
    row = row_of(dense, 4)
    assert not row["exact"]
    assert row["kind"] == "not exact"
    assert row["onnx"] is None


@pytest.mark.parametrize(
    ("dense_fails", "kind", "found"), [(True, "", "dense export impossible"), (False, "onnx", "error")]
)
def test_an_export_that_fails_counts_where_that_of_the_dense_network_works(monkeypatch, dense_fails, kind, found):
    def exported(program):
        if program.facts.origin is not None or dense_fails:
            raise ExportError("expected an operator that can be exported")
        return 0.0

    monkeypatch.setattr(measuring, "_exported_error", exported)
    monkeypatch.setattr(measuring, "transplant", lambda slim, model: copy.deepcopy(slim))
    row = row_of(dense, 4)
    assert row["exact"]
    assert row["kind"] == kind
    assert row["onnx"].startswith(found)


def test_a_transplant_that_differs_or_fails(monkeypatch, without_onnx):
    monkeypatch.setattr(measuring, "transplant", lambda slim, model: copy.deepcopy(model))
    assert row_of(dense, 4)["transplant"].startswith("error: differs by")

    def fails(slim, model):
        raise AttributeError("no width")

    monkeypatch.setattr(measuring, "transplant", fails)
    row = row_of(dense, 4)
    assert row["exact"]
    assert row["kind"] == "transplant"
    assert row["transplant"] == "error: AttributeError: no width"


class Choosing(nn.Module):
    """Reads only the rows that score well: how many is up to the values."""

    def __init__(self, width=12):
        super().__init__()
        self.first, self.second = nn.Linear(4, width), nn.Linear(width, 3)

    def forward(self, x):
        chosen = x[x.sum(1) > 0]
        if len(chosen) == 0:
            chosen = x
        return self.second(torch.relu(self.first(chosen)))


def recorded_row():
    row = blank("core", "it")
    measure(row.update, Entry("it", Choosing, lambda: torch.randn(8, 4)))
    assert row["captured_by"] == "record", row["reason"]
    assert row["onnx"] == "not applicable"
    return row


def test_a_recorded_network_is_certified_by_its_own_class():
    row = recorded_row()
    assert row["exact"], row["reason"]
    assert row["effect"] > 1e-3
    assert row["transplant"] == "ok"


def test_a_recorded_network_whose_class_computes_something_else(monkeypatch):
    def transplanted(slim, model):
        mine = Choosing(6)
        mine.load_state_dict({name: tensor * 1.01 for name, tensor in slim.tensors.items() if "." in name})
        return mine

    monkeypatch.setattr(measuring, "transplant", transplanted)
    row = recorded_row()
    assert not row["exact"]
    assert row["kind"] == "not exact"


def test_what_had_to_be_replaced_in_the_class_is_noted(monkeypatch, without_onnx):
    def transplanted(slim, model):
        warnings.warn("the program's norm stands at norm", stacklevel=1)
        return copy.deepcopy(slim)

    monkeypatch.setattr(measuring, "transplant", transplanted)
    assert row_of(dense, 4)["transplant_notes"] == ["the program's norm stands at norm"]
