"""What holds for all methods that SWD is compared with."""

import io
from functools import cache

import pytest
import torch
from torch import nn
from torch.nn import functional

import swdc
from swdc.errors import PlanError
from swdc.networks.resnet import BasicBlock, ResNet
from swdc.sparsity.baselines import METHODS, GrowingL2, MagnitudePruning, method
from swdc.sparsity.swd import SWD
from tests.support import randomise

STEPS = 16
CASES = {
    "magnitude": {"start": 5, "rounds": 3, "every": 3},
    "slimming": {"start": 10, "penalty": 1e-2},
    "lr_rewinding": {},
    "growing_l2": {"start": 2, "delta": 0.25, "every": 2, "ceiling": 1.0, "stabilize": 2},
    "uniform_decay": {"a_min": 1.0, "a_max": 1e3},
}
STRUCTURES = [(name, s) for name in CASES for s in ("weights", "channels") if (name, s) != ("slimming", "weights")]
OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=5e-4),
}


def network(seed=0, policy=None):
    return traced(seed).clone().under(policy)


@cache
def traced(seed):
    torch.manual_seed(seed)
    model = ResNet(BasicBlock, [1, 1], width=4, classes=3, channels=1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.1, 2.0)
                module.bias.normal_(std=0.3)
    return swdc.trace(model, torch.randn(2, 1, 6, 6))


def build(program, name, structure, optimizer="sgd", target=0.6, **changed):
    used = OPTIMIZERS[optimizer](program.parameters())
    return used, method(name, program, target, structure, steps=STEPS, optimizer=used, **{**CASES[name], **changed})


def loss_of(program, s):
    generator = torch.Generator().manual_seed(s)
    images = torch.randn(6, 1, 6, 6, generator=generator, dtype=next(program.parameters()).dtype)
    return functional.cross_entropy(program(images), torch.randint(3, (6,), generator=generator))


def train(program, optimizer, used, first=0, last=STEPS, after=None):
    program.train()
    for s in range(first, last):
        optimizer.zero_grad()
        loss_of(program, s).backward()
        used.step()
        optimizer.step()
        if after is not None:
            after(s + 1)


def weights_outside_norms(program):
    norms = {n for n, m in program.named_modules() if isinstance(m, nn.BatchNorm2d)}
    return {n: p for n, p in program.named_parameters() if n.rpartition(".")[0] not in norms}


def test_methods_are_found_by_name():
    assert set(METHODS) == {"swd", *CASES}
    assert METHODS["swd"] is SWD
    with pytest.raises(PlanError, match=r"expected a method of \['growing_l2', .*got 'magic'"):
        method("magic", network(), 0.5, "weights")


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("name", "structure"), STRUCTURES)
def test_removed_parts_were_targeted_and_stay_zero(name, structure, optimizer):
    program = network()
    optimizer, used = build(program, name, structure, optimizer)
    if name == "uniform_decay":
        train(program, optimizer, used)
        used.remove_()
        gone = used.targeted()
    else:
        seen = {}

        def after(_):
            masks = {part.name: part.chosen for part in used.removed()}
            assert all(bool(masks[n][chosen].all()) for n, chosen in seen.items()), "something came back"
            seen.update(masks)
            assert all(not part.parameter[part.chosen].any() for part in used.removed())
            moved = {p: optimizer.state[p] for p in (part.parameter for part in used.removed())}
            assert all(moved.values()), "the optimizer has a momentum for each"

        train(program, optimizer, used, after=after)
        gone = used.removed()
        assert {t.name for t in gone} == {t.name for t in used.targeted()}
    assert sum(int(part.parameter[part.chosen].numel()) for part in gone) > 0
    assert all(not part.parameter[part.chosen].any() for part in gone)
    assert all(part.parameter.isfinite().all() for part in gone)
    others = torch.cat([p.detach().flatten() for p in weights_outside_norms(program).values()])
    assert others.any()


@pytest.mark.parametrize(("name", "structure"), [*STRUCTURES, ("magnitude", "filters"), ("growing_l2", "filters")])
def test_the_trained_the_masked_and_the_slim_program_are_one_function(name, structure):
    program = randomise(network())
    optimizer, used = build(program, name, structure, target=0.9 if structure == "weights" else 0.5)
    train(program, optimizer, used)
    used.remove_()
    torch.manual_seed(0)
    with torch.no_grad():  # statistics as no training would leave them
        for module in program.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 1.5)
    plan = used.plan()
    assert plan.settings["method"] == name
    masked, slim = swdc.mask(program, plan), swdc.slim(program, plan)
    if plan.removed_channels:
        assert swdc.verify(masked, slim).exact
    images = torch.randn(3, 1, 6, 6, dtype=torch.float64)
    program.eval()
    with torch.no_grad():
        trained, left = program(images), slim.eval()(images)
    assert (trained - left).abs().max() <= 1e-12 * trained.abs().max()
    if structure != "weights":
        assert plan.removed_channels > 0
        assert swdc.count(slim).parameters <= 0.5 * swdc.count(program).parameters


@pytest.mark.parametrize(("name", "structure"), STRUCTURES)
def test_resumed_runs_end_bit_identical(name, structure):
    straight, optimizer = network(), "adam" if structure == "weights" else "sgd"
    used, acting = build(straight, name, structure, optimizer)
    files = {3: io.BytesIO(), 8: io.BytesIO(), 13: io.BytesIO()}

    def save(s):
        if s in files:
            parts = {"model": straight, "optimizer": used, "method": acting}
            torch.save({name: part.state_dict() for name, part in parts.items()}, files[s])

    train(straight, used, acting, after=save)
    for stop, file in files.items():
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        resumed = network(seed=7)
        used, again = build(resumed, name, structure, optimizer)
        for part, state in ((resumed, "model"), (used, "optimizer"), (again, "method")):
            part.load_state_dict(saved[state])
        train(resumed, used, again, first=stop)
        for (key, one), other in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
            assert torch.equal(one, other), (key, stop)
        assert again.plan() == acting.plan()
        assert all(torch.equal(a.chosen, b.chosen) for a, b in zip(again.targeted(), acting.targeted(), strict=True))


@pytest.mark.parametrize("name", [n for n in CASES if n != "uniform_decay"])
def test_a_removal_that_falls_on_a_skipped_step_is_made_at_the_next(name):
    program = network()
    optimizer, used = build(program, name, "channels", "adam")
    train(program, optimizer, used, last=used.removals[0][0] - 1)
    before = {n: p.clone() for n, p in program.named_parameters()}
    loss_of(program, 50).backward()
    for parameter in program.parameters():
        parameter.grad.fill_(float("nan"))
    used.step()  # a loss scaler would not call the optimizer now
    assert not used.removed()
    assert all(torch.equal(p, before[n]) for n, p in program.named_parameters())
    train(program, optimizer, used, first=used.s, last=used.s + 1)
    assert used.removed()
    assert all(p.isfinite().all() for p in program.parameters())


@pytest.mark.parametrize("name", [n for n in CASES if n != "uniform_decay"])
def test_gradients_of_removed_parts_are_zero_whatever_they_were(name):
    program = network()
    _, used = build(program, name, "channels")
    used.remove_()
    loss_of(program, 0).backward()
    for part in used.removed():
        part.parameter.grad.fill_(float("inf"))
    used.step()
    assert all(not part.parameter.grad[part.chosen].any() for part in used.removed())


@pytest.mark.parametrize("name", [n for n in CASES if n != "uniform_decay"])
def test_an_early_removal_is_the_last_one(name):
    program = network()
    optimizer, used = build(program, name, "channels")
    train(program, optimizer, used, last=3)
    expected = used.plan()
    used.remove_()
    assert used.plan() == expected
    train(program, optimizer, used, first=3)
    used.remove_()
    assert used.plan() == expected


def test_a_state_of_other_settings_or_another_model_is_refused():
    _, used = build(network(), "magnitude", "weights")
    used.remove_()
    state = used.state_dict()
    _, other = build(network(), "magnitude", "weights", rounds=2)
    with pytest.raises(PlanError, match="expected a state with the settings of this run"):
        other.load_state_dict(state)
    wide = swdc.trace(ResNet(BasicBlock, [1, 1], width=6, classes=3, channels=1), torch.randn(2, 1, 6, 6))
    _, other = build(wide, "magnitude", "weights")
    with pytest.raises(PlanError, match=r"other values \(mine, given\): \{'network'"):
        other.load_state_dict(state)


@pytest.mark.parametrize("name", ["magnitude", "slimming", "lr_rewinding"])
def test_sides_of_residual_sums_may_keep_their_own_channels(name):
    program = network(policy="free")
    optimizer, used = build(program, name, "channels", target=0.7)
    train(program, optimizer, used)
    plan = used.plan()
    assert swdc.verify(swdc.mask(program, plan), swdc.slim(program, plan)).exact
    images = torch.randn(3, 1, 6, 6)
    with torch.no_grad():
        one, other = program.eval()(images), swdc.slim(program, plan).eval()(images)
    assert (one - other).abs().max() <= 1e-5 * one.abs().max()


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("magnitude", {"rounds": 0}, "expected rounds as a whole number of at least 1, got 0"),
        ("magnitude", {"rounds": 2.5}, "expected rounds as a whole number, got 2.5"),
        ("magnitude", {"every": 0}, "expected every as a whole number of at least 1"),
        ("magnitude", {"every": 8}, "expected 3 removals within 16 steps, but the last would follow step 21"),
        ("magnitude", {"start": -1}, "expected start .* between 0 and the 16 steps of the training, got -1"),
        ("slimming", {"start": 17}, "expected start .* got 17"),
        ("slimming", {"penalty": -1.0}, "expected penalty as a positive number of at most 3.4e.38, got -1.0"),
        ("slimming", {"norm": "l3"}, "expected a norm of"),
        ("slimming", {"structure": "weights"}, "because network slimming removes .* got 'weights'"),
        ("lr_rewinding", {"start": 1.5}, "expected start .* got 1.5"),
        ("lr_rewinding", {"structure": "weights", "penalty": 1e-4}, "expected a penalty on gains with"),
        ("growing_l2", {"structure": "heads"}, "expected structure='weights' or 'channels' .* got 'heads'"),
        ("growing_l2", {"delta": 0.0}, "expected delta as a positive number"),
        ("growing_l2", {"every": 0}, "expected every as a whole number"),
        ("growing_l2", {"ceiling": float("inf")}, "expected ceiling as a positive number"),
        ("growing_l2", {"stabilize": -1}, "expected stabilize as a whole number of at least 0"),
        ("growing_l2", {"delta": 0.1}, "expected the removal within 16 steps, .* only after 24; make delta larger"),
        ("uniform_decay", {"a_min": 0.0}, "expected a_min as a positive number"),
    ],
)
def test_bad_arguments(name, changed, message):
    with pytest.raises(PlanError, match=message):
        build(network(), name, **{"structure": "channels", **changed})


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target": 0}, "expected a target .* got 0"),
        ({"target": 1}, "expected a target .* got 1"),
        ({"steps": 0}, "expected steps as the whole number of training steps"),
        ({"ignore": "nothing*"}, "'nothing\\*' matches none"),
        ({"structure": "rows"}, r"expected (a )?structure.* got 'rows'"),
        ({"target": 0.9999}, "expected a budget that can be met"),
    ],
)
def test_bad_arguments_of_all(name, changed, message):
    program = network()
    arguments = {"target": 0.5, "structure": "channels", "steps": STEPS, **CASES[name], **changed}
    with pytest.raises(PlanError, match=message):
        method(name, program, optimizer=OPTIMIZERS["sgd"](program.parameters()), **arguments)


@pytest.mark.parametrize(("name", "structure"), [s for s in STRUCTURES if s[0] != "uniform_decay"])
def test_what_the_optimizer_does_not_hold_is_frozen(name, structure):
    program = network()
    others = [p for n, p in program.named_parameters() if n != "blocks.0.conv1.weight"]
    arguments = {"steps": STEPS, **CASES[name]}
    made = method(name, program, 0.5, structure, optimizer=OPTIMIZERS["sgd"](others), **arguments)
    assert "blocks.0.conv1.weight" not in {t.name for t in made.targeted() if t.chosen.any()}
    with pytest.raises(
        PlanError, match=r"expected optimizer as an Optimizer, got None; give the optimizer that trains"
    ):
        method(name, program, 0.5, structure, optimizer=None, **arguments)


@pytest.mark.parametrize("name", [n for n, s in STRUCTURES if s == "weights"])
def test_single_weights_of_a_plain_module(name):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer, used = build(model, name, "weights", "adam", target=0.5)
    for s in range(STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(model(torch.randn(4, 6)), torch.tensor([0, 1, 2, s % 3])).backward()
        used.step()
        optimizer.step()
    used.remove_()
    assert sum(int((p == 0).sum()) for p in model.parameters()) == sum(p.numel() for p in model.parameters()) // 2
    with pytest.raises(PlanError, match="expected a Program"):
        used.plan()


def test_ignored_layers_stay_whole():
    for cls, options in ((MagnitudePruning, {"start": 1}), (GrowingL2, CASES["growing_l2"])):
        for structure in ("weights", "channels"):
            program = network()
            optimizer = OPTIMIZERS["sgd"](program.parameters())
            used = cls(program, 0.4, structure, steps=STEPS, optimizer=optimizer, ignore=("blocks.0.conv1",), **options)
            used.remove_()
            assert used.removed()
            assert program.get_parameter("blocks.0.conv1.weight").flatten(1).any(1).all()
