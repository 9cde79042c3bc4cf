"""Relaxing: fused operators over what is left, another function, and by how much is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from passes.relax_norms import RelaxNorms
from swdc.ir.differences import relative_error
from swdc.ir.program import Program
from swdc.ops import statistics
from swdc.rewriting.pipeline import run
from tests.support import Function, assert_same, certified, conv, image, operators, plan_of, text, traced

KEPT = [0, 2, 3]


def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.norm(m.embed(x))
    y = m.root(y) * y.mean(-1, keepdim=True) + F.layer_norm(y, (6,), m.gain)
    spread, mean = torch.var_mean(y, 2, keepdim=True)
    y = y * (y.amax(2, keepdim=True) - y.min(2, keepdim=True)[0]) + y * spread * mean + y * y.std((1, 2), keepdim=True)
    result: torch.Tensor = m.head(y)
    return result


def slimmed() -> Program:
    model = Function(
        forward, embed=nn.Linear(5, 6), norm=nn.LayerNorm(6), root=nn.RMSNorm(6), gain=nn.Parameter(torch.randn(6)),
        head=nn.Linear(6, 2),
    )  # fmt: skip
    program = traced(model, image(2, 4, 5))
    return certified(program, plan_of(program, {"embed": KEPT}))[1]


def by_hand(slim: Program, x: torch.Tensor) -> torch.Tensor:
    """Return what the fused operators of torch make of the slim parameters."""
    own = dict(slim.named_parameters())
    y = F.layer_norm(F.linear(x, own["embed.weight"], own["embed.bias"]), (3,), own["norm.weight"], own["norm.bias"])
    y = F.rms_norm(y, (3,), own["root.weight"]) * y.mean(-1, keepdim=True) + F.layer_norm(y, (3,), own["gain"])
    spread, mean = torch.var_mean(y, 2, keepdim=True)
    y = y * (y.amax(2, keepdim=True) - y.min(2, keepdim=True)[0]) + y * spread * mean + y * y.std((1, 2), keepdim=True)
    return F.linear(y, own["head.weight"], own["head.bias"])


def relaxed(slim: Program) -> Program:
    with pytest.warns(UserWarning, match=r"relaxed, which changes the output by \d") as heard:
        result = swdc.relax_norms(slim)
    assert {warning.filename for warning in heard} == {__file__}
    return result


def test_golden(golden: Callable[[str, str], None]) -> None:
    slim = slimmed()
    golden("relax_norms.before", text(slim))
    golden("relax_norms.after", text(relaxed(slim)))


def test_the_fused_operators_over_what_is_left() -> None:
    slim = slimmed()
    fused = relaxed(slim)
    x = image(3, 4, 5)
    assert_same(by_hand(slim, x), fused(x))
    assert not any(type(m).__module__ == statistics.__name__ for m in fused.leaves.values())
    assert isinstance(fused.get_submodule("norm"), nn.LayerNorm)
    assert isinstance(fused.get_submodule("root"), nn.RMSNorm)
    assert set(fused.state_dict()) == set(slim.state_dict())


def test_the_change_is_measured_and_noted() -> None:
    slim = slimmed()
    fused = relaxed(slim)
    x = image(3, 4, 5)
    assert relative_error(slim(x), fused(x)) > 1e-2
    (note,) = fused.facts.notes
    assert note.startswith("8 norms and statistics were relaxed, which changes the output by ")
    assert float(note.split(" by ")[1].split(",")[0]) > 1e-2
    assert note in fused.explain()


def test_a_group_norm() -> None:
    program = traced(nn.Sequential(conv(3, 8), nn.GroupNorm(2, 8), nn.SiLU(), conv(8, 2)))
    slim = certified(program, plan_of(program, {"0": [1, 2]}))[1]
    norm = relaxed(slim).get_submodule("1")
    assert isinstance(norm, nn.GroupNorm)
    assert (norm.num_groups, norm.num_channels) == (2, 4)


@pytest.mark.parametrize("gain", [False, True])
def test_standardised_weights(gain: bool) -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        w = F.batch_norm(m.w.reshape(1, 8, -1), None, None, m.g if gain else None, training=True).reshape_as(m.w)
        return m.d(F.gelu(F.conv2d(F.gelu(m.c(x)), w)))

    parts = {"w": nn.Parameter(torch.randn(8, 6, 3, 3)), "g": nn.Parameter(torch.randn(8))}
    program = traced(Function(forward, c=conv(3, 6), d=conv(8, 2), **parts))
    slim = certified(program, plan_of(program, {"w[1]": [0, 2]}))[1]
    fused, x = relaxed(slim), image(2, 3, 8, 8)
    own = dict(slim.named_parameters())
    y = F.gelu(F.conv2d(x, own["c.weight"], own["c.bias"], padding=1))
    flat = F.batch_norm(own["w"].flatten(1)[None], None, None, own["g"] if gain else None, training=True).reshape_as(
        own["w"]
    )
    assert_same(F.conv2d(F.gelu(F.conv2d(y, flat)), own["d.weight"], own["d.bias"], padding=1), fused(x))


def test_the_given_program_is_untouched_and_shares_nothing() -> None:
    slim = slimmed()
    before, described = slim(image(3, 4, 5)), text(slim)
    fused = relaxed(slim)
    with torch.no_grad():
        for tensor in fused.parameters():
            tensor.zero_()
    assert text(slim) == described
    assert_same(before, slim(image(3, 4, 5)), tolerance=0.0)


def test_modified_is_honest() -> None:
    program = traced(nn.Sequential(nn.Linear(5, 8), nn.LayerNorm(8), nn.Linear(8, 2)), image(2, 5))
    result = run(program, [RelaxNorms()])
    assert not result.modified
    assert result.program is program
    assert swdc.relax_norms(program) is program
    assert run(slimmed(), [RelaxNorms()]).modified


def test_there_is_nothing_left_to_verify_against() -> None:
    fused = relaxed(slimmed())
    assert fused.facts.origin is None


def test_it_is_slimmed_saved_trained_and_exported_like_any_program(tmp_path: Path) -> None:
    fused = relaxed(slimmed())
    loaded = swdc.load(swdc.save(fused, tmp_path / "fused"))
    assert loaded.facts.notes == fused.facts.notes
    again = certified(loaded)[1]
    assert operators(again).count("LayerNorm") == 2
    fused.train()(image(3, 4, 5)).sum().backward()
    assert swdc.export_onnx(fused, tmp_path / "fused.onnx").max_relative_error < 1e-4


def test_on_the_meta_device() -> None:
    with pytest.warns(UserWarning, match="not known on the meta device"):
        swdc.relax_norms(slimmed().to("meta"))
