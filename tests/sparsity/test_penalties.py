"""The penalty by the gradient and by a shrinkage: with every optimizer, loss scaling, and any coefficient."""

from __future__ import annotations

import copy
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional

import swdc
from swdc.errors import PlanError
from tests.sparsity.test_swd import loss_of, small_resnet

OPTIMIZERS = {
    "sgd": partial(torch.optim.SGD, lr=0.05),
    "momentum": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "nesterov": partial(torch.optim.SGD, lr=0.05, momentum=0.9, nesterov=True),
    "adam": partial(torch.optim.Adam, lr=0.01, weight_decay=1e-3),
    "adamw": partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1),
}


def mlp(dtype=torch.float64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.BatchNorm1d(16), nn.Linear(16, 3)).to(dtype)


def loss_on(model, dtype=torch.float64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(8, 6, generator=generator, dtype=torch.float64).to(dtype)
    return functional.cross_entropy(model(inputs).float() if dtype.itemsize < 4 else model(inputs), torch.arange(8) % 3)


def lowest(model, share):
    """Return masks of the share of all weights outside norms with the least magnitude."""
    weights = {n: p.detach() for n, p in model.named_parameters() if not n.startswith("2.")}
    flat = torch.cat([w.abs().flatten() for w in weights.values()])
    threshold = flat.sort().values[int(share * flat.numel()) - 1]
    return {n: w.abs() <= threshold for n, w in weights.items()}


def parameters(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("structure", ["channels", "weights"])
def test_the_gradient_elsewhere_is_left_alone_to_the_bit(structure):
    program = small_resnet()
    loss_of(program).backward()
    before = {name: p.grad.clone() for name, p in program.named_parameters()}
    swd = swdc.SWD(program, 0.6, structure, a_min=1e3, a_max=1e3, steps=5)
    targets = {t.name: t for t in swd.targeted()}
    swd.step()
    for name, parameter in program.named_parameters():
        mask = targets[name].chosen if name in targets else torch.zeros_like(parameter, dtype=torch.bool)
        expected = before[name] + 1e3 * 5e-4 * parameter.detach()
        assert torch.equal(parameter.grad[~mask], before[name][~mask]), name
        torch.testing.assert_close(parameter.grad[mask], expected[mask], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_shrinkage_follows_every_optimizer(name):
    one, other = mlp(), mlp()
    groups = [{"params": one[0].parameters(), "lr": 0.02}, {"params": [*one[2].parameters(), *one[3].parameters()]}]
    mine = OPTIMIZERS[name](groups)
    groups = [
        {"params": other[0].parameters(), "lr": 0.02},
        {"params": [*other[2].parameters(), *other[3].parameters()]},
    ]
    theirs = OPTIMIZERS[name](groups)
    swd = swdc.SWD(
        one, 0.5, "weights", a_min=1e2, a_max=1e5, steps=6, mu=1e-2, penalty="proximal", optimizer=mine
    )  # fmt: skip
    for step in range(6):
        mine.zero_grad()
        loss_on(one).backward()
        swd.step()
        mine.step()
        masks = lowest(other, 0.5)
        theirs.zero_grad()
        loss_on(other).backward()
        theirs.step()
        strength = 1e2 * 1e3 ** (step / 6) * 1e-2
        with torch.no_grad():
            for path, parameter in other.named_parameters():
                rate = 0.02 if path.startswith("0.") else theirs.defaults["lr"]
                if path in masks:
                    parameter[masks[path]] /= 1 + rate * strength
        mine.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = 0.02  # a schedule may set it at any time
        for path, parameter in one.named_parameters():
            torch.testing.assert_close(parameter, other.get_parameter(path), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("structure", ["channels", "weights"])
def test_proximal_and_gradient_agree_to_first_order_in_the_rate(structure):
    gaps = []
    for rate in (1e-3, 5e-4, 2.5e-4):
        ends = []
        for penalty in ("gradient", "proximal"):
            program = small_resnet()
            optimizer = torch.optim.SGD(program.parameters(), lr=rate)
            swd = swdc.SWD(
                program, 0.6, structure, a_min=2e4, a_max=2e4, steps=5, penalty=penalty, optimizer=optimizer
            )  # fmt: skip
            start = parameters(program)
            loss_of(program).backward()
            swd.step()
            optimizer.step()
            ends.append(parameters(program))
        gaps.append(max((ends[0][n] - ends[1][n]).abs().max().item() for n in start))
    assert gaps[0] > 0
    for coarse, fine in pairwise(gaps):
        assert 3.8 < coarse / fine < 4.2  # the error of one step is of second order


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    ("penalty", "optimizer"),
    [("proximal", name) for name in OPTIMIZERS]
    + [("gradient", "momentum"), ("gradient", "nesterov"), ("gradient", "sgd")],
)
def test_nothing_overflows_at_any_coefficient(dtype, penalty, optimizer):
    model = mlp(dtype)
    options = {"eps": 1e-4} if optimizer.startswith("adam") and dtype == torch.float16 else {}
    steps = OPTIMIZERS[optimizer](model.parameters(), **options)
    swd = swdc.SWD(model, 0.7, "weights", a_min=1e12, a_max=1e12, steps=40, penalty=penalty, optimizer=steps)
    for step in range(40):
        steps.zero_grad()
        loss_on(model, dtype, step).backward()
        swd.step()
        assert all(p.grad.isfinite().all() for p in model.parameters())
        steps.step()
        assert all(p.isfinite().all() for p in model.parameters())
    if penalty == "proximal":
        assert all(t.parameter[t.chosen].abs().max() < 1e-6 for t in swd.targeted() if t.chosen.any())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_gradient_stays_in_its_range_without_an_optimizer(dtype):
    model = mlp(dtype)
    loss_on(model, dtype).backward()
    model[0].weight.grad[0, 0] = float("inf")  # a scaler that looks later still sees what overflowed before
    swdc.SWD(model, 0.99, "weights", a_min=1e12, a_max=1e12, steps=3).step()
    assert model[0].weight.grad[0, 0] == float("inf")
    assert sum(int((~p.grad.isfinite()).sum()) for p in model.parameters()) == 1


def test_the_gradient_form_without_a_limit_says_when_it_has_diverged():
    model = mlp(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    swd = swdc.SWD(model, 0.5, "weights", a_min=1e12, a_max=1e12, steps=50)
    with pytest.raises(PlanError, match=r"expected finite weights, .*; training has diverged.*penalty='proximal'"):
        trained(swd, model, optimizer, range(50), torch.float32)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("unscaled", [False, True])
def test_a_loss_scaler_that_skips_a_step_skips_the_shrinkage(fused, unscaled):
    model = mlp(torch.float32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    swd = swdc.SWD(model, 0.5, "weights", a_min=1e3, a_max=1e3, steps=9, penalty="proximal", optimizer=optimizer)
    for step in range(4):
        reference = copy.deepcopy(model)
        plain = torch.optim.SGD(reference.parameters(), lr=0.1, momentum=0.9)
        plain.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        masks = lowest(model, 0.5)
        optimizer.zero_grad()
        reference.zero_grad()
        scaler.scale(loss_on(model, torch.float32)).backward()
        loss_on(reference, torch.float32).backward()
        if step == 2:
            model[0].weight.grad[1, 2] = float("inf")
        if unscaled:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1e9)
        before = parameters(model)
        swd.step()
        scaler.step(optimizer)
        scaler.update()
        if step == 2:
            assert all(torch.equal(before[n], p) for n, p in model.named_parameters())
            continue
        plain.param_groups[0]["fused"] = False
        plain.step()
        for name, parameter in reference.named_parameters():
            expected = parameter.detach()
            if name in masks:
                expected = torch.where(masks[name], expected / (1 + 0.1 * 1e3 * 5e-4), expected)
            torch.testing.assert_close(model.get_parameter(name).detach(), expected, rtol=1e-4, atol=1e-6)


def test_a_step_of_the_optimizer_without_a_step_of_the_method_shrinks_nothing():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    swd = swdc.SWD(model, 0.5, "weights", a_min=1e3, a_max=1e3, steps=9, penalty="proximal", optimizer=optimizer)
    loss_on(model).backward()
    swd.step()
    optimizer.step()
    optimizer.zero_grad()
    before = parameters(model)
    optimizer.step()
    assert all(torch.equal(before[n], p) for n, p in model.named_parameters())


def test_the_pull_is_added_once_to_accumulated_gradients():
    model = mlp()
    swd = swdc.SWD(model, 0.5, "weights", a_min=1e3, a_max=1e3, steps=9)
    masks = lowest(model, 0.5)
    loss_on(model, seed=1).backward()
    loss_on(model, seed=2).backward()
    before = {n: p.grad.clone() for n, p in model.named_parameters()}
    swd.step()
    assert swd.s == 1
    for name, mask in masks.items():
        weight = model.get_parameter(name)
        torch.testing.assert_close(weight.grad, before[name] + 0.5 * weight.detach() * mask, rtol=1e-12, atol=1e-15)


def trained(swd, model, optimizer, steps, dtype=torch.float64):
    for step in steps:
        optimizer.zero_grad()
        loss_on(model, dtype, step).backward()
        swd.step()
        optimizer.step()


def made(model, penalty="gradient", refresh=3):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    options = {"a_min": 1.0, "a_max": 1e3, "steps": 11, "penalty": penalty, "refresh": refresh}
    return swdc.SWD(model, 0.5, "weights", optimizer=optimizer, **options), optimizer


@pytest.mark.parametrize("penalty", ["gradient", "proximal"])
@pytest.mark.parametrize("refresh", [1, 3])
@pytest.mark.parametrize("stop", [4, 6])
def test_a_resumed_run_is_the_same_to_the_bit(penalty, refresh, stop, tmp_path):
    through = mlp()
    swd, optimizer = made(through, penalty, refresh)
    trained(swd, through, optimizer, range(11))
    first = mlp()
    swd, optimizer = made(first, penalty, refresh)
    trained(swd, first, optimizer, range(stop))
    file = tmp_path / "state.pt"
    torch.save({"model": first.state_dict(), "optimizer": optimizer.state_dict(), "swd": swd.state_dict()}, file)
    again = mlp()
    swd, optimizer = made(again, penalty, refresh)
    state = torch.load(file, weights_only=True)
    again.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    swd.load_state_dict(state["swd"])
    trained(swd, again, optimizer, range(stop, 11))
    assert all(torch.equal(p, again.get_parameter(n)) for n, p in through.named_parameters())


def test_the_set_is_kept_between_refreshes():
    model = mlp()
    swd, _ = made(model, refresh=3)
    pulled = []
    for step in range(6):
        model.zero_grad()
        swd.step()
        pulled.append(model[0].weight.grad != 0)
        with torch.no_grad():
            model[0].weight.copy_(model[0].weight.flip(0) + 0.01 * step)
    same = [torch.equal(one, other) for one, other in pairwise(pulled)]
    assert same == [True, True, False, True, True]


def test_a_swapped_parameter_is_named():
    model = mlp()
    swd, _ = made(model)
    swd.step()
    model[3].weight = nn.Parameter(model[3].weight.detach().clone())
    with pytest.raises(PlanError, match=r"expected the parameter 3\.weight that was there .*, got another"):
        swd.step()


def test_a_swapped_module_is_noticed():
    model = nn.Sequential(mlp(), nn.Linear(3, 3))
    swd = swdc.SWD(model, 0.5, "weights", a_min=1, a_max=10, steps=3)
    model[0][0] = nn.Linear(6, 16)
    with pytest.raises(PlanError, match=r"expected the parameter 0\.0\.weight"):
        swd.step()


def test_an_optimizer_that_loses_a_parameter_is_refused():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    swd = swdc.SWD(model, 0.5, "weights", a_min=1, a_max=10, steps=3, optimizer=optimizer)
    optimizer.param_groups[0]["params"] = [*model[0].parameters()]
    with pytest.raises(PlanError, match=r"it lacks 2, such as 3\.weight"):
        swd.step()


@pytest.mark.parametrize(
    ("structure", "name"),
    [("channels", "bn1.weight"), ("channels", "bn1.bias"), ("filters", "bn1.weight"), ("filters", "bn1.bias"),
     ("filters", "blocks.0.conv1.weight"), ("weights", "blocks.0.conv1.weight")],
)  # fmt: skip
@pytest.mark.parametrize("odd", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(structure, name, odd):
    program = small_resnet()
    swd = swdc.SWD(program, 0.5, structure, a_min=1, a_max=10, steps=3)
    swd.step()
    swd.step()
    with torch.no_grad():
        program.get_parameter(name)[1] = odd
    with pytest.raises(PlanError, match=f"expected finite .* in {name}"):
        swd.step()


def test_finite_weights_may_have_an_infinite_sum():
    program = small_resnet().float()
    swd = swdc.SWD(program, 0.5, "filters", a_min=1, a_max=10, steps=3)
    with torch.no_grad():
        program.get_parameter("bn1.bias").fill_(3e38)
    swd.step()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in program.parameters())


def test_a_model_may_be_cast_to_another_type():
    model = mlp(torch.float32)
    swd, _ = made(model)
    swd.step()
    model.double()
    model.zero_grad()
    swd.s = 3
    swd.step()
    masks = lowest(model, 0.5)
    assert all(torch.equal(model.get_parameter(n).grad != 0, mask) for n, mask in masks.items())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"steps": None}, "expected steps as the whole number of training steps, at least 1, got None"),
        ({"penalty": "lasso"}, r"expected a penalty of \['gradient', 'proximal'\], got 'lasso'"),
        ({"penalty": "proximal"}, r"expected optimizer= as .* whose steps penalty='proximal' follows, got None"),
        ({"optimizer": 3}, r"expected optimizer as an Optimizer or None, got 3; give the optimizer"),
        ({"refresh": 0}, "expected refresh as a whole number of at least 1, got 0"),
    ],
)
def test_bad_arguments(changed, message):
    with pytest.raises(PlanError, match=message):
        swdc.SWD(mlp(), 0.5, "weights", **{"a_min": 1, "a_max": 10, "steps": 5, **changed})


def test_sparse_gradients_become_dense():
    model = nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Linear(4, 2))
    model(torch.tensor([1, 2])).sum().backward()
    swd = swdc.SWD(model, 0.5, "weights", a_min=1e3, a_max=1e3, steps=3)
    mask = {t.name: t.chosen for t in swd.targeted()}["0.weight"]
    swd.step()
    untouched = torch.ones(10, dtype=torch.bool).index_fill(0, torch.tensor([1, 2]), False)
    expected = 0.5 * model[0].weight.detach() * mask
    torch.testing.assert_close(model[0].weight.grad[untouched], expected[untouched])
