"""Folding batch norms: into what stands before or after them, exactly, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from passes.fold_batchnorm import NOTE, FoldBatchnorm
from swdc.errors import PassError
from swdc.ir.program import Program
from swdc.rewriting.pass_base import PassResult
from swdc.rewriting.pipeline import apply, run
from tests.support import Function, assert_equal, assert_same, conv, image, operators, randomise, text, traced

pytestmark = [
    pytest.mark.filterwarnings("ignore:.* keeps its evaluation mode in training:UserWarning"),
    pytest.mark.filterwarnings("ignore:what the model computes in training differs:UserWarning"),
]
VECTOR, SIGNAL, VOLUME = image(1, 3), image(1, 3, 9), image(1, 3, 5, 4, 6)


def norms(program: Program) -> int:
    return sum(name.startswith(("BatchNorm", "aten.batch_norm")) for name in operators(program))


def folded(program: Program) -> PassResult:
    """Fold, and assert that evaluation is the same, the given program is as it was, and nothing is left to fold."""
    before, described = program.clone(), text(program)
    result = run(program, [FoldBatchnorm()])
    example = program.facts.example[0]
    for batch in (1, 2, 5):
        x = [image(batch, *t.shape[1:], seed=batch) for t in example]
        assert_same(before.clone().eval()(*x), result.program.clone().eval()(*x), 1e-12)
    assert text(program) == described
    assert_equal(list(before.tensors.values()), list(program.tensors.values()))
    again = run(result.program, [FoldBatchnorm()])
    assert not again.modified
    assert again.program is result.program
    return result


def test_golden(golden: Callable[[str, str], None]) -> None:
    model = Function(
        lambda m, x: m.head(m.last((m.same(m.other(m.a(x) + x[:, :1]))).mean((2, 3)))),
        a=nn.Sequential(conv(3, 4, bias=False), nn.BatchNorm2d(4), nn.ReLU()), other=nn.BatchNorm2d(4),
        same=nn.BatchNorm2d(4), last=nn.BatchNorm1d(4), head=nn.Linear(4, 2, bias=False),
    )  # fmt: skip
    program = traced(model)
    golden("fold_batchnorm.before", text(program))
    golden("fold_batchnorm.after", text(folded(program).program))


BEFORE: dict[str, tuple[nn.Module, torch.Tensor]] = {
    "convolution": (nn.Sequential(conv(3, 4), nn.BatchNorm2d(4)), image()),
    "without a bias": (nn.Sequential(conv(3, 4, bias=False), nn.BatchNorm2d(4)), image()),
    "groups": (nn.Sequential(conv(3, 6, groups=3, stride=2), nn.BatchNorm2d(6)), image()),
    "depthwise": (nn.Sequential(conv(3, 3, groups=3), nn.BatchNorm2d(3)), image()),
    "one dimension": (nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4)), SIGNAL),
    "three dimensions": (nn.Sequential(nn.Conv3d(3, 4, 3, padding="same"), nn.BatchNorm3d(4)), VOLUME),
    "dense": (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), VECTOR),
    "transposed": (nn.Sequential(nn.ConvTranspose2d(3, 4, 3, 2, 1, 1), nn.BatchNorm2d(4)), image()),
    "transposed, in groups": (
        nn.Sequential(conv(3, 6), nn.ConvTranspose2d(6, 4, 3, groups=2, bias=False), nn.BatchNorm2d(4)), image()
    ),
    "not affine": (nn.Sequential(conv(3, 4), nn.BatchNorm2d(4, affine=False)), image()),
    "two norms": (nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)), image()),
    "functions": (
        Function(
            lambda m, x: F.batch_norm(F.conv2d(x, m.w), m.mean, m.running_var, m.gain, None, False, 0.1, 1e-3),
            w=nn.Parameter(torch.randn(4, 3, 3, 3)), mean=torch.zeros(4), running_var=torch.ones(4),
            gain=nn.Parameter(torch.ones(4)),
        ),
        image(),
    ),
    "tokens in a row": (
        Function(
            lambda m, x: (lambda y: m.n(y.flatten(0, 1)).reshape_as(y))(m.a(x)), a=nn.Linear(9, 4), n=nn.BatchNorm1d(4)
        ),
        SIGNAL,
    ),
    "tokens turned": (
        Function(
            lambda m, x: torch.relu(m.n(m.a(x).transpose(1, -1))) * m.k(m.b(x).permute(0, -1, 1)),
            a=nn.Linear(9, 4, bias=False), n=nn.BatchNorm1d(4), b=nn.Linear(9, 4), k=nn.BatchNorm1d(4),
        ),
        SIGNAL,
    ),
    "a norm that is called twice": (
        Function(lambda m, x: m.n(m.a(x)) * m.n(m.b(x)), a=conv(3, 4), b=conv(3, 4, 1), n=nn.BatchNorm2d(4)), image()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BEFORE)
def test_into_the_layer_before(name: str) -> None:
    program = traced(*BEFORE[name])
    assert norms(program) > 0
    result = folded(program)
    assert result.modified
    assert norms(result.program) == 0


AFTER: dict[str, tuple[nn.Module, torch.Tensor]] = {
    "dense": (nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4)), VECTOR),
    "dense without a bias": (nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4, bias=False)), VECTOR),
    "convolution without padding": (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, 2, dilation=2)), image()),
    "named padding": (nn.Sequential(nn.BatchNorm1d(3), nn.Conv1d(3, 4, 3, padding="valid")), SIGNAL),
    "groups": (nn.Sequential(nn.BatchNorm3d(3), nn.Conv3d(3, 6, 2, groups=3, bias=False)), VOLUME),
    "several layers": (
        Function(
            lambda m, x: (lambda y: m.a(y) + m.b(y))(m.n(x)), n=nn.BatchNorm2d(3), a=conv(3, 4, 1), b=conv(3, 4, 1)
        ),
        image(),
    ),
    "pre-activation": (
        nn.Sequential(
            nn.BatchNorm2d(3), conv(3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4), nn.BatchNorm2d(4)
        ),
        image(),
    ),
    "a sum": (
        Function(lambda m, x: m.c(m.n(m.a(x) + x)), a=conv(3, 3), n=nn.BatchNorm2d(3), c=conv(3, 4, 1)), image()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AFTER)
def test_into_the_layers_after(name: str) -> None:
    result = folded(traced(*AFTER[name]))
    assert result.modified
    assert norms(result.program) == 0


@pytest.mark.parametrize("affine", [(True, True), (True, False), (False, True), (False, False)])
def test_two_norms_become_one(affine: tuple[bool, bool]) -> None:
    layers = [nn.ReLU(), *(nn.BatchNorm2d(3, affine=one, eps=1e-2) for one in affine), nn.ReLU()]
    result = folded(traced(nn.Sequential(*layers)))
    assert norms(result.program) == 1
    assert isinstance(result.program.get_submodule("2"), nn.BatchNorm2d)


@pytest.mark.parametrize("shift", [0.0, 0.5])
@pytest.mark.parametrize("layer", [conv(3, 4), conv(3, 6, groups=3), nn.ConvTranspose2d(3, 4, 3)])
def test_where_a_layer_reads_borders_only_a_norm_without_shift_goes_into_it(layer: nn.Module, shift: float) -> None:
    program = traced(nn.Sequential(nn.BatchNorm2d(3), layer))
    with torch.no_grad():
        program.get_parameter("0.bias").fill_(shift)
        program.get_buffer("0.running_mean").zero_()
    assert folded(program).modified == (shift == 0)


def shared(forward: Callable[..., Any], **parts: Any) -> nn.Module:
    return Function(forward, n=nn.BatchNorm2d(3), c=conv(3, 3, 1), **parts)


def tied() -> nn.Module:
    model = shared(lambda m, x: m.n(m.c(x)) * m.d(x), d=conv(3, 3, 1))
    model.d.weight = model.c.weight
    return model


LEFT: dict[str, tuple[nn.Module, torch.Tensor]] = {
    "an activation between": (nn.Sequential(conv(3, 4), nn.ReLU(), nn.BatchNorm2d(4), nn.ReLU()), image()),
    "own statistics": (
        nn.Sequential(conv(3, 4), nn.BatchNorm2d(4, track_running_stats=False), conv(4, 2, 1)), image(4, 3, 8, 8)
    ),
    "another reader": (shared(lambda m, x: (lambda y: m.n(y) * y)(m.c(x))), image()),
    "returned, too": (shared(lambda m, x: (lambda y: (m.n(y), y))(m.c(x))), image()),
    "a layer that is called twice": (shared(lambda m, x: m.n(m.c(m.c(x)))), image()),
    "a tied weight": (tied(), image()),
    "a weight that is read": (shared(lambda m, x: m.n(m.c(x)) * m.c.weight.mean()), image()),
    "a weight that is returned": (shared(lambda m, x: (m.n(m.c(x)), m.c.weight)), image()),
    "a bias that is read": (shared(lambda m, x: m.n(m.c(x)) * m.c.bias.sum()), image()),
    "a weight that is computed": (shared(lambda m, x: m.n(F.conv2d(x, m.c.weight.tanh()))), image()),
    "one of the readers is not a layer": (shared(lambda m, x: (lambda y: m.c(y) * y)(m.n(x))), image()),
    "one of the readers pads": (shared(lambda m, x: (lambda y: m.c(y) * m.d(y))(m.n(x)), d=conv(3, 3)), image()),
    "read twice by one layer": (shared(lambda m, x: (lambda y: F.linear(y, y[0, 0]))(m.n(x))), image()),
    "features along another dimension": (nn.Sequential(nn.Linear(9, 5), nn.BatchNorm1d(3)), SIGNAL),
    "features read along another dimension": (nn.Sequential(nn.BatchNorm1d(3), nn.Linear(9, 5)), SIGNAL),
    "channels that are mixed": (
        Function(lambda m, x: m.n(m.a(x).reshape(-1, 3, 4)), a=nn.Linear(3, 12), n=nn.BatchNorm1d(3)), VECTOR
    ),
    "read before it is laid out anew": (
        Function(
            lambda m, x: (lambda y: m.n(y.transpose(1, 2)) * y.mean())(m.a(x)), a=nn.Linear(9, 4), n=nn.BatchNorm1d(4)
        ),
        SIGNAL,
    ),
    "a statistic that is computed": (
        shared(lambda m, x: F.batch_norm(m.c(x), m.n.running_mean, m.n.running_var.exp(), m.n.weight)), image()
    ),
    "another kind of norm": (nn.Sequential(conv(3, 4), nn.GroupNorm(2, 4), conv(4, 2)), image()),
}  # fmt: skip


def overwriting(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = torch.relu(x)
    z = m.n(y)
    y.diagonal(dim1=2, dim2=3).mul_(2)  # a view over which no operator writes without side effects
    return m.c(z) + y.sum()


LEFT["what the norm reads is overwritten"] = (shared(overwriting), image())


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_alone(name: str) -> None:
    program = traced(*LEFT[name])
    result = run(program, [FoldBatchnorm()])
    assert not result.modified
    assert result.program is program


def test_the_weights_of_the_layer_by_hand() -> None:
    program = traced(nn.Sequential(conv(3, 4, bias=False), nn.BatchNorm2d(4)))
    own = program.tensors
    result = folded(program)
    scale = own["1.weight"] / (own["1.running_var"] + 1e-5).sqrt()
    assert_same(own["0.weight"] * scale[:, None, None, None], result.program.get_parameter("0.weight"))
    assert_same(own["1.bias"] - own["1.running_mean"] * scale, result.program.get_parameter("0.bias"))
    assert result.program.get_submodule("0").bias is result.program.get_parameter("0.bias")
    assert operators(result.program) == ["Conv2d"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_computed_in_float64_and_rounded_once(dtype: torch.dtype) -> None:
    layers = [conv(3, 4, bias=False), *(nn.BatchNorm2d(4) for _ in range(5)), nn.ReLU(), conv(4, 2)]
    program = swdc.trace(randomise(nn.Sequential(*layers)).to(dtype).eval(), image().to(dtype))
    result = FoldBatchnorm().apply(program)
    assert set(result.exact) == {"0.weight", "0.bias"}
    exact = randomise(nn.Sequential(*layers)).to(dtype).double().eval()[:6]
    x = image(2, 3, 8, 8)
    assert_same(exact(x), F.conv2d(x, result.exact["0.weight"], result.exact["0.bias"], padding=1))
    for name, value in result.exact.items():
        assert result.program.get_parameter(name).dtype == dtype
        assert torch.equal(result.program.get_parameter(name), value.to(dtype))
    assert result.program.get_parameter("7.weight") is program.get_parameter("7.weight")


def test_what_would_overflow_stays() -> None:
    program = swdc.trace(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4)).half().eval(), image().half())
    with torch.no_grad():
        program.get_parameter("1.weight").fill_(6e4)
        program.get_parameter("0.weight").fill_(2.0)
    assert not run(program, [FoldBatchnorm()]).modified


def test_a_program_in_training_is_folded_as_it_evaluates() -> None:
    program = traced(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU())).train()
    result = folded(program)
    assert result.modified
    assert result.program.training
    assert program.training


def test_that_it_is_not_to_be_trained_is_noted_once() -> None:
    program = traced(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4), nn.ReLU()))
    result = folded(program)
    assert result.program.facts.notes == (NOTE,)
    assert NOTE in result.program.explain()


def test_frozen_weights_stay_frozen() -> None:
    program = traced(nn.Sequential(conv(3, 4, bias=False), nn.BatchNorm2d(4)).requires_grad_(False))
    result = folded(program)
    assert not any(result.program.get_parameter(f"0.{name}").requires_grad for name in ("weight", "bias"))


def test_a_slim_program_keeps_its_plan() -> None:
    program = traced(nn.Sequential(conv(3, 6, bias=False), nn.BatchNorm2d(6), nn.ReLU(), conv(6, 2)))
    slim = swdc.slim(program, swdc.plan(program, 0.5))
    result = folded(slim)
    assert result.program.facts.origin is not None
    assert result.program.facts.origin.plan is slim.facts.origin.plan
    assert swdc.count(result.program).before == swdc.count(slim).before


def test_networks() -> None:
    models = pytest.importorskip("torchvision.models")
    for name, left in (("resnet18", 0), ("shufflenet_v2_x0_5", 0)):
        program = traced(models.get_model(name, weights=None), image(2, 3, 32, 32))
        assert norms(folded(program).program) == left


def test_name_and_values() -> None:
    program = traced(nn.Sequential(conv(3, 4), nn.BatchNorm2d(4)))
    assert norms(apply(program, "fold-batchnorm")) == 0
    with pytest.raises(PassError, match="expected tensors with values for folding batch norms"):
        run(program.clone().to("meta"), [FoldBatchnorm()])
