"""What a certificate must not miss, and what it must not refuse: types, scales, corners, gradients, other weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import swdc
from swdc.artifacts.folder.save import load_certificate
from swdc.errors import ArtifactError, VerificationError
from swdc.ir.graph import copy_graph
from swdc.ir.program import Program
from swdc.rewriting.certificate import FACTOR, Certificate
from swdc.rewriting.corners import corners
from swdc.rewriting.rounding import largest, own_errors, wide_errors
from tests.support import Function, image, plan_of, randomise


def halves(model: nn.Module, *example: torch.Tensor) -> tuple[Program, Program]:
    """Return the masked and the slim program that keep the first half of every group; weights keep their types."""
    types = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    randomise(model)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        tensor.data = tensor.data.to(types[name])
    program = swdc.trace(model.eval(), example)
    plan = plan_of(program, {g.name: range(g.width // 2) for g in program.groups})
    return swdc.mask(program, plan), swdc.slim(program, plan)


def layers(run: Any, **more: nn.Module) -> nn.Module:
    return Function(run, **{"a": nn.Linear(4, 8), "b": nn.Linear(8, 3), **more})


class FakeQuantised(nn.Module):
    """Its operators take scales in float32 only."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 3)
        self.register_buffer("scale", torch.linspace(0.01, 0.02, 8))
        self.register_buffer("zero", torch.zeros(8, dtype=torch.int32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = torch.fake_quantize_per_channel_affine(self.a.weight, self.scale, self.zero, 0, -127, 127)
        result: torch.Tensor = self.b(F.relu(F.linear(x, weight, self.a.bias)))
        return result


def x(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return image(*(shape or (4, 4))).to(dtype)


class Tied(nn.Module):
    """A table that is the last layer, too, beside results that are no tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.a, self.b = nn.Embedding(50, 6), nn.Linear(6, 8), nn.Linear(8, 6)
        self.last = nn.Linear(6, 50, bias=False)
        self.last.weight = self.table.weight

    def forward(self, indices: torch.Tensor) -> Any:
        return {"y": self.last(self.b(F.relu(self.a(self.table(indices))))), "kind": "logits", "number": 4}


@pytest.fixture
def tied() -> tuple[Program, Program]:
    program = swdc.trace(randomise(Tied()).float().eval(), torch.randint(0, 50, (2, 7)))
    plan = plan_of(program, {g.name: range(g.width // 2) for g in program.groups if g.name == "a"})
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    assert swdc.verify(masked, slim).exact
    return masked, slim


def test_other_results_that_are_no_tensors(tied: tuple[Program, Program]) -> None:
    masked, slim = tied
    other = copy.deepcopy(slim)
    (output,) = other.graph.find_nodes(op="output")
    output.args = (tuple(5 if value == 4 else value for value in output.args[0]),)
    other.recompile()
    certificate = swdc.verify(masked, other)
    assert not certificate.exact
    assert any("other results that are no tensors" in note for note in certificate.notes)


def test_results_of_another_type(tied: tuple[Program, Program]) -> None:
    masked, slim = tied
    other = copy.deepcopy(slim)
    (output,) = other.graph.find_nodes(op="output")
    value = next(leaf for leaf in output.args[0] if isinstance(leaf, torch.fx.Node))
    with other.graph.inserting_before(output):
        cast = other.graph.call_function(torch.ops.aten._to_copy.default, (value,), {"dtype": torch.float64})
    cast.meta = dict(value.meta)
    output.replace_input_with(value, cast)
    other.recompile()
    certificate = swdc.verify(masked, other)
    assert not certificate.exact
    assert any("another type of a result" in note for note in certificate.notes)


def test_parameters_that_are_no_longer_one(tied: tuple[Program, Program]) -> None:
    masked, slim = tied
    tensors = {name: nn.Parameter(tensor.detach().clone()) for name, tensor in slim.tensors.items()}
    other = slim.rebuilt(tensors=tensors, leaves={path: copy.deepcopy(leaf) for path, leaf in slim.leaves.items()})
    certificate = swdc.verify(masked, other)
    assert not certificate.exact
    assert any("another sharing of parameters" in note for note in certificate.notes)


def test_tensors_without_a_counterpart_are_an_assumption(tied: tuple[Program, Program]) -> None:
    masked, slim = tied
    assert not any("which the masked program lacks" in text for text in swdc.verify(masked, slim).assumptions)
    tensors, leaves, graph = dict(slim.tensors), dict(slim.leaves), copy_graph(slim.graph)
    tensors["other.weight"], leaf = tensors.pop("b.weight"), copy.deepcopy(leaves.pop("b"))
    tensors["other.bias"] = tensors.pop("b.bias")
    leaf.weight, leaf.bias = tensors["other.weight"], tensors["other.bias"]
    leaves["other"] = leaf
    for node in graph.find_nodes(op="call_module", target="b"):
        node.target = "other"
    certificate = swdc.verify(masked, slim.rebuilt(graph=graph, tensors=tensors, leaves=leaves))
    assert "other.bias, other.weight, which the masked program lacks, are right where no run reads them" in (
        certificate.assumptions
    )


def test_digits_that_the_masked_program_loses_prove_nothing() -> None:
    certificate = swdc.verify(*halves(layers(lambda m, x: m.b((F.relu(m.a(x)) + 1) + 1e8 - 1e8)), x()))
    assert certificate.max_relative_error <= 1e-9
    assert not certificate.exact
    assert any("more than half of its digits" in note for note in certificate.notes)


def test_a_slim_program_that_overflows_in_its_own_type_is_not_exact() -> None:
    masked, slim = halves(layers(lambda m, x: m.b(F.relu(m.a(x)))).half(), x(dtype=torch.float16))
    assert swdc.verify(masked, slim).exact
    with torch.no_grad():  # the same function: what is scaled up is scaled down again, beyond the range of float16
        slim.tensors["a.weight"].mul_(2.0**14)
        slim.tensors["a.bias"].mul_(2.0**14)
        slim.tensors["b.weight"].mul_(2.0**-14)
    certificate = swdc.verify(masked, slim)
    assert not certificate.exact
    assert certificate.rounding > FACTOR


@pytest.mark.parametrize(
    "model",
    [
        layers(lambda m, x: m.b(F.relu(m.a(x)).half()).float(), b=nn.Linear(8, 3).half()),
        layers(lambda m, x: m.b(F.softplus(m.a(x)).bfloat16().float())),
        FakeQuantised(),
        layers(lambda m, x: m.b(F.relu(m.a(x)))).bfloat16(),
    ],
    ids=["half layer", "bfloat16 cast", "fake quantised", "bfloat16"],
)
def test_types_inside_a_model_do_not_matter(model: nn.Module) -> None:
    dtype = next(model.a.parameters()).dtype  # type: ignore[union-attr, operator]
    certificate = swdc.verify(*halves(model, x(dtype=dtype)))
    assert certificate.max_relative_error <= 1e-9
    assert certificate.rounding <= FACTOR
    assert certificate.exact is (certificate.removed_channels > 0), certificate


def test_complex_parameters() -> None:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv1d(3, 8, 1), nn.Conv1d(8, 4, 1)
            self.w = nn.Parameter(torch.randn(8, 8, 5, dtype=torch.cfloat))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found = torch.einsum("bim,iom->bom", torch.fft.rfft(self.a(x))[..., :5], self.w)
            result: torch.Tensor = self.b(torch.fft.irfft(found, n=x.shape[-1]).relu())
            return result

    model = Spectral().eval()
    program = swdc.trace(model, torch.randn(2, 3, 16))
    plan = swdc.plan(program, 0.5, scope="group")
    slim = swdc.slim(program, plan)
    assert swdc.verify(swdc.mask(program, plan), slim).exact
    swdc.transplant(slim, model)


def test_a_large_number_hides_no_error() -> None:
    model = layers(lambda m, x: torch.cat([m.b(F.relu(m.a(x))), 1e12 * m.c(x)], 1), c=nn.Linear(4, 1))
    masked, slim = halves(model.double(), x(dtype=torch.float64))
    assert swdc.verify(masked, slim).exact
    with torch.no_grad():
        slim.tensors["b.bias"] += 1e-6
    assert not swdc.verify(masked, slim).exact


def test_a_single_zero_is_tried() -> None:
    masked, slim = halves(layers(lambda m, x: m.b(torch.tanh(m.a(x.log())))), x().abs() + 0.1)
    with torch.no_grad():
        assert torch.isfinite(slim(torch.tensor([[0.0, 1.0, 1.0, 1.0]]))).all()
    certificate = swdc.verify(masked, slim)
    assert not certificate.exact
    assert "the programs differ for a zero" in certificate.notes


def test_corners_of_masks_and_of_indices() -> None:
    model = Function(
        lambda m, ids, mask: m.b(m.a(ids).relu() * mask[..., None]), a=nn.Embedding(9, 8), b=nn.Linear(8, 3)
    )
    ids, mask = torch.tensor([[0, 3, 7], [1, 5, 2]]), torch.tensor([[True, True, False], [True, True, True]])
    ((names, (args, kwargs)),) = corners(swdc.trace(randomise(model).eval(), (ids, mask)), seed=0)
    rows = {name: (args[0][row].tolist(), args[1][row].tolist()) for row, name in enumerate(names)}
    assert rows["a mask that lets nothing through"][1] == [False] * 3
    assert rows["a mask that lets all through"][1] == [True] * 3
    assert rows["the smallest index"][0] == [0, 0, 0]
    assert rows["the largest index"][0] == [7, 7, 7]
    assert kwargs == {}


def test_what_is_assumed_of_inputs_is_named() -> None:
    masked, slim = halves(layers(lambda m, x: m.b(torch.sigmoid(m.a(x)))), x())
    certificate = swdc.verify(masked, slim)
    assert certificate.exact
    assert certificate.assumptions == ("no input holds infinity",)
    assert "assumes: no input holds infinity" in str(certificate)
    given = x()
    given[0, 0] = float("inf")
    assert not swdc.verify(masked, slim, inputs=given).exact


def test_a_comparison_that_makes_a_number_of_nan_is_assumed_away() -> None:
    masked, slim = halves(layers(lambda m, x: m.b((m.a(x) >= 0).to(x.dtype))), x())
    assert swdc.verify(masked, slim).assumptions == ("no input holds NaN", "no input holds infinity")


@pytest.mark.parametrize("share", [0, 0.5])
def test_a_second_cut_starts_from_the_biases_as_they_are_stored(share: float) -> None:
    _, once = halves(layers(lambda m, x: m.b(torch.sigmoid(m.a(x)))), x())
    plan = swdc.plan(once, share)
    masked, twice = swdc.mask(once, plan), swdc.slim(once, plan)
    assert swdc.verify(masked, twice).max_relative_error <= 1e-14


def test_nan_is_tried_in_the_last_element_too() -> None:
    branches = Function(
        lambda m, x: m.d(x[:, :4]) + m.b((m.a(x[:, 4:]) >= 0).to(x.dtype)),
        a=nn.Linear(4, 8), b=nn.Linear(8, 3), d=nn.Linear(4, 3),
    )  # fmt: skip
    masked, slim = halves(branches, torch.randn(2, 8))
    assert swdc.verify(masked, slim).assumptions == ("no input holds NaN", "no input holds infinity")


def test_weights_that_no_run_reads_are_compared() -> None:
    model = Function(lambda m, ids: m.b(m.a(ids).relu()), a=nn.Embedding(900, 8), b=nn.Linear(8, 3))
    masked, slim = halves(model, torch.tensor([[0, 3, 7], [1, 5, 2]]))
    assert swdc.verify(masked, slim).exact
    with torch.no_grad():
        slim.tensors["a.weight"][777, 1] += 1e-3
    certificate = swdc.verify(masked, slim)
    assert not certificate.exact
    assert certificate.notes == ("of other values than in the masked program: a.weight",)


def test_a_slim_program_that_cannot_run_is_an_error_that_says_so() -> None:
    masked, slim = halves(layers(lambda m, x: m.b(F.relu(m.a(x)))), x())
    slim.get_submodule("b").weight = nn.Parameter(torch.zeros(3, 5))
    with pytest.raises(
        VerificationError, match="expected a slim program that runs in evaluation, got one, which fails with"
    ):
        swdc.verify(masked, slim)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_dropout_of_another_share_is_another_program(share: float) -> None:
    masked, slim = halves(layers(lambda m, x: m.b(m.d(F.relu(m.a(x)))), d=nn.Dropout(0.5)), x())
    assert swdc.verify(masked, slim).exact
    slim.get_submodule("d").p = share
    assert not swdc.verify(masked, slim).exact


def test_a_gradient_that_is_cut_off_is_another_program() -> None:
    masked, slim = halves(layers(lambda m, x: m.b(F.relu(m.a(x)))), x())
    (relu,) = slim.graph.find_nodes(op="call_function", target=torch.ops.aten.relu.default)
    with slim.graph.inserting_after(relu):
        cut = slim.graph.call_function(torch.ops.aten.detach.default, (relu,))
    relu.replace_all_uses_with(cut, lambda user: user is not cut)
    slim.recompile()
    certificate = swdc.verify(masked, slim)
    assert not certificate.exact
    assert str(certificate.first_difference).startswith("the gradient of a.")


def test_gradients_and_statistics_are_compared() -> None:
    model = layers(lambda m, x: m.b(F.relu(m.n(m.a(x)))), n=nn.BatchNorm1d(8)).double()
    masked, slim = halves(model, x(dtype=torch.float64))
    assert swdc.verify(masked, slim).exact
    slim.get_submodule("n").momentum = 0.5
    certificate = swdc.verify(masked, slim)
    assert not certificate.exact
    assert certificate.first_difference == "the statistic n.running_mean, after a step of training"


def test_statistics_are_compared_in_the_types_of_the_program() -> None:
    masked, slim = halves(layers(lambda m, x: m.b(F.relu(m.n(m.a(x)))), n=nn.BatchNorm1d(8)), x())
    certificate = swdc.verify(masked, slim)
    assert certificate.exact, certificate
    assert [c.dtype for c in certificate.comparisons if c.mode == "train"] == ["float64", "float32"]


def test_a_certificate_is_that_of_its_weights(tmp_path: Any) -> None:
    masked, slim = halves(layers(lambda m, x: m.b(F.relu(m.a(x)))), x())
    certificate = swdc.verify(masked, slim)
    assert len({certificate.dense_hash, certificate.masked_hash, certificate.slim_hash}) == 3
    swdc.save(slim, tmp_path / "slim", certificate)
    assert load_certificate(tmp_path / "slim") == certificate
    swdc.save(masked, tmp_path / "masked", certificate)
    with torch.no_grad():
        slim.tensors["b.weight"][0, 0] += 1
    with pytest.raises(ArtifactError, match="got one of other weights"):
        swdc.save(slim, tmp_path / "other", certificate)
    other = certificate.of(slim)
    assert not other.exact
    assert "that of other weights" in other.notes[-1]


def test_certificates_of_earlier_versions_are_read_as_not_exact() -> None:
    old = {
        "exact": True, "max_relative_error": 1e-15, "max_relative_error_float32": 1e-7, "effect": 0.5,
        "refilled": False, "tolerance": 1e-9, "seed": 0, "program_hash": "0", "removed_channels": 4,
        "comparisons": [{"dtype": "float64", "mode": "eval", "batch": 1, "relative_error": 1e-15}],
        "first_difference": None, "notes": [],
    }  # fmt: skip
    certificate = Certificate.from_dict(old)
    assert not certificate.exact
    assert certificate.max_relative_error_float32 == 1e-7
    assert "made by an earlier version" in certificate.notes[0]


def test_rounding_is_told_from_a_difference() -> None:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randn(8, 50, generator=generator, dtype=torch.float64)
    wide[:, 0] *= 1e-15  # nothing but rounding
    narrow = wide + torch.randn(8, 50, generator=generator, dtype=torch.float64) * 1e-6
    rounded = wide + torch.randn(8, 50, generator=generator, dtype=torch.float64) * 1e-15
    assert largest(wide_errors([wide], [rounded], [narrow], 1.2e-7)) <= 1e-12
    assert largest(wide_errors([wide], [rounded])) > 1e-3
    slim = wide + torch.randn(8, 50, generator=generator, dtype=torch.float64) * 1e-6
    assert largest(own_errors([wide], [narrow.float()], [slim.float()])) <= FACTOR
    slim[3, 7] += 1e-3
    assert largest(own_errors([wide], [narrow.float()], [slim.float()])) > FACTOR
