"""What recorded code reads from tensors: a program refuses inputs from which it reads something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

import swdc
from swdc.errors import InputError
from swdc.ir.program import Program
from tests.support import Function, assert_equal, image, randomise

pytestmark = pytest.mark.filterwarnings("ignore:recorded on the example inputs")

X = image(5, 4)
"""Seven of its numbers are above zero."""

Read = Callable[[torch.Tensor], Any]


def _of(read: Read) -> Program:
    def code(m: Any, x: torch.Tensor) -> Any:
        y = m.b(m.a(x).relu())
        return y * 2 if read(x) else y

    program = swdc.trace(randomise(Function(code, a=nn.Linear(4, 8), b=nn.Linear(8, 3))).eval(), X)
    assert program.facts.captured_by == "record"
    return program


READS: dict[str, Read] = {
    "a truth value": lambda x: bool(x[0, 0] > -2),
    "a condition in Python": lambda x: 1 if x[0].sum() > -9 else 0,
    "a whole number": lambda x: int((x > 0).sum()) > 3,
    "a fraction": lambda x: x.mean().item() > 0.1,
    "zero": lambda x: (x[0] + 2).clamp_max(0).sum().item() == 0,
    "infinity": lambda x: (1 / (x[0] + 2).clamp_max(0)).sum().item() > 3,
    "not a number": lambda x: (x[0] + 2).clamp_max(0).div((x[0] + 2).clamp_max(0)).sum().item() > 3,
    "two that are equal": lambda x: torch.equal(x[0], x[0].clamp_min(-2.5)),
    "two that are close": lambda x: torch.allclose(x[0], x[0].clamp_min(-2.5), atol=1e-3),
    "two that are not": lambda x: not torch.equal(x[0], x[1]),
    "how many are found": lambda x: len(torch.nonzero(x > 0)) > 3,
    "how many are selected": lambda x: x.masked_select(x > 0).numel() > 3,
    "how many are taken": lambda x: len(x[x > 0]) > 3,
    "a list": lambda x: sum(x[:, 0].tolist()) > -9,
    "a list of whole numbers": lambda x: max((x > 0).sum(1).tolist()) > 9,
    "an array": lambda x: x[0].detach().numpy().max() > 9,
    "an array that numpy asks for": lambda x: np.argmax(np.asarray(x[0].detach())) > 9,
    "numbers in a list": lambda x: torch.tensor([x[0, 0], x[0, 1]]).sum() > -9,
    "numbers in a list by name": lambda x: torch.tensor(data=[[x[0, 0]], [x[0, 1]]]).sum() > -9,
    "an array of data": lambda x: x.data.numpy().max() > 9,
    "shared memory": lambda x: np.from_dlpack(x.detach()).max() > 9,
    "a complex number": lambda x: torch.complex(x[0, 0], x[0, 1]).item().imag > 9,
    "complex numbers": lambda x: torch.complex(x[0], x[1]).tolist()[0].imag > 9,
    "how many differ": lambda x: len(x.round().unique()) > 99,
    "how often rows are repeated": lambda x: len(x.flatten().repeat_interleave((x > 0).flatten().long())) > 9,
    "where rows are split": lambda x: len(x.tensor_split(((x[:2] > 0).sum() + 1)[None])[0]) > 9,
    "the longest of packed sequences": lambda x: (
        pack_padded_sequence(x[None], ((x[:2] > 0).sum() + 1)[None].clamp(max=5), batch_first=True).batch_sizes.shape[0]
        > 9
    ),
    "the places of a condition": lambda x: len(torch.where(x > 0)[0]) > 3,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_another_value_is_refused_with_the_line_that_reads_it(read: Read, tmp_path: Path) -> None:
    program = _of(read)
    plan = swdc.plan(program, 0.4)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    assert swdc.verify(masked, slim).exact
    assert program.hash() == masked.hash()
    other = X.clone()
    other[0] = other[1] = -3  # every read is another then
    for each in (program, masked, slim, swdc.load(swdc.save(slim, tmp_path / "slim"))):
        torch.testing.assert_close(each(X), (program if each is program else slim)(X), rtol=1e-12, atol=1e-14)
        with pytest.raises(
            InputError, match=r"expected inputs in which the model reads .* at .*test_read_values.py:\d+"
        ):
            each(other)


def test_a_fraction_may_differ_by_half_of_its_digits() -> None:
    program = _of(lambda x: x.max().item() > 0.1)
    assert program(X * (1 + 1e-8)).shape == (5, 3)
    with pytest.raises(InputError, match="reads"):
        program(X * (1 + 3e-8))


def test_what_depends_on_weights_is_checked_until_they_change() -> None:
    def code(m: Any, x: torch.Tensor) -> Any:
        y = m.a(x).relu()
        return m.b(y) * (2 if y.sum().item() > 1e9 else 1)

    program = swdc.trace(randomise(Function(code, a=nn.Linear(4, 8), b=nn.Linear(8, 3))).eval(), X)
    with pytest.raises(InputError, match="reads"):
        program(X + 1)
    plan = swdc.plan(program, 0.4)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    certificate = swdc.verify(masked, slim)
    assert certificate.exact
    assert any("no input lets the model go another way" in text for text in certificate.assumptions)
    assert_equal(swdc.slim(masked, plan)(X), slim(X))
    for each, times in ((program, 0), (masked, 1), (slim, 1)):
        assert sum("reads numbers that depend on weights" in note for note in each.facts.notes) == times


def test_groups_are_those_without_the_checks() -> None:
    def code(m: Any, x: torch.Tensor) -> Any:
        y = m.a(x).relu()
        return m.b(y) * (2 if y.sum().item() > 1e9 else 1)

    program = swdc.trace(randomise(Function(code, a=nn.Linear(4, 8), b=nn.Linear(8, 3))).eval(), X)
    assert [group.width for group in program.groups] == [8]


def test_calibration_refuses_what_a_call_refuses() -> None:
    program = _of(READS["a whole number"])
    swdc.calibrate(program, [X])
    with pytest.raises(InputError, match="the model reads"):
        swdc.calibrate(program, [-X])


def test_a_tensor_of_a_tensor_is_no_read() -> None:
    program = _of(lambda x: (torch.as_tensor(x).sum() > -1e9) & bool(x[0, 0] > -2))
    assert not torch.equal(program(X * 1.5), program(X))
