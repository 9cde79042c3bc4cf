"""Selecting the lowest numbers: always the set that sorting gives, whatever was looked for before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swdc.errors import PlanError
from swdc.sparsity.selection import bitwise, lowest
from swdc.sparsity.selection.bracket import Bracket
from swdc.sparsity.selection.cache_blocks import PIECE, pieces
from swdc.sparsity.selection.lowest import Lowest

TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
KINDS = ("normal", "tied", "zeros", "tiny", "equal", "spread")


def drawn(kind, shape, dtype, generator):
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    if kind == "tied":
        values = (values * 3).round() / 3
    elif kind == "zeros":
        values = values * (torch.rand(shape, generator=generator) < 0.2)
    elif kind == "tiny":
        values = values * torch.finfo(dtype).tiny  # many of them subnormal
    elif kind == "equal":
        values = torch.full(shape, 0.3, dtype=torch.float64)
    elif kind == "spread":
        values = values.sign() * torch.exp(values * 8).clamp(max=6e4)
    return values.to(dtype)


def by_sorting(tensors, count, magnitudes=True):
    """Return the masks of eq. 4: everything sorted, and the first ``count``; of equal numbers the first."""
    wide = {n: (t.abs() if magnitudes else t).double() for n, t in tensors.items()}
    line = torch.cat([t.flatten() for t in wide.values()])
    marked = torch.zeros(len(line), dtype=torch.bool)
    marked[line.sort(stable=True).indices[:count]] = True
    parts = marked.split([t.numel() for t in wide.values()])
    return {n: part.view(t.shape) for (n, t), part in zip(wide.items(), parts, strict=True)}


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name, mask in expected.items():
        assert found[name].dtype == torch.bool
        assert torch.equal(found[name], mask), name


@pytest.fixture(autouse=True)
def _brackets(monkeypatch):
    """Few numbers need no bracket; here they have one."""
    monkeypatch.setattr(lowest, "FEW", 0)


@pytest.mark.parametrize("few", [0, lowest.FEW])
def test_numbers_of_two_types_that_are_equal_only_when_rounded_do_not_tie(monkeypatch, few):
    monkeypatch.setattr(lowest, "FEW", few)
    tensors = {"wide": torch.full((9,), 0.3, dtype=torch.float64), "narrow": torch.full((2,), 0.3)}
    for count in range(1, 12):
        assert_same(Lowest().masks(tensors, count), by_sorting(tensors, count))


@pytest.mark.parametrize("few", [0, lowest.FEW])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**31), kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=4),
    types=st.lists(st.sampled_from(TYPES), min_size=1, max_size=3), share=st.floats(0.001, 1.0),
    change=st.sampled_from((0.0, 1e-6, 1e-3, 0.3, 10.0)), magnitudes=st.booleans(),
)  # fmt: skip
def test_the_set_is_that_of_sorting_across_updates(monkeypatch, few, seed, kinds, types, share, change, magnitudes):
    monkeypatch.setattr(lowest, "FEW", few)
    generator = torch.Generator().manual_seed(seed)
    shapes = [(7, 11, 3, 3), (1,), (300, 5), (2, 3, 1, 1)]
    tensors = {
        f"t{i}": drawn(kind, shapes[i], types[i % len(types)], generator) for i, kind in enumerate(kinds)
    }  # fmt: skip
    count = max(1, int(share * sum(t.numel() for t in tensors.values())))
    warm = Lowest(magnitudes)
    for _ in range(4):
        expected = by_sorting(tensors, count, magnitudes)
        assert_same(warm.masks(tensors, count), expected)
        assert_same(Lowest(magnitudes)._on_device(tensors, count), expected)
        for tensor in tensors.values():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64).to(tensor.dtype)
            tensor += (noise * tensor.abs().clamp(max=100) * change).to(tensor.dtype)
            tensor.clamp_(-6e4, 6e4)


def test_large_tensors_in_pieces_and_a_bracket_that_stays_small(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    tensors = {"a": torch.randn(700, 300, generator=generator), "b": torch.randn(90_001, generator=generator)}
    count, warm, sizes = int(0.9 * 300_001), Lowest(), []
    partition = np.partition
    monkeypatch.setattr(np, "partition", lambda a, k: sizes.append(len(a)) or partition(a, k))
    for _ in range(12):
        assert_same(warm.masks(tensors, count), by_sorting(tensors, count))
        for tensor in tensors.values():
            tensor += 1e-3 * torch.randn(tensor.shape, generator=generator)
    assert max(sizes) < 0.1 * 300_001  # a sample finds the first bracket
    assert max(sizes[3:]) < 0.02 * 300_001


def test_when_most_weights_are_dead_they_are_not_collected(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(200_000, generator=generator)
    weights[:180_000] = 0
    warm, sizes = Lowest(), []
    partition = np.partition
    monkeypatch.setattr(np, "partition", lambda a, k: sizes.append(len(a)) or partition(a, k))
    for _ in range(5):
        found = warm.masks({"w": weights}, 180_000)["w"]
        assert torch.equal(found, weights == 0)
        weights[180_000:] += 1e-3
    assert all(size < 20_000 for size in sizes[1:]), sizes


def test_a_bracket_that_misses_falls_back():
    generator = torch.Generator().manual_seed(3)
    warm = Lowest()
    for scale in (1.0, 1e-3, 1e-3, 1e4, 1e-6, 1.0):
        tensors = {"w": torch.randn(5000, generator=generator) * scale}
        for count in (1, 17, 2500, 4999, 5000):
            assert_same(warm.masks(tensors, count), by_sorting(tensors, count))


@pytest.mark.parametrize("memory", ["channels_last", "transposed", "strided"])
def test_any_order_of_memory(memory):
    weights = torch.randn(40, 60, 5, 5)
    if memory == "channels_last":
        weights = weights.to(memory_format=torch.channels_last)
    else:
        weights = weights.permute(1, 0, 3, 2) if memory == "transposed" else weights[:, ::2]
    tensors = {"w": weights, "b": torch.randn(9)}
    assert_same(Lowest().masks(tensors, 20_000), by_sorting(tensors, 20_000))


def test_float64_numbers_that_float32_cannot_tell_apart():
    tensors = {"w": 1 + torch.randn(4000, dtype=torch.float64) * 1e-12, "v": torch.ones(10)}
    warm = Lowest()
    for _ in range(3):
        assert_same(warm.masks(tensors, 2000), by_sorting(tensors, 2000))
        tensors["w"] += torch.randn(4000, dtype=torch.float64) * 1e-13


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("way", ["_at_once", "_on_host", "_on_device"])
def test_numbers_that_are_not_finite_are_named(bad, way):
    tensors = {"first": torch.randn(8), "second": torch.randn(8)}
    warm = Lowest()
    getattr(warm, way)(tensors, 5)
    tensors["second"][3] = bad
    with pytest.raises(PlanError, match="expected finite weights, got NaN or infinity in second"):
        getattr(warm, way)(tensors, 5)


@pytest.mark.parametrize("dtype", TYPES)
def test_bit_by_bit(dtype):
    values = torch.tensor([-2.0, -0.0, 0.0, 1e-7, 3.0, -3.0, 3.0], dtype=dtype)
    ordered = values.sort().values
    for count in range(1, 8):
        found = bitwise.smallest(values, count)
        assert found.dtype == dtype
        assert found == ordered[count - 1]


def test_a_count_of_zero_marks_nothing():
    assert not Lowest().masks({"w": torch.randn(5)}, 0)["w"].any()


def test_what_brackets_remember_does_not_change_their_results():
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    bracket, marks = Bracket(), np.empty(1000, dtype=np.bool_)
    for middle, reach in ((0.0, 0.0), (1e9, 1.0), (-5.0, 100.0), (float("inf"), 0.0)):
        bracket._last, bracket._reach = middle, reach
        assert bracket.smallest(lambda: [values], 500, 1000, lambda: [marks]) == np.sort(values)[499]
        assert np.array_equal(marks, values <= np.sort(values)[499])


def test_pieces_cover_tensors_once():
    one, other = torch.zeros(3, PIECE), torch.zeros(3, PIECE)
    for first, second in pieces(one, other):
        assert first.numel() <= PIECE
        first += 1
        second += 2
    assert (one == 1).all()
    assert (other == 2).all()
    turned = torch.zeros(PIECE, 3).t()
    assert [tuple(t.shape for t in both) for both in pieces(one, turned)] == [((3, PIECE), (3, PIECE))]
