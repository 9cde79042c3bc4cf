"""Every public function shows an example in its docstring, and the examples run."""

from __future__ import annotations

import inspect
import re
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import swdc

EXAMPLE = re.compile(r"^(?:.*)::\n\n((?:    .*\n?|\n)+)", re.MULTILINE)
FUNCTIONS = [name for name in swdc.__all__ if inspect.isfunction(getattr(swdc, name))]
INLINE = {"calls"}
"""Functions whose example stands in a sentence."""
APART = {"save_pretrained", "register_way", "compress"}
"""Functions whose examples need a model of transformers, an addition for good, or training (docs/compress.md runs)."""
ORDER = (
    "trace", "insert_batchnorm", "count", "calibrate", "sensitivity", "fall_of_metric", "plan", "mask", "slim",
    "verify", "report", "refit", "recover",
    "relax_norms", "transplant", "deploy", "save", "load", "load_into", "export_onnx", "export", "quantize_onnx",
    "trace_skeleton", "slim_checkpoint", "register", "revise", "targets_of", "pass_names", "apply_pass",
    "slim_optimizer",
)  # fmt: skip


def example(name: str) -> str:
    """Return the example in a function's docstring."""
    found = EXAMPLE.findall(inspect.getdoc(getattr(swdc, name)) or "")
    return textwrap.dedent(found[-1]) if found else ""


def make_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4)).eval()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_says_what_it_raises_and_shows_an_example(name):
    text = inspect.getdoc(getattr(swdc, name)) or ""
    assert name in INLINE or f"swdc.{name}" in example(name), f"the docstring of {name} has no example"
    assert inspect.signature(getattr(swdc, name)).parameters == {} or "aise" in text or name in INLINE


def test_every_function_is_in_the_order_of_examples():
    assert {*ORDER, *INLINE, *APART} == set(FUNCTIONS)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = torch.randn(2, 3, 8, 8)
    operator = type("MyOperator", (swdc.Operator,), {"names": ("swdc_test.docstring.default",)})
    names = {
        "torch": torch, "swdc": swdc, "make_model": make_model, "x": x, "batches": [torch.randn(8, 3, 8, 8)] * 2,
        "MyOperator": operator, "model": make_model(),
    }  # fmt: skip
    save_file(names["model"].state_dict(), "model.safetensors")
    for name in ORDER:
        exec(compile(example(name), name, "exec"), names)
        if name == "insert_batchnorm":
            names["program"] = swdc.trace(names["model"], x)
            names["optimizer"] = torch.optim.SGD(names["program"].parameters(), lr=0.1)
    assert names["certificate"].exact
    assert isinstance(names["small"], nn.Sequential)
    swdc.ops.base.OPERATORS.operators.pop("swdc_test.docstring.default")
