"""Certificates: what is certified, what is not, and why."""

from __future__ import annotations

import json
import operator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import InputError, VerificationError
from swdc.ir.differences import relative_error
from swdc.ir.plan import Plan
from swdc.ir.program import Program
from swdc.rewriting.certificate import LEAST_EFFECT, TOLERANCE, Certificate
from tests.support import Function, conv, image, plan_of, random_plan, randomise, traced


class Small(nn.Module):
    def __init__(self, drop: float = 0.0) -> None:
        super().__init__()
        self.first, self.norm = conv(3, 8), nn.BatchNorm2d(8)
        self.second, self.third = conv(8, 6), conv(6, 4)
        self.drop, self.drop_maps = nn.Dropout(drop), nn.Dropout2d(drop)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.drop(torch.relu(self.norm(self.first(x))))
        x = self.second(x)
        result: torch.Tensor = self.third(self.drop_maps(torch.relu(x)))
        return result


def pair(drop: float = 0.0) -> tuple[Program, Program]:
    program = traced(Small(drop))
    plan = random_plan(program)
    return swdc.mask(program, plan), swdc.slim(program, plan)


def perturb(program: Program, name: str, amount: float = 1e-3) -> None:
    with torch.no_grad():
        program.tensors[name].view(-1)[0] += amount


def test_an_exact_certificate() -> None:
    masked, slim = pair()
    certificate = swdc.verify(masked, slim)
    assert certificate.exact
    assert certificate.max_relative_error <= 1e-13
    assert certificate.max_relative_error_float32 <= 1e-5
    assert certificate.effect > 0.01
    assert certificate.tolerance == TOLERANCE == 1e-9
    assert certificate.first_difference is None
    assert (certificate.refilled, certificate.notes) == (False, ())
    plan = slim.facts.origin.plan  # type: ignore[union-attr]
    assert certificate.removed_channels == plan.removed_channels
    assert certificate.program_hash == plan.program_hash == masked.hash()


def test_printed() -> None:
    masked, slim = pair()
    lines = str(swdc.verify(masked, slim)).splitlines()
    removed = masked.facts.origin.plan.removed_channels  # type: ignore[union-attr]
    assert lines[0] == f"certificate: exact, {removed} channels removed"
    assert "in float64 (tolerance 1e-09)" in lines[1]
    assert "effect of the mask on the output" in lines[2]
    others = ("eval, batch 3", "corners, batch 5")
    runs = ["eval, batch 1", *(f"{other}, height 6, width 7" for other in others), "train, batch 3"]
    assert [line.split(":")[0].strip() for line in lines[3:-1]] == [f"float64, {run}" for run in runs]
    assert lines[-1] == "  assumes: no input holds infinity"


@pytest.mark.parametrize("broken", [False, True])
def test_through_json_and_back(broken: bool) -> None:
    masked, slim = pair()
    if broken:
        perturb(slim, "second.weight")
    certificate = swdc.verify(masked, slim)
    back = Certificate.from_dict(json.loads(json.dumps(certificate.to_dict())))
    assert back == certificate
    assert str(back) == str(certificate)
    assert back.exact is not broken


def test_the_same_seed_gives_the_same_certificate() -> None:
    masked, slim = pair()
    assert swdc.verify(masked, slim, seed=3) == swdc.verify(masked, slim, seed=3)
    assert swdc.verify(masked, slim, seed=3).effect != swdc.verify(masked, slim, seed=4).effect


@pytest.mark.parametrize(
    ("tensor", "node", "line"),
    [
        ("first.weight", "first", "self.first(x)"),
        ("norm.bias", "norm", "self.norm("),
        ("norm.running_var", "norm", "self.norm("),
        ("second.weight", "second", "self.second(x)"),
        ("second.bias", "second", "self.second(x)"),
        ("third.weight", "third", "self.third("),
    ],
)
def test_one_perturbed_weight_is_found_and_named(tensor: str, node: str, line: str) -> None:
    masked, slim = pair()
    perturb(slim, tensor)
    certificate = swdc.verify(masked, slim)
    assert not certificate.exact
    assert certificate.max_relative_error > 1e-6
    assert certificate.first_difference is not None
    named, source = certificate.first_difference.split(" at ")
    assert named == f"{node} ({node})"
    path, number = source.rsplit(":", 1)
    assert Path(path).name == Path(__file__).name
    assert line in Path(path).read_text().splitlines()[int(number) - 1]
    assert str(certificate).startswith("certificate: NOT exact")
    assert f"first node that differs: {certificate.first_difference}" in str(certificate)


def test_a_difference_in_training_alone_is_found() -> None:
    masked, slim = pair()
    norm = slim.get_submodule("norm")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        norm.bias.add_(norm.weight / (norm.running_var + norm.eps).sqrt(), alpha=0.1)
        norm.running_mean += 0.1
    certificate = swdc.verify(masked, slim)
    errors = {c.mode: c.relative_error for c in certificate.comparisons if c.dtype == "float64"}
    assert errors["eval"] < 1e-12
    assert errors["train"] > 1e-3
    assert not certificate.exact
    assert certificate.first_difference is not None
    assert certificate.first_difference.startswith("norm ")


@pytest.mark.parametrize("of_masked", [False, True])
def test_a_plan_that_removes_nothing_shows_nothing(of_masked: bool) -> None:
    program = traced(Small())
    plan = swdc.plan(program, 0)
    masked = swdc.mask(program, plan)
    certificate = swdc.verify(masked, swdc.slim(masked if of_masked else program, plan))
    assert not certificate.exact
    assert (certificate.max_relative_error, certificate.effect, certificate.removed_channels) == (0.0, 0.0, 0)
    assert certificate.notes == ("the mask does not change the output, so that the comparison shows nothing",)
    assert f"note: {certificate.notes[0]}" in str(certificate)


def already_zero() -> tuple[Program, Plan]:
    """Return a program as a training leaves it that drove the channels of a plan to zero."""
    program = traced(Small())
    plan = random_plan(program)
    program.load_state_dict(swdc.mask(program, plan).state_dict())
    return program, plan


def test_channels_that_are_zero_already_are_certified_with_random_ones() -> None:
    program, plan = already_zero()
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    torch.testing.assert_close(masked(image()), program(image()), rtol=0, atol=0)
    certificate = swdc.verify(masked, slim)
    assert certificate.exact
    assert certificate.refilled
    assert certificate.effect > 0.01
    assert "(removed channels refilled with random weights)" in str(certificate)


def test_zero_channels_do_not_hide_a_wrong_rewrite() -> None:
    program, plan = already_zero()
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    perturb(slim, "second.weight")
    certificate = swdc.verify(masked, slim)
    assert (certificate.exact, certificate.refilled) == (False, True)


def test_channels_that_reach_no_output_show_nothing() -> None:
    model = Function(
        lambda m, x: m.head(torch.relu(m.body(x)).mean((2, 3)) * 0),
        body=conv(3, 8),
        head=nn.Linear(8, 4),
    )
    program = traced(model)
    plan = random_plan(program)
    certificate = swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan))
    assert not certificate.exact
    assert certificate.effect < LEAST_EFFECT
    assert any("gives the same output for any input" in note for note in certificate.notes)


@pytest.mark.parametrize("inputs", [None, image(2, 3, 8, 8)], ids=["random inputs", "own inputs"])
def test_a_masked_network_that_ignores_its_input_is_not_certified(inputs: torch.Tensor | None) -> None:
    program = traced(nn.Sequential(conv(3, 4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3)))
    with torch.no_grad():
        program.get_parameter("3.weight")[:, :128] = 0
    plan = plan_of(program, {"0": (0, 1)})
    certificate = swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan), inputs=inputs)
    assert certificate.effect > 0.01
    assert certificate.max_relative_error <= 1e-15
    assert not certificate.exact
    assert certificate.notes == (
        "the masked program gives the same output for any input, so that the comparison shows nothing",
    )


def test_a_program_that_is_not_masked_is_refused() -> None:
    program = traced(Small())
    slim = swdc.slim(program, random_plan(program))
    for wrong in (program, slim):
        with pytest.raises(VerificationError, match=r"expected a masked program as made by swdc\.mask"):
            swdc.verify(wrong, slim)


def test_a_masked_program_is_no_slim_one() -> None:
    masked, _ = pair()
    with pytest.raises(
        VerificationError,
        match=r"expected a slim program as made by swdc\.slim, got a masked one",
    ):
        swdc.verify(masked, masked)


def test_programs_of_different_plans_are_refused() -> None:
    program = traced(Small())
    masked = swdc.mask(program, random_plan(program, seed=0))
    for other in (swdc.slim(program, random_plan(program, seed=1)), program):
        with pytest.raises(VerificationError, match="of the same plan, got different ones"):
            swdc.verify(masked, other)


def test_batch_sizes() -> None:
    masked, slim = pair()
    certificate = swdc.verify(masked, slim, batches=(2, 5))
    assert certificate.exact
    runs = [(c.dtype, c.mode, c.batch) for c in certificate.comparisons]
    corners = ("float64", "corners", 5)
    assert runs == [("float64", "eval", 2), ("float64", "eval", 5), corners, ("float64", "train", 3)]
    one = swdc.verify(masked, slim, batches=(1,)).comparisons
    assert [(c.mode, c.batch) for c in one] == [("eval", 1), ("eval", 1), ("corners", 5), ("train", 2)]


def test_a_difference_at_other_sizes_alone_is_found() -> None:
    masked, slim = pair()
    (output,) = slim.graph.find_nodes(op="output")
    (result,) = output.args[0]
    with slim.graph.inserting_before(output):
        width = slim.graph.call_function(torch.ops.aten.sym_size.int, (result, 3))
        share = slim.graph.call_function(operator.truediv, (width, 8))
        wrong = slim.graph.call_function(torch.ops.aten.mul.Tensor, (result, share))
    output.args = ((wrong,),)
    slim.recompile()
    certificate = swdc.verify(masked, slim)
    assert not certificate.exact
    errors = {c.batch: c.relative_error for c in certificate.comparisons if (c.dtype, c.mode) == ("float64", "eval")}
    assert errors[1] <= TOLERANCE < 0.1 < errors[3]


def test_indices_of_nodes_stay_in_range_at_other_sizes() -> None:
    model = Function(lambda m, x, e: m.b(torch.relu(m.a(x))[e[0]]).sum(0), a=nn.Linear(3, 6), b=nn.Linear(6, 2))
    program = traced(model, (image(5, 3), torch.tensor([[0, 4, 2, 2, 1, 3, 0], [1, 1, 1, 1, 1, 1, 1]])))
    plan = random_plan(program)
    certificate = swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan))
    assert certificate.exact
    first, *others, step = certificate.comparisons
    assert first.sizes == step.sizes == {}
    assert step.mode == "train"
    assert {c.mode for c in others} == {"eval", "corners"}
    assert all(c.sizes["nodes"] > 5 and c.sizes["edges"] < 7 for c in others)


@pytest.mark.parametrize("batches", [(), (0,), (3, -1)], ids=str)
def test_no_batch_to_compare_is_refused(batches: tuple[int, ...]) -> None:
    masked, slim = pair()
    with pytest.raises(VerificationError, match="expected batch sizes of at least 1"):
        swdc.verify(masked, slim, batches=batches)


@pytest.mark.parametrize(
    "wrap",
    [lambda x: x, lambda x: (x,), lambda x: [x]],
    ids=["tensor", "tuple", "list"],
)
def test_inputs_of_the_caller(wrap: Any) -> None:
    masked, slim = pair()
    certificate = swdc.verify(masked, slim, inputs=wrap(image(5, 3, 8, 8)))
    assert certificate.exact
    assert {c.batch for c in certificate.comparisons} == {5}
    assert [c.mode for c in certificate.comparisons] == ["eval", "corners", "train"]


def test_inputs_of_the_caller_find_what_random_ones_find() -> None:
    masked, slim = pair()
    perturb(slim, "second.weight")
    certificate = swdc.verify(masked, slim, inputs=image(2, 3, 8, 8))
    assert not certificate.exact
    assert str(certificate.first_difference).startswith("second (second) at ")


def test_wrong_inputs_of_the_caller_are_refused() -> None:
    masked, slim = pair()
    with pytest.raises(InputError, match=r"expected x of shape \(.*, 3, height, width\), got \(1, 4, 8, 8\)"):
        swdc.verify(masked, slim, inputs=image(1, 4, 8, 8))


def test_two_inputs_and_two_outputs() -> None:
    model = Function(
        lambda m, x, y: (m.head(torch.relu(m.a(x)) + torch.relu(m.b(y))), {"plain": y * 2}),
        a=nn.Linear(5, 8), b=nn.Linear(4, 8), head=nn.Linear(8, 3),
    )  # fmt: skip
    program = traced(model, (image(2, 5), image(2, 4)))
    plan = random_plan(program)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    assert swdc.verify(masked, slim).exact
    assert swdc.verify(masked, slim, inputs=(image(7, 5), image(7, 4))).exact


def test_what_cannot_run_in_training_is_compared_in_evaluation_and_noted() -> None:
    program = traced(
        nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.GELU(), nn.Linear(8, 2)),
        image(2, 5),
    )
    plan = random_plan(program)
    certificate = swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan), inputs=image(1, 5))
    assert certificate.exact
    assert {c.mode for c in certificate.comparisons} == {"eval", "corners"}
    assert len(certificate.notes) == 1
    assert certificate.notes[0].startswith("not compared in training: Expected more than 1 value per channel")


def test_dropout_does_not_disturb_the_training_comparison() -> None:
    masked, slim = pair(drop=0.9)
    certificate = swdc.verify(masked, slim)
    assert certificate.exact
    assert [c.mode for c in certificate.comparisons].count("train") == 1
    for program in (masked, slim):
        found = [m.p for m in program.modules() if isinstance(m, nn.Dropout | nn.Dropout2d)]
        assert found == [0.9, 0.9]


@pytest.mark.parametrize("training", [False, True])
def test_neither_program_is_changed(training: bool) -> None:
    masked, slim = pair(drop=0.5)
    for program in (masked, slim):
        program.train(training)
        program.get_submodule("norm").train(not training)
    before = [
        (p.training, p.hash(), {k: v.clone() for k, v in p.state_dict().items()})
        for p in (masked, slim)
    ]  # fmt: skip
    state = torch.get_rng_state()
    assert swdc.verify(masked, slim).exact
    assert torch.equal(torch.get_rng_state(), state)
    for program, (mode, graph, values) in zip((masked, slim), before, strict=True):
        assert (program.training, program.hash()) == (mode, graph)
        assert program.get_submodule("norm").training is not training
        assert program.state_dict().keys() == values.keys()
        assert all(torch.equal(v, values[k]) for k, v in program.state_dict().items())


def test_a_program_in_single_precision_is_compared_in_double() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(conv(3, 8), nn.Sigmoid(), conv(8, 6, 1), nn.GELU(), conv(6, 2)).eval()
    program = swdc.trace(model, torch.randn(1, 3, 8, 8))
    plan = random_plan(program)
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    certificate = swdc.verify(masked, slim)
    assert certificate.exact, str(certificate)
    assert certificate.max_relative_error <= 1e-13
    assert {t.dtype for t in (*masked.parameters(), *slim.parameters())} == {torch.float32}


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("expected", "actual", "error"),
    [
        ([1.0, -4.0], [1.0, -3.0], 0.25),
        ([0.0, 0.0], [0.0, 0.5], 0.5),
        ([INF, 2.0], [INF, 1.0], 0.5),
        ([INF, 1.0], [-INF, 1.0], INF),
        ([NAN, 1.0], [NAN, 1.0], 0.0),
        ([NAN, 1.0], [INF, 1.0], INF),
        ([1.0, 1.0], [NAN, 1.0], INF),
        ([1.0, 1.0], [1.0], INF),
    ],
    ids=str,
)
def test_the_relative_error_of_numbers_that_may_not_be_finite(
    expected: list[float], actual: list[float], error: float
) -> None:
    assert relative_error(torch.tensor(expected), torch.tensor(actual)) == error


def test_statistics_that_training_moves_are_no_answer_to_the_input() -> None:
    model = Function(lambda m, x: m.b(m.norm(m.a(x) * 0)), a=nn.Linear(3, 6), norm=nn.BatchNorm1d(6), b=nn.Linear(6, 2))
    program = traced(randomise(model), torch.randn(2, 3, dtype=torch.float64))
    plan = random_plan(program)
    certificate = swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan))
    assert not certificate.exact
    assert any("the same output for any input" in note for note in certificate.notes)
