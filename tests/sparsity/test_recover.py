"""Recovery: a slim program learns from the dense one, index by index, and a run that was killed goes on."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.sparsity.recovery.distillation import places_of, seen

BATCHES = [torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.branch = nn.Sequential(nn.Conv2d(12, 20, 3, padding=1), nn.BatchNorm2d(20), nn.ReLU())
        self.back = nn.Sequential(nn.Conv2d(20, 12, 3, padding=1), nn.BatchNorm2d(12))
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(12, 5)

    def forward(self, x):
        x = self.stem(x)
        return self.head(self.drop((x + self.back(self.branch(x))).relu().mean((2, 3))))


def test_gradients_are_switched_on_for_the_training():
    dense, slim = programs()
    with torch.no_grad():
        recovered = swdc.recover(slim, dense, BATCHES, 1, progress=False)
        assert not torch.is_grad_enabled()
    assert error(recovered) < error(slim)
    with torch.inference_mode(), pytest.raises(PlanError, match=r"outside of torch\.inference_mode"):
        swdc.recover(slim, dense, BATCHES, 1, progress=False)


def test_an_optimizer_of_other_parameters_is_refused():
    dense, slim = programs()
    with pytest.raises(PlanError, match="got one that holds none of them"):
        swdc.recover(slim, dense, BATCHES, 1, optimizer=lambda _: torch.optim.SGD(dense.parameters()), progress=False)


@cache
def programs():
    """Return a dense program and its slim one."""
    torch.manual_seed(0)
    model = Residual()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.momentum = None  # statistics of the data, as those of a trained network are
    with torch.no_grad():
        for images in BATCHES:
            model(images)
    dense = swdc.trace(model.eval(), BATCHES[0][:2])
    return dense, swdc.slim(dense, swdc.plan(dense, 0.4, scope="group"))


def error(program):
    """Return the mean square error of the outputs, relative to the dense ones."""
    dense, _ = programs()
    with torch.no_grad():
        pairs = [(program(x), dense(x)) for x in BATCHES]
    return float(sum((a - b).square().sum() for a, b in pairs) / sum(b.square().sum() for _, b in pairs))


def state(program):
    return {name: tensor.clone() for name, tensor in program.state_dict().items()}


def same(one, other):
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_features_of_the_masked_program_are_those_of_the_slim_one_index_by_index():
    dense, slim = programs()
    places = places_of(slim, dense)
    assert sorted(places) == ["back.1", "branch.1", "stem.1"]
    masked = swdc.mask(dense, slim.facts.origin.plan)
    with torch.no_grad(), seen(masked, places) as wanted, seen(slim, places) as got:
        masked(BATCHES[0]), slim(BATCHES[0])
    for path, own in places.items():
        whole = wanted[path][0]
        for dim, indices in own:
            whole = whole.index_select(dim, indices)
        assert whole.shape == got[path][0].shape != wanted[path][0].shape
        torch.testing.assert_close(got[path][0], whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("more", [{}, {"features": 0.0, "distance": "kl"}, {"autocast": torch.bfloat16}])
def test_recovery_brings_the_outputs_nearer_and_changes_nothing_of_the_callers(more):
    dense, slim = programs()
    before, teacher, random = state(slim), state(dense), torch.get_rng_state()
    rows = []
    found = swdc.recover(slim, dense, BATCHES, epochs=8, rate=1e-2, report=rows.append, **more)
    assert error(found) < 0.5 * error(slim)
    assert same({**before, **teacher}, {**slim.state_dict(), **dense.state_dict()})
    assert torch.equal(random, torch.get_rng_state())
    assert (found.training, dense.training) == (False, False)
    assert [row.epoch for row in rows] == list(range(9))
    assert math.isnan(rows[0].loss)
    assert rows[-1].loss < rows[1].loss


def test_statistics_solve_layers_first():
    dense, slim = programs()
    statistics = swdc.calibrate(dense, BATCHES, moments=True, progress=False)
    rows = {}
    for name, given in {"without": None, "with": statistics}.items():
        swdc.recover(
            slim, dense, BATCHES, 1, rate=1e-6, statistics=given, metric=lambda p: -error(p),
            report=lambda row, name=name: rows.setdefault(name, row.metric),
        )  # fmt: skip
    assert rows["with"] > rows["without"]  # batch norms are estimated anew in both


def test_a_task_and_labels_in_the_batch():
    dense, slim = programs()
    labelled = [(x, torch.arange(16) % 5) for x in BATCHES]
    losses = []

    def loss(output, batch):
        losses.append(float(nn.functional.cross_entropy(output, batch[1]).detach()))
        return nn.functional.cross_entropy(output, batch[1])

    swdc.recover(slim, dense, labelled, 5, inputs=lambda b: b[0], loss=loss, logits=0, features=0, rate=1e-2)
    assert len(losses) == 20
    assert sum(losses[-4:]) < sum(losses[:4])


def test_the_best_epoch_is_returned_and_patience_stops():
    dense, slim = programs()
    marks, states = iter([0.1, 0.5, 0.3, 0.2, 0.9]), []

    def metric(program):
        assert not program.training
        states.append(state(program))
        return next(marks)

    found = swdc.recover(slim, dense, BATCHES, 9, metric=metric, patience=2)
    assert len(states) == 4
    assert same(states[1], found.state_dict())


class KilledError(Exception):
    pass


@pytest.mark.parametrize("at", [0, 2, 5])
def test_a_run_that_was_killed_ends_with_the_same_bits(at, tmp_path):
    dense, slim = programs()
    whole = swdc.recover(slim, dense, BATCHES, 3, every=2, folder=tmp_path / "whole", metric=error)
    calls = [0]

    def once(batch):
        calls[0] += 1
        if calls[0] == at + 5:  # four batches estimate the norms
            raise KilledError
        return batch

    class Data:
        def __iter__(self):
            return map(once, BATCHES)

    with pytest.raises(PlanError, match="KilledError"):
        swdc.recover(slim, dense, Data(), 3, every=2, folder=tmp_path / "killed", metric=error)
    again = swdc.recover(slim, dense, BATCHES, 3, every=2, folder=tmp_path / "killed", metric=error)
    assert same(whole.state_dict(), again.state_dict())
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["recovery.pt"]
    finished = swdc.recover(slim, dense, [], 3, every=2, folder=tmp_path / "killed", metric=error)
    assert same(whole.state_dict(), finished.state_dict())


def test_frozen_norms_stay():
    dense, slim = programs()
    own = slim.clone()
    norm = own.get_submodule("stem.1")
    norm.weight.requires_grad_(False)
    norm.bias.requires_grad_(False)
    found = swdc.recover(own, dense, BATCHES, 1).get_submodule("stem.1")
    assert same(norm.state_dict(), found.state_dict())
    other = swdc.recover(own, dense, BATCHES, 1).get_submodule("back.1")
    assert not torch.equal(other.running_mean, own.get_submodule("back.1").running_mean)


def test_folders_of_other_recoveries_and_foreign_files_are_refused(tmp_path):
    dense, slim = programs()
    swdc.recover(slim, dense, BATCHES, 1, folder=tmp_path)
    with pytest.raises(PlanError, match="whose rate differ"):
        swdc.recover(slim, dense, BATCHES, 1, folder=tmp_path, rate=1e-2)
    (tmp_path / "recovery.pt").write_bytes(b"nothing of ours")
    with pytest.raises(PlanError, match="another file"):
        swdc.recover(slim, dense, BATCHES, 1, folder=tmp_path)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"epochs": 0}, "epochs"),
        ({"rate": -1.0}, "rate"),
        ({"logits": -1.0}, "logits"),
        ({"logits": 0, "features": 0}, "something to learn from"),
        ({"patience": 2}, "metric together with patience"),
        ({"every": 2}, "folder together with every"),
        ({"autocast": torch.float64}, "autocast"),
        ({"distance": "cosine"}, "expected a distance of"),
        ({"data": []}, "at least one batch"),
        ({"teacher": nn.Identity()}, "features=0"),
        ({"optimizer": lambda parameters: 3}, "expected what optimizer returns as an Optimizer"),
        ({"optimizer": lambda parameters: 1 / 0}, "optimizer as a function of parameters"),
        ({"optimizer": torch.optim.LBFGS}, "got LBFGS, which evaluates the loss itself"),
        ({"rate": 1e30, "epochs": 3}, "finite number"),
        ({"loss": lambda output, batch: 1 / 0}, "loss as a function"),
        ({"metric": lambda program: "good"}, "metric as a function"),
        ({"metric": lambda program: math.nan}, "NaN"),
    ],
)
def test_bad_arguments(given, message):
    dense, slim = programs()
    before = state(slim)
    with pytest.raises(PlanError, match=message):
        swdc.recover(**{"slim": slim, "teacher": dense, "data": BATCHES, "epochs": 1, **given})
    assert same(before, slim.state_dict())


def test_any_module_teaches_by_its_outputs():
    dense, slim = programs()
    found = swdc.recover(slim, Twin(dense), BATCHES, 4, features=0, rate=1e-2)
    assert error(found) < error(slim)


class Twin(nn.Module):
    def __init__(self, program):
        super().__init__()
        self.program = program

    def forward(self, x):
        return self.program(x)
