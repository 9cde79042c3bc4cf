"""Paired times."""

from swdc.costs.clock import medians_ms, paired_ms


def test_calls_take_turns_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []
    times = paired_ms([lambda: order.append("a"), lambda: order.append("b")], runs=3, warm_up=2)
    assert order == ["a", "b"] * 5
    assert [len(found) for found in times] == [3, 3]


def test_turns_begin_with_calls_that_are_not_timed() -> None:
    order: list[str] = []
    times = paired_ms([lambda: order.append("a"), lambda: order.append("b")], runs=3, warm_up=1, settle=2)
    assert order == ["a"] * 3 + ["b"] * 3 + (["a"] * 3 + ["b"] * 3) * 3
    assert [len(found) for found in times] == [3, 3]


def test_the_median_is_of_each_call() -> None:
    slow, fast = medians_ms([lambda: sum(range(200_000)), lambda: None], runs=5)
    assert slow > 10 * fast >= 0
