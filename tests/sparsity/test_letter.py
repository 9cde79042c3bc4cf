"""The sets of eq. 4 and of section 3.3 to the letter: exact numbers, ties, and the masks of the authors' own code.

``authors_masks.json`` holds numbers that the authors' code (github.com/HugoTessier-lab/SWD, commit f382166) printed for
networks with the weights of ``filled``: for each tensor how many numbers it masks, a hash of the masks, and the
parameters that it counts as left. That code has no graph network, and no structured pruning of LeNet-5.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import swdc
from swdc.errors import PlanError
from swdc.networks import LeNet5, resnet20
from swdc.sparsity.planning.budgets import Budget
from swdc.sparsity.planning.criteria import gamma
from swdc.sparsity.selection.lowest import FEW, Lowest

AUTHORS = json.loads((Path(__file__).parent / "authors_masks.json").read_text())


@torch.no_grad()
def filled(label: str) -> nn.Module:
    """Return a network with the weights that the authors' code was given.

    Norms of shortcuts are so large that they are never targeted: the authors' code takes them for weights, because
    their names lack the letters by which it knows a norm.
    """
    model = LeNet5() if label == "lenet5" else resnet20(int(label.rpartition("-")[2]))
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).float()
        parameter.copy_(drawn * (0.5 if parameter.dim() == 1 else parameter[0].numel() ** -0.5))
        if ".shortcut.1." in name:
            parameter.fill_(100.0)
    return model


def in_norm(name: str) -> bool:
    return ".shortcut.1." in name or any(part.startswith("bn") for part in name.split("."))


def judged(names: list[str], masks: dict[str, torch.Tensor]) -> dict[str, object]:
    digest = hashlib.sha256()
    for name in names:
        digest.update(masks[name].contiguous().numpy().tobytes())
    counts = [int(masks[name].sum()) for name in names]
    return {"counts": counts, "total": sum(counts), "sha256": digest.hexdigest()}


@pytest.mark.parametrize("key", [key for key in AUTHORS if " weights " in key])
def test_weights_are_those_that_the_authors_code_masks(key):
    label = key.split()[0]
    model, theirs = filled(label), AUTHORS[key]
    names = [n for n, _ in model.named_parameters() if label == "lenet5" or not in_norm(n)]
    number = sum(model.get_parameter(n).numel() for n in names)
    swd = swdc.SWD(model, (theirs["total"] + 0.5) / number, "weights", a_min=1, a_max=1, steps=1)
    assert judged(names, {t.name: t.chosen for t in swd.targeted()}) == theirs
    shortcuts = sum(p.numel() for n, p in model.named_parameters() if ".shortcut.1." in n)
    assert theirs["total"] == int(float(key.split()[2]) / 100 * (number + shortcuts))


@pytest.mark.parametrize("key", [key for key in AUTHORS if " channels " in key])
def test_channels_are_those_that_the_authors_code_masks_and_the_next_to_the_budget(key):
    """Their bisection keeps the channel at the threshold, and may stop one channel before the budget is met."""
    label, _, percent = key.split()
    model, theirs = filled(label), dict(AUTHORS[key])
    program = swdc.trace(model, torch.randn(2, 3, 32, 32), policy="free")
    swd = swdc.SWD(program, float(percent) / 100, a_min=1, a_max=1, steps=1)
    found = {t.name: t.chosen.clone() for t in swd.targeted()}
    names = [n for n, _ in model.named_parameters() if in_norm(n)]
    masks = {n: found.get(n, torch.zeros_like(model.get_parameter(n), dtype=torch.bool)) for n in names}
    left, budget = theirs.pop("left"), (1 - float(percent) / 100) * sum(p.numel() for p in model.parameters())
    more = 1 if left <= budget else 2
    assert (sum(int(m.sum()) for m in masks.values()) - theirs["total"]) // 2 == more
    for _ in range(more):
        gains = [(float(model.get_parameter(n).detach().abs()[masks[n]].max()), n)
                 for n in names if n.endswith("weight") and masks[n].any()]  # fmt: skip
        largest, name = max(gains)
        at = model.get_parameter(name).detach().abs() == largest
        masks[name] &= ~at
        masks[name.removesuffix("weight") + "bias"] &= ~at
    assert judged(names, masks) == theirs


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [100, FEW + 1000])
@pytest.mark.parametrize("levels", [1, 2, 5])
@pytest.mark.parametrize("device", ["host", "other"])
def test_ties_are_broken_by_position_in_every_type(dtype, size, levels, device, monkeypatch):
    """The reference is a stable sort of the magnitudes."""
    torch.manual_seed(0)
    numbers = (torch.randint(0, levels, (size,)) + 1).to(dtype) * torch.randn(size).sign().to(dtype)
    tensors = {"a": numbers[: size // 3].view(-1, 1), "b": numbers[size // 3 : size // 2], "c": numbers[size // 2 :]}
    lowest = Lowest()
    find = lowest.masks if device == "host" else lowest._on_device
    for count in (1, size // 7, size // 2, size - 1, size // 2 + 1, size):
        order = numbers.abs().float().sort(stable=True).indices[:count]
        expected = torch.zeros(size, dtype=torch.bool).index_fill(0, order, True)
        masks = find(tensors, count)
        assert torch.equal(torch.cat([m.reshape(-1) for m in masks.values()]), expected), count


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_order_of_ties_is_that_of_indices_not_of_memory(memory_format):
    model = nn.Conv2d(64, 96, 3, bias=False)
    nn.init.ones_(model.weight)
    model.to(memory_format=memory_format)
    swd = swdc.SWD(model, 0.5, "weights", a_min=1, a_max=1, steps=1)
    (target,) = swd.targeted()
    flat = target.chosen.reshape(-1)
    assert flat[: flat.numel() // 2].all()
    assert not flat[flat.numel() // 2 :].any()


def test_binary_weights_lose_the_share_that_was_asked_for():
    for numbers in (torch.randn(100, 100).sign(), torch.randint(-1, 2, (100, 100)).float()):
        model = nn.Linear(100, 100, bias=False)
        model.weight.data = numbers.clone()
        swdc.SWD(model, 0.5, "weights", a_min=1, a_max=1, steps=1).remove_()
        assert int((model.weight != numbers).sum()) + int((numbers == 0).sum()) == max(5000, int((numbers == 0).sum()))
        assert int((model.weight == 0).sum()) == 5000


def test_norms_are_weights_where_the_share_is_of_the_whole_network():
    model = resnet20(16)
    whole = sum(p.numel() for p in model.parameters())
    for target in (0.9, 0.99, 0.999):
        swd = swdc.SWD(model, target, "weights", a_min=1, a_max=1, steps=1, norms=True)
        assert sum(int(t.chosen.sum()) for t in swd.targeted()) == int(target * whole)
        assert sum(t.chosen.numel() for t in swd.targeted()) == whole
    with pytest.raises(PlanError, match="expected norms=True with structure='weights' only"):
        swdc.SWD(swdc.trace(model, torch.randn(2, 3, 32, 32)), 0.5, a_min=1, a_max=1, steps=1, norms=True)


@pytest.mark.parametrize("target", [0.99, 0.995, 0.998, 0.999])
def test_an_emptied_group_is_not_charged_a_channel_of_zeros(target):
    """The closed formula over the kept widths meets the budget, zero widths among them; one channel more does not."""
    torch.manual_seed(0)
    model = resnet20(16)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.1, 1.0)
            nn.init.uniform_(module.bias, 0.1, 1.0)
    program = swdc.trace(model, torch.randn(2, 3, 32, 32), policy="free")
    plan = swdc.SWD(program, target, a_min=1, a_max=1, steps=1).plan()
    assert plan.emptied
    costs = Budget(program, "parameters")
    kept = np.array([len(k) for k in plan.kept.values()])
    assert costs.cost(kept) <= (1 - target) * costs.full
    best = []
    for number, (group, gains) in enumerate(zip(program.groups, gamma(program, program.groups), strict=True)):
        gone = np.setdiff1d(np.arange(group.width), plan.kept[group.name])
        best.append((gains[gone].max(initial=0), number))
    kept[max(best)[1]] += 1
    assert costs.cost(kept) > (1 - target) * costs.full
