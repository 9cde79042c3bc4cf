"""Deployment: leaner, the same in evaluation, verified after every pass, and done at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn

import swdc
from passes.fold_batchnorm import NOTE
from swdc.errors import PassError, VerificationError
from swdc.ir.differences import flat_outputs
from swdc.ir.program import Program
from swdc.rewriting import deploy as deployment
from swdc.rewriting import pass_base
from swdc.rewriting.pass_base import Pass, PassResult
from swdc.rewriting.rebuild import revise
from tests.support import Function, assert_equal, assert_same, conv, image, operators, randomise, text, traced


def network() -> nn.Module:
    """Return a small residual network with dropout, two heads, and tensors that nothing reads."""

    def forward(m: Any, x: torch.Tensor) -> Any:
        x = torch.relu(m.n1(m.a(x)))
        x = torch.relu(m.n3(m.drop(m.n2(m.b(x))) + x))
        return {"logits": m.head(m.drop(x.mean((2, 3)))), "aux": m.aux(x) * 1.0}

    return Function(
        forward, a=conv(3, 6, bias=False), n1=nn.BatchNorm2d(6), b=conv(6, 6, groups=2), n2=nn.BatchNorm2d(6),
        n3=nn.BatchNorm2d(6), drop=nn.Dropout(0.3), head=nn.Linear(6, 4), aux=conv(6, 2), unread=conv(3, 3),
    )  # fmt: skip


def single(model: nn.Module | None = None) -> Program:
    """Return a program in float32."""
    return swdc.trace(randomise(model or network()).float().eval(), image().float())


def test_leaner_and_the_same() -> None:
    program = traced(network()).train()
    described = text(program)
    deployed = swdc.deploy(program)
    assert operators(deployed) == [
        "Conv2d", "aten.relu.default", "Conv2d", "aten.add.Tensor", "BatchNorm2d", "aten.relu.default",
        "aten.mean.dim", "Linear", "Conv2d",
    ]  # fmt: skip
    assert {name.partition(".")[0] for name in deployed.tensors} == {"a", "b", "n3", "head", "aux"}
    assert not any(module.training for module in deployed.modules())
    assert program.training
    assert text(program) == described
    for batch in (1, 4):
        x = image(batch, 3, 8, 8, seed=batch)
        assert_same(program.clone().eval()(x), deployed(x))


def test_it_shares_nothing_with_the_given_program() -> None:
    program = traced(network())
    before = program.clone()
    deployed = swdc.deploy(program)
    with torch.no_grad():
        for tensor in deployed.tensors.values():
            tensor.zero_()
    deployed.train()
    assert_equal(list(before.tensors.values()), list(program.tensors.values()))
    assert not program.training


def test_once_more_changes_nothing() -> None:
    deployed = swdc.deploy(single())
    again = swdc.deploy(deployed)
    assert text(again) == text(deployed)
    assert again.facts.notes == deployed.facts.notes
    assert_equal(list(deployed.tensors.values()), list(again.tensors.values()))


def test_weights_are_rounded_once_and_by_how_much_that_matters_is_said() -> None:
    program = single()
    deployed = swdc.deploy(program)
    assert {t.dtype for t in deployed.tensors.values() if t.is_floating_point()} == {torch.float32}
    assert deployed.facts.notes[0] == NOTE
    note = deployed.facts.notes[1]
    assert note.startswith("the rounding of folded weights changes the output for the example inputs by ")
    assert 1e-10 < float(note.split(" by ")[1]) < 1e-6
    exact = swdc.deploy(program.clone(torch.float64))
    for name, tensor in deployed.tensors.items():
        assert torch.equal(tensor, exact.tensors[name].to(tensor.dtype))


def test_nothing_folded_nothing_noted() -> None:
    program = single(nn.Sequential(conv(3, 4), nn.ReLU(), nn.Dropout(), conv(4, 2)))
    assert swdc.deploy(program).facts.notes == ()


@pytest.mark.parametrize("outputs", [("aux",), (1,), "aux", ["aux"]])
def test_outputs_that_are_asked_for(outputs: Any) -> None:
    program = traced(network())
    deployed = swdc.deploy(program, outputs)
    assert "head.weight" not in deployed.tensors
    x = image(2, 3, 8, 8)
    assert list(deployed(x)) == ["aux"]
    assert_same(program(x)["aux"], deployed(x)["aux"])


def test_subnormal_weights_are_flushed() -> None:
    program = single()
    with torch.no_grad():
        program.get_parameter("head.weight")[0] = 1e-40
    deployed = swdc.deploy(program)
    assert deployed.get_parameter("head.weight")[0].tolist() == [0.0] * 6
    assert bool((program.get_parameter("head.weight")[0] > 0).all())


def test_a_slim_program_counts_saves_and_exports(tmp_path: Path) -> None:
    program = single()
    slim = swdc.slim(program, swdc.plan(program, 0.4))
    deployed = swdc.deploy(slim, outputs=("logits",))
    counted = swdc.count(deployed)
    assert counted.before == swdc.count(slim).before
    assert counted.parameters < swdc.count(slim).parameters
    report = swdc.export_onnx(deployed, tmp_path / "slim.onnx")
    assert report.max_relative_error < 1e-4
    file = onnx.load(tmp_path / "slim.onnx")
    metadata = {entry.key: entry.value for entry in file.metadata_props}
    assert metadata["swdc.parameters"] == str(counted.parameters)
    assert metadata["swdc.parameters.before"] == str(counted.before["parameters"])
    assert [output.name for output in file.graph.output] == ["logits"]
    loaded = swdc.load(swdc.save(deployed, tmp_path / "slim"))
    assert loaded.facts.origin.plan == deployed.facts.origin.plan
    assert loaded.facts.notes == deployed.facts.notes
    x = image(2, 3, 8, 8).float()
    assert_equal(deployed(x), loaded(x))


def test_a_masked_program_is_a_masked_one_no_longer() -> None:
    program = single()
    deployed = swdc.deploy(swdc.mask(program, swdc.plan(program, 0.4)))
    assert deployed.facts.origin is not None
    assert deployed.facts.origin.dense is None


@dataclass(frozen=True)
class Wrong(Pass):
    """Change a weight where that shows."""

    def apply(self, program: Program) -> PassResult:
        """Return a program with a first weight that is larger by a millionth."""
        name, tensor = next((n, t) for n, t in program.tensors.items() if n == "head.weight")
        changed = nn.Parameter(tensor.detach() * (1 + 1e-6))
        return PassResult(revise(program, {**program.tensors, name: changed}), modified=True)


def test_a_pass_that_changes_the_function_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = type("Entry", (), {"load": staticmethod(lambda: Wrong)})()
    registered = {**pass_base._registered(), "wrong": entry}
    monkeypatch.setattr(pass_base, "_registered", lambda: registered)
    monkeypatch.setattr(deployment, "DEPLOY_PIPELINE", ("eliminate-identities", "wrong"))
    with pytest.raises(VerificationError, match=r"expected the pass wrong to keep .* to 1e-09, .* got \d\.\de-0[67]"):
        swdc.deploy(traced(network()))


def test_what_cannot_be_deployed() -> None:
    program = traced(network())
    with pytest.raises(PassError, match=r"expected outputs to keep of \['logits', 'aux'\]"):
        swdc.deploy(program, ("other",))
    with pytest.raises(PassError, match="expected tensors with values for a deployment"):
        swdc.deploy(program.clone().to("meta"))
    program = program.with_facts(example_only=True)
    with pytest.raises(PassError, match=r"recorded on its example inputs; deploy the model that swdc.transplant"):
        swdc.deploy(program)


def test_a_graph_network(gcn: Any) -> None:
    model = gcn(5, 8, num_layers=2, out_channels=3, norm="batch_norm", dropout=0.5)
    edges = torch.tensor([[0, 1, 2, 3, 3], [1, 2, 3, 0, 1]])
    program = swdc.trace(randomise(model).eval(), (image(4, 5), edges))
    deployed = swdc.deploy(program)
    assert not any("Dropout" in name for name in operators(deployed))
    assert_same(flat_outputs(program(image(4, 5), edges)), flat_outputs(deployed(image(4, 5), edges)))


def test_what_depends_on_the_batch_stays() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(m.a(x)).squeeze()

    model = Function(forward, a=nn.Linear(4, 3))
    program = traced(model, image(3, 4))
    deployed = swdc.deploy(program)
    for batch in (1, 2, 6000):
        x = image(batch, 4)
        assert deployed(x).shape == program(x).shape == model.double()(x).shape
        assert_equal(program(x), deployed(x))


def test_a_scaled_sum_with_zeros_is_no_identity() -> None:
    def forward(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.b(torch.add(m.zeros, torch.relu(m.a(x)), alpha=2))

    program = traced(Function(forward, a=nn.Linear(4, 8), b=nn.Linear(8, 2), zeros=torch.zeros(8)), image(3, 4))
    with torch.no_grad():
        program.get_buffer("zeros").zero_()
    deployed = swdc.deploy(program)
    assert "aten.add.Tensor" in operators(deployed)
    assert_same(program(image(5, 4)), deployed(image(5, 4)))


def test_a_local_response_norm() -> None:
    model = nn.Sequential(conv(3, 8), nn.ReLU(), nn.LocalResponseNorm(3), nn.Conv2d(8, 4, 3), nn.Flatten())
    program = traced(model, image(2, 3, 8, 8))
    with torch.no_grad():
        program.get_parameter("0.weight")[2] = 0.0
        program.get_parameter("0.bias")[2] = 1.5
    assert_same(program(image(5, 3, 8, 8)), swdc.deploy(program)(image(5, 3, 8, 8)))


def test_a_program_in_which_a_search_may_find_nothing() -> None:
    model = Function(lambda m, x: m.b(m.a(x)[x[:, 0] > 0]).amax(0), a=nn.Linear(5, 8), b=nn.Linear(8, 2))
    x = image(6, 5)
    x[0, 0] = 1.0
    program = traced(model, x)
    assert_same(program(x), swdc.deploy(program)(x))
