"""Each baseline against its source: what goes when, and what is added to the gradients."""

import numpy as np
import pytest
import torch

import swdc
from swdc.analysis.residual import deciding_norms
from swdc.errors import PlanError
from swdc.networks import LeNet5
from swdc.sparsity.baselines import GrowingL2, LRRewinding, MagnitudePruning, NetworkSlimming, UniformDecay
from swdc.sparsity.baselines.growing import filter_l1
from tests.sparsity.test_baselines import loss_of, network, train, weights_outside_norms
from tests.support import randomise


def sgd(model, rate=0.02):
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4)


def zeros(program):
    return sum(int((p == 0).sum()) for p in weights_outside_norms(program).values())


def added(program, used):
    """Return by name what a step adds to the gradients."""
    program.zero_grad()
    loss_of(program, 0).backward()
    before = {n: p.grad.clone() for n, p in program.named_parameters()}
    used.step()
    return {n: p.grad - before[n] for n, p in program.named_parameters()}


def assert_added(program, used, penalty):
    """Assert that a step adds the gradient of a penalty, to rounding of the sum."""
    expected = dict(zip(dict(program.named_parameters()), torch.autograd.grad(
        penalty, list(program.parameters()), allow_unused=True), strict=True))  # fmt: skip
    for name, gradient in added(program, used).items():
        wanted = torch.zeros_like(gradient) if expected[name] is None else expected[name]
        assert (gradient - wanted).abs().max() <= 1e-12 * (1 + wanted.abs().max()), name


def removed_parameters(program, plan):
    return 1 - swdc.count(swdc.slim(program, plan)).parameters / swdc.count(program).parameters


def assert_met_to_one_channel(program, plan, share, scores):
    """Assert that a plan meets a share of the parameters, and without its best channel would not."""
    assert removed_parameters(program, plan) >= share
    gone = [
        (values[c], name, c)
        for values, (name, kept) in zip(scores, plan.kept.items(), strict=True)
        for c in sorted(set(range(len(values))) - set(kept))
    ]
    best = max(value for value, _, _ in gone)
    for _, name, channel in (g for g in gone if g[0] == best):
        kept = {**plan.kept, name: tuple(sorted((*plan.kept[name], channel)))}
        assert removed_parameters(program, swdc.Plan(kept, plan.widths, plan.program_hash)) < share


# -- Han et al. 2015 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"start": 10}, [10, 12, 14, 16, 18]),
        ({"start": 0, "rounds": 4}, [0, 5, 10, 15]),
        ({"start": 3, "rounds": 2, "every": 1}, [3, 4]),
        ({"start": 20, "rounds": 3}, [20, 20, 20]),
        ({"start": 20, "rounds": 1}, [20]),
    ],
)
def test_magnitude_rounds_are_evenly_spaced_and_take_the_target_in_equal_parts(options, steps):
    program = network()
    optimizer = sgd(program)
    used = MagnitudePruning(program, 0.9, steps=20, optimizer=optimizer, **options)
    assert [s for s, _ in used.removals] == steps
    assert [share for _, share in used.removals] == pytest.approx(np.arange(1, len(steps) + 1) / len(steps) * 0.9)
    assert used.removals[-1][1] == 0.9
    total = sum(p.numel() for p in weights_outside_norms(program).values())
    found = []
    train(program, optimizer, used, last=20, after=lambda _: found.append(zeros(program)))
    done = [sum(step <= s for step in steps) for s in range(1, 21)]
    assert found == [int(used.removals[d - 1][1] * total) if d else 0 for d in done]


def test_magnitude_removes_the_least_weights_of_all_layers():
    program = network()
    used = MagnitudePruning(program, 0.5, steps=6, start=3, optimizer=sgd(program))
    before = {n: p.detach().abs() for n, p in weights_outside_norms(program).items()}
    magnitudes = torch.cat([p.flatten() for p in before.values()])
    used.remove_()
    threshold = magnitudes.sort().values[len(magnitudes) // 2 - 1]
    for name, parameter in weights_outside_norms(program).items():
        assert torch.equal(parameter == 0, before[name] <= threshold), name


def test_every_round_for_channels_meets_its_budget_to_one_channel():
    program = network()
    optimizer = sgd(program, rate=0.0)  # moves nothing, so that the scores at the removal are known
    used = MagnitudePruning(program, 0.7, "channels", steps=6, start=2, rounds=3, every=1, optimizer=optimizer)
    for s in range(4):
        scores = swdc.sparsity.planning.criteria.gamma(program, program.groups)
        train(program, optimizer, used, first=s, last=s + 1)
        if s > 0:
            assert_met_to_one_channel(program, used._held.plan, used.removals[s - 1][1], scores)
    assert used.plan() == used._held.plan


@pytest.mark.parametrize("seed", range(3))
def test_channels_stay_gone_where_rounds_are_closer_than_channels(seed):
    program = network(seed)
    optimizer = sgd(program)
    used = MagnitudePruning(program, 0.5, "channels", steps=30, start=1, rounds=25, every=1, optimizer=optimizer)
    gone = {name: set() for name in program.coupling.names()}

    def after(_):
        for name, kept in used._held.plan.kept.items():
            now = set(range(used._held.plan.widths[name])) - set(kept)
            assert gone[name] <= now
            gone[name] = now

    train(program, optimizer, used, last=30, after=after)
    assert sum(map(len, gone.values())) == used.plan().removed_channels
    assert removed_parameters(program, used.plan()) >= 0.5


# -- Liu et al. 2017 -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["l1", "smooth_l1"])
def test_slimming_adds_the_subgradient_of_the_norm_of_all_deciding_gains(norm):
    program = randomise(network())
    used = NetworkSlimming(program, 0.5, steps=4, start=2, penalty=0.03, norm=norm, optimizer=sgd(program))
    gains = [program.get_submodule(path).weight for path in deciding_norms(program)]
    assert len(gains) == 5
    assert any(bool((g > 1).any()) for g in gains)
    with torch.no_grad():
        gains[0][0] *= -1
    values = torch.cat(gains)
    smooth = torch.where(values.abs() <= 1, values**2, values.abs())
    assert_added(program, used, 0.03 * (values.abs() if norm == "l1" else smooth).sum())


def test_slimming_removes_once_by_one_threshold_and_fine_tunes_without_the_penalty():
    program = network()
    optimizer = sgd(program, rate=0.0)
    used = NetworkSlimming(program, 0.6, steps=4, start=2, penalty=0.03, optimizer=optimizer)
    scores = swdc.sparsity.planning.criteria.gamma(program, program.groups)
    train(program, optimizer, used, last=1)
    assert not used.removed()
    train(program, optimizer, used, first=1, last=2)
    assert_met_to_one_channel(program, used.plan(), 0.6, scores)
    gone = {part.name: part.chosen for part in used.removed()}
    for name, gradient in added(program, used).items():
        kept = ~gone.get(name, torch.zeros_like(gradient, dtype=torch.bool))
        assert not gradient[kept].any(), name


def test_slimming_needs_batch_norms():
    program = swdc.trace(LeNet5(), torch.randn(2, 1, 32, 32))
    with pytest.raises(PlanError, match=r"expected batch norms that decide .* swdc.insert_batchnorm"):
        NetworkSlimming(program, 0.5, steps=4, start=2, optimizer=sgd(program))


# -- Renda et al. 2020 ---------------------------------------------------------------------------------------------


def test_rewinding_removes_half_way_where_the_schedule_begins_anew():
    program = network()
    optimizer = sgd(program)
    used = LRRewinding(program, 0.8, steps=12, optimizer=optimizer)
    assert used.restarts == (6,)
    assert MagnitudePruning.restarts == ()
    total = sum(p.numel() for p in weights_outside_norms(program).values())
    found = []
    train(program, optimizer, used, last=12, after=lambda _: found.append(zeros(program)))
    assert found == [0] * 5 + [int(0.8 * total)] * 7
    assert LRRewinding(program, 0.8, steps=12, start=4, optimizer=sgd(program)).restarts == (4,)


def test_rewinding_of_channels_takes_the_penalty_of_slimming():
    program = randomise(network())
    used = LRRewinding(program, 0.5, "channels", steps=4, penalty=0.02, norm="smooth_l1", optimizer=sgd(program))
    values = torch.cat([program.get_submodule(path).weight for path in deciding_norms(program)])
    assert_added(program, used, 0.02 * torch.where(values.abs() <= 1, values**2, values.abs()).sum())


# -- Wang et al. 2021 ----------------------------------------------------------------------------------------------


def test_growing_factor_is_raised_every_few_steps_up_to_its_ceiling():
    program = network()
    used = GrowingL2(
        program, 0.5, "weights", steps=20, start=3, delta=0.1, every=4, ceiling=0.3, stabilize=2, optimizer=sgd(program)
    )
    assert used.removals == ((3 + 3 * 4 + 2, 0.5),)
    seen = []
    for _ in range(20):
        seen.append(used.factor)
        used.step()
    assert seen == pytest.approx([0.0] * 3 + [0.1] * 4 + [0.2] * 4 + [0.3] * 9)


@pytest.mark.parametrize("structure", ["weights", "channels"])
def test_growing_decay_acts_on_the_set_of_the_start_and_on_nothing_else(structure):
    program = randomise(network())
    optimizer = sgd(program)
    used = GrowingL2(
        program, 0.5, structure, steps=20, start=2, delta=0.25, every=3, ceiling=1.0, stabilize=0, optimizer=optimizer
    )
    train(program, optimizer, used, last=2)
    first = {part.name: part.chosen.clone() for part in used.targeted()}
    assert_added(program, used, _decay(program, first, structure, 0.25))
    with torch.no_grad():
        for name, parameter in program.named_parameters():  # what is large now was chosen as small
            if name in first:
                parameter[first[name]] *= 100
    assert {part.name for part in used.targeted()} == set(first)
    assert all(torch.equal(part.chosen, first[part.name]) for part in used.targeted())
    assert_added(program, used, _decay(program, first, structure, 0.25))
    used.step()
    assert_added(program, used, _decay(program, first, structure, 0.5))
    train(program, sgd(program, rate=0.0), used, first=used.s, last=20)
    used.remove_()
    assert all(torch.equal(part.chosen, first[part.name]) for part in used.removed())
    assert all(not part.parameter[part.chosen].any() for part in used.removed())


def _decay(program, chosen, structure, factor):
    """Return the penalty on a set: all of its weights, or those of filters."""
    parameters = {n: p for n, p in program.named_parameters() if n in chosen}
    held = {n: p for n, p in parameters.items() if structure == "weights" or p.dim() > 1}
    assert held
    return factor / 2 * sum((p[chosen[n]] ** 2).sum() for n, p in held.items())


def test_growing_takes_an_equal_share_of_the_filters_of_every_layer_by_their_l1_norm():
    program = network()
    used = GrowingL2(program, 0.5, "channels", steps=9, delta=1.0, every=1, stabilize=0, optimizer=sgd(program))
    plan = used.plan()
    assert_met_to_one_channel(program, plan, 0.5, filter_l1(program, program.groups))
    shares = []
    for group in program.groups:
        tensors = [program.get_parameter(m.tensor) for m in group.with_role("writes")]
        norms = sum(p.detach().double().abs().flatten(1).sum(1) for p in tensors if p.dim() > 1)
        kept = torch.tensor(plan.kept[group.name])
        gone = torch.ones(group.width, dtype=torch.bool).index_fill_(0, kept, False)
        assert norms[gone].max() <= norms[kept].min()
        shares.append((int(gone.sum()), group.width))
    assert all(abs(n / width - m / wide) <= 1 / min(width, wide) for n, width in shares for m, wide in shares)


# -- the ablation of Tessier et al. 2022 ---------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["weights", "channels"])
def test_uniform_decay_grows_on_everything_and_removes_at_the_end(structure):
    program = randomise(network())
    optimizer = sgd(program)
    used = UniformDecay(program, 0.6, structure, a_min=2.0, a_max=32.0, steps=4, mu=1e-2)
    norms = [program.get_submodule(path) for path in deciding_norms(program)]
    pulled = {
        "weights": list(weights_outside_norms(program).values()),
        "channels": [p for norm in norms for p in (norm.weight, norm.bias)],
    }[structure]
    for a in (2.0, 4.0, 8.0, 16.0, 32.0, 32.0):
        assert used.a == pytest.approx(a)
        assert_added(program, used, 1e-2 * used.a / 2 * sum((p**2).sum() for p in pulled))
        optimizer.step()
    assert zeros(program) == 0
    targeted = used.targeted()
    used.remove_()
    assert all(not part.parameter[part.chosen].any() for part in targeted)
    assert (zeros(program) > 0) == (structure == "weights")
