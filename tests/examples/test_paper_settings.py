"""The settings of the experiments are the paper's, and so are the values that stand beside ours."""

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from common.methods import course
from common.options import Options
from common.recipes import RECIPES
from common.rows import Setting, add_row, digest, finished
from common.settings import base, grid, points
from common.tradeoff import TARGETS, _is_like, bounds
from results import PAPER

OPTIONS = Options(
    Path("data"), Path("out"), None, None, 1, (), (), None, None, "cpu", torch.preserve_format, "command"
)  # fmt: skip
SETTING = Setting("tradeoff", "resnet20", "cifar10", "swd", "weights", 0.9, 0, 300, 16, None, 128, 1.0, 1e4)


@pytest.mark.parametrize(
    ("method", "structure", "epochs"),
    [
        ("dense", "weights", 300), ("swd", "weights", 300), ("swd-auto", "channels", 300), ("thin", "channels", 300),
        ("magnitude", "weights", 300 + 4 * 15 + 50), ("slimming", "channels", 350), ("lr_rewinding", "channels", 600),
        ("growing_l2", "channels", 300 + 100 + 50), ("uniform_decay", "weights", 300), ("decay", "weights", 300),
    ],
)  # fmt: skip
def test_every_method_trains_as_long_as_in_the_paper(method: str, structure: str, epochs: int):
    setting = replace(SETTING, method=method, structure=structure)
    assert course(setting, RECIPES["cifar10"], steps=391).epochs == epochs


def test_fine_tuning_shrinks_with_the_epochs_and_an_unknown_method_is_told():
    small = RECIPES["cifar10"].scaled(30)
    assert (small.epochs, small.fine_tuning, small.slimming) == (30, (2, 2, 2, 2, 5), 5)
    assert RECIPES["cifar10"].scaled(1).fine_tuning == (1, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="expected a method of"):
        course(replace(SETTING, method="magic"), small, steps=3)


def test_points_and_grids_have_the_methods_that_apply_with_the_paper_s_bounds():
    dense = base("tradeoff", "resnet20", "cifar10", "channels", OPTIONS, 16)
    methods = ["magnitude", "slimming", "lr_rewinding", "swd"]
    found = points(dense, replace(OPTIONS, seeds=2), methods, TARGETS, bounds)
    assert len(found) == 2 * (1 + 3 * len(TARGETS))
    assert "magnitude" not in {setting.method for setting in found}
    assert {(s.a_min, s.a_max) for s in found if s.method == "swd"} == {(1e2, 1e6)}
    assert {(s.a_min, s.a_max) for s in found if s.method != "swd"} == {(None, None)}
    few = points(dense, replace(OPTIONS, methods=("swd",), targets=(0.75,)), methods, TARGETS, bounds)
    assert [(s.method, s.target) for s in few] == [("swd", 0.75)]
    cells = grid(dense, OPTIONS, (0.9,), (0.1, 1.0), (10.0,))
    assert [(s.method, s.a_min) for s in cells] == [("swd", 0.1), ("swd", 1.0), ("swd-auto", None)]


def test_rows_are_kept_by_their_setting(tmp_path: Path):
    file = tmp_path / "new" / "rows.json"
    assert finished(file, SETTING) is None
    other = replace(SETTING, seed=1)
    for setting, accuracy in ((SETTING, 1.0), (other, 2.0), (SETTING, 3.0)):
        add_row(file, setting, {"accuracy": accuracy})
    assert (finished(file, SETTING) or {})["accuracy"] == 3.0
    assert (finished(file, other) or {})["accuracy"] == 2.0
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})


def test_all_values_of_the_paper_are_there():
    assert Counter(row["experiment"] for row in PAPER) == {
        "tradeoff": 22 * 12, "table2": 21, "table4": 32, "table5": 50, "table6": 60, "table7": 75, "table8": 108,
        "table9": 88, "table10": 6,
    }  # fmt: skip
    by_setting = {
        (p["experiment"], p["structure"], p["method"], p["target"], p.get("width"), p.get("a_min"), p.get("a_max")): p
        for p in PAPER
        if p["network"] == "resnet20" and "target" in p
    }
    assert by_setting["tradeoff", "channels", "swd", 0.9, 16, None, None]["operations"] == 15.75
    assert by_setting["table6", "channels", "swd", 0.75, 64, 1e-3, 1e4]["accuracy"] == 36.51
    assert by_setting["table5", "weights", "swd", 0.9, 64, 1e-1, 10.0]["change"] == -4.33


def test_pictures_draw_rows_at_any_target_of_their_own_scale():
    dense = base("tradeoff", "resnet20", "cifar10", "weights", OPTIONS, 16)
    row = asdict(replace(dense, method="swd", target=0.98, a_min=1.0, a_max=1e4))
    assert _is_like(row, [dense])
    assert _is_like({**row, "method": "swd-auto", "a_min": None, "a_max": None}, [dense])
    for other in ({"epochs": 12}, {"a_max": 1e5}, {"structure": "channels"}, {"width": 64}, {"subset": 5000}):
        assert not _is_like({**row, **other}, [dense])
