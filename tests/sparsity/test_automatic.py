"""``a="auto"``: the course of the norm, whatever the optimizer, and exact zeros at the end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.ir.program import Program
from swdc.networks import resnet20
from swdc.sparsity.penalties.automatic import POWER, course
from tests.support import assert_same, image, traced

Optimizers = dict[str, Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]]
OPTIMIZERS: Optimizers = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1),
}
STEPS = 12


def network(dtype: torch.dtype = torch.float64) -> Program:
    torch.manual_seed(0)
    program = traced(resnet20(width=4), image(2, 3, 8, 8)).train()
    return program.to(dtype) if dtype != torch.float64 else program


def made(
    program: nn.Module, structure: str, name: str = "nesterov", **options: Any
) -> tuple[swdc.SWD, torch.optim.Optimizer]:
    optimizer = OPTIMIZERS[name](program.parameters())
    settings = {"target": 0.7, "a": "auto", "steps": STEPS, **options}
    return swdc.SWD(program, structure=structure, optimizer=optimizer, **settings), optimizer


def train(program: nn.Module, method: swdc.SWD, optimizer: torch.optim.Optimizer, steps: Iterable[int]) -> None:
    dtype = next(program.parameters()).dtype
    for step in steps:
        optimizer.zero_grad()
        logits = program(image(4, 3, 8, 8, seed=step).to(dtype))
        nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 3])).backward()
        method.step()
        optimizer.step()


def share_of(method: swdc.SWD, targets: list[Any]) -> float:
    """Return the share of the norm of all candidates' parameters that lies in some targets."""
    aimed = sum(float(t.parameter.detach()[t.chosen].square().sum()) for t in targets)
    whole = sum(float(p.detach().square().sum()) for p in {t.parameter for t in method._targets.candidates()})
    return math.sqrt(aimed / whole)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("structure", ["weights", "channels", "filters"])
def test_the_share_of_the_norm_follows_the_course_to_zero(structure: str, name: str) -> None:
    program = network()
    method, optimizer = made(program, structure, name)
    shares, shrunk = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        nn.functional.cross_entropy(program(image(4, 3, 8, 8, seed=step)), torch.tensor([0, 1, 2, 3])).backward()
        targets = method.targeted()
        method.step()
        optimizer.step()
        shares.append(share_of(method, targets))
        shrunk.append(method.a > 0)
    for step, share in enumerate(shares):
        wanted = shares[0] * (1 - step / (STEPS - 1)) ** POWER
        assert share <= wanted * (1 + 1e-10), step
        if shrunk[step]:
            assert share == pytest.approx(wanted, rel=1e-10), step
    assert sum(shrunk) > STEPS / 2
    assert shares[-1] == 0
    assert method.a == math.inf


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("structure", ["weights", "channels", "filters"])
def test_at_the_end_a_removal_changes_nothing(structure: str, dtype: torch.dtype) -> None:
    program = network(dtype)
    method, optimizer = made(program, structure)
    train(program, method, optimizer, range(STEPS))
    before = {name: tensor.clone() for name, tensor in program.state_dict().items()}
    assert not any(t.parameter[t.chosen].any() for t in method.targeted())
    inputs = image(4, 3, 8, 8).to(dtype)
    gap = method.gap(lambda: program.eval()(inputs).square().mean())
    assert gap.difference == 0
    method.remove_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in program.state_dict().items())
    if dtype == torch.float64 and structure != "weights":
        slim = swdc.slim(program.eval(), method.plan())
        assert swdc.count(slim).parameters <= 0.3 * swdc.count(program).parameters
        assert_same(program(inputs), slim(inputs), 1e-10)


def test_after_the_last_step_what_is_targeted_stays_zero() -> None:
    program = network()
    method, optimizer = made(program, "weights")
    train(program, method, optimizer, range(STEPS))
    zeros = {t.name: t.chosen for t in method.targeted()}
    train(program, method, optimizer, range(STEPS, STEPS + 3))
    for target in method.targeted():
        assert torch.equal(target.chosen, zeros[target.name])
        assert not target.parameter[target.chosen].any()


def test_the_course_has_no_scale() -> None:
    def shares(scale: float) -> list[float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(scale)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        method = swdc.SWD(model, 0.5, "weights", a="auto", steps=6, optimizer=optimizer)
        found = []
        for _ in range(6):
            model(image(4, 6)).square().sum().backward()
            method.step()
            optimizer.step()
            found.append(share_of(method, method.targeted()))
        return found

    assert shares(1e-3) == pytest.approx(shares(1e3), rel=1e-10)
    assert shares(1.0)[1:] == pytest.approx([shares(1.0)[0] * course(s, 6) for s in range(1, 6)], rel=1e-10)


def test_the_coefficient_is_that_of_the_proximal_penalty() -> None:
    def start(**options: Any) -> tuple[Program, swdc.SWD, torch.optim.Optimizer]:
        program = network()
        optimizer = torch.optim.SGD(program.parameters(), lr=0.02)
        return program, swdc.SWD(program, 0.7, "weights", steps=STEPS, optimizer=optimizer, **options), optimizer

    seen = []
    program, method, optimizer = start(a="auto")
    for step in range(5):
        train(program, method, optimizer, [step])
        seen.append(method.a)
    assert seen[0] == 0
    assert 0 < seen[-1] < math.inf
    other, proximal, optimizer = start(schedule=lambda s, *_: seen[s], penalty="proximal", norm="l1")
    step = proximal.step

    def step_with_faded_gradients() -> None:
        masks = {id(target.parameter): target.chosen for target in proximal.targeted()}
        gradients = [(p.grad, masks[id(p)]) for p in proximal._ownership.parameters.values() if p.grad is not None]
        most = max(float(gradient[~mask].abs().max()) for gradient, mask in gradients if not mask.all())
        for gradient, mask in gradients:
            gradient[mask] = gradient[mask].clamp(-most, most) * course(proximal.s, STEPS)
        step()

    proximal.step = step_with_faded_gradients  # type: ignore[method-assign]
    train(other, proximal, optimizer, range(5))
    for name, tensor in program.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("refresh", [1, 3])
def test_a_saved_state_goes_on_exactly(refresh: int) -> None:
    def run() -> tuple[Program, swdc.SWD, torch.optim.Optimizer]:
        program = network(torch.float32)
        return program, *made(program, "filters", "adam", refresh=refresh)

    whole, first, second = run(), run(), run()
    train(*whole, range(STEPS))
    train(*first, range(5))
    for one, other in zip(first, second, strict=True):
        other.load_state_dict(one.state_dict())
    train(*second, range(5, STEPS))
    for name, tensor in whole[0].state_dict().items():
        assert torch.equal(tensor, second[0].state_dict()[name]), name


def test_no_weight_is_thrown_above_all_others() -> None:
    """Few weights are left before batch norms, at a high rate; without the fading some would exceed a million."""
    program = network(torch.float32)
    optimizer = torch.optim.SGD(program.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    method = swdc.SWD(program, 0.98, "weights", a="auto", steps=60, optimizer=optimizer)
    train(program, method, optimizer, range(60))
    assert max(float(p.detach().abs().max()) for p in program.parameters()) < 10


def test_gradients_only_fade_if_nothing_else_has_a_gradient() -> None:
    model = nn.Linear(4, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    method = swdc.SWD(model, 0.5, "weights", a="auto", steps=5, optimizer=optimizer)
    for others, wanted in ((0.0, [-5.0, 7.0]), (6.0, [-5.0, 6.0])):
        model.weight.grad = torch.tensor([[-5.0, 7.0, others, 0.0]], dtype=torch.float64)
        fade = course(method.s, 5)
        method.step()
        assert model.weight.grad[0].tolist() == pytest.approx([*(fade * w for w in wanted), others, 0.0], rel=1e-15)


@pytest.mark.parametrize("structure", ["channels", "filters"])
def test_gradients_of_norms_do_not_fade(structure: str) -> None:
    program = network()
    method, optimizer = made(program, structure)
    train(program, method, optimizer, range(4))
    nn.functional.cross_entropy(program(image(4, 3, 8, 8)), torch.tensor([0, 1, 2, 3])).backward()
    before = {name: p.grad.clone() for name, p in program.named_parameters() if p.grad is not None}
    method.step()
    changed = {name for name, p in program.named_parameters() if not torch.equal(p.grad, before[name])}
    norms = {
        f"{path}.{n}"
        for path, m in program.named_modules()
        if "BatchNorm" in type(m).__name__
        for n in ("weight", "bias")
    }
    assert not changed & norms
    assert bool(changed) == (structure == "filters")


def test_a_skipped_step_shrinks_nothing() -> None:
    program = network()
    method, optimizer = made(program, "weights")
    train(program, method, optimizer, range(3))
    before = {name: tensor.clone() for name, tensor in program.state_dict().items()}
    optimizer.zero_grad()
    method.step()  # and a scaler finds that the gradients have overflowed
    assert all(torch.equal(tensor, before[name]) for name, tensor in program.state_dict().items())
    train(program, method, optimizer, range(4, STEPS))
    assert not any(t.parameter[t.chosen].any() for t in method.targeted())


def test_a_single_step_is_the_last() -> None:
    assert course(0, 1) == 0
    assert [course(s, 5) for s in (0, 2, 4, 9)] == [1, 0.5**POWER, 0, 0]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"a": 3.0}, r"expected a as text or None, got 3\.0"),
        ({"a_min": 1.0}, r"expected no a_min and a_max with a='auto'"),
        ({"a_max": 1.0}, r"expected no a_min and a_max with a='auto'"),
        ({"optimizer": None}, r"expected optimizer= as a torch\.optim\.Optimizer, .* a='auto' follows, got None"),
        ({"norm": "l1"}, r"expected the default norm and schedule with a='auto', got others"),
        ({"schedule": "linear"}, r"expected the default norm and schedule with a='auto', got others"),
        ({"a": None}, r"expected a_min as a positive number of at most 3.4e.38, got None; or give a='auto'"),
    ],
)
def test_bad_arguments(changed: dict[str, Any], message: str) -> None:
    model = nn.Linear(4, 4)
    arguments = {"a": "auto", "steps": 5, "optimizer": torch.optim.SGD(model.parameters()), **changed}
    with pytest.raises(PlanError, match=message):
        swdc.SWD(model, 0.5, "weights", **arguments)


def test_bounds_are_needed_only_by_schedules_that_read_them() -> None:
    model = nn.Linear(4, 4)
    assert swdc.SWD(model, 0.5, "weights", a_max=3.0, schedule="constant", steps=5).a == 3
    assert swdc.SWD(model, 0.5, "weights", schedule=lambda s, *_: 7.0 + s, steps=5).a == 7
    for schedule in ("exponential", "linear", "cosine"):
        with pytest.raises(PlanError, match=r"expected a_min as a positive number of at most 3.4e.38, got None"):
            swdc.SWD(model, 0.5, "weights", a_max=3.0, schedule=schedule, steps=5)
    method = swdc.SWD(model, 0.5, "weights", schedule=lambda s, *_: math.nan, steps=5)
    with pytest.raises(
        PlanError, match="expected a schedule of numbers that are not negative nor huge, got nan at step 0"
    ):
        method.step()
