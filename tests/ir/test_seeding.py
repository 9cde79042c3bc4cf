import pytest
import torch

from swdc.ir import seeding
from swdc.ir.seeding import seed_all


@pytest.mark.parametrize("seed", [0, 3, 2**63 - 1, -1])
def test_what_is_drawn_is_what_torch_draws(seed: int):
    torch.manual_seed(seed)
    drawn = torch.rand(4)
    torch.rand(1)
    seed_all(seed)
    assert torch.equal(torch.rand(4), drawn)


def test_nothing_piles_up_without_an_accelerator(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(seeding, "_has_accelerator", lambda: False)
    waiting = len(torch.cuda._queued_calls)
    seed_all(1)
    assert len(torch.cuda._queued_calls) == waiting


def test_other_devices_are_seeded_where_there_are_any(monkeypatch: pytest.MonkeyPatch):
    given: list[int] = []
    monkeypatch.setattr(seeding, "_has_accelerator", lambda: True)
    monkeypatch.setattr(torch, "manual_seed", given.append)
    seed_all(5)
    assert given == [5]
