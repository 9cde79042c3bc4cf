"""Times, and the threads that are used meanwhile."""

import torch

from swdc.costs.clock import medians_ms, on_threads, one_thread, paired_ms, repeat


def test_calls_take_turns_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []
    times = paired_ms([lambda: order.append("a"), lambda: order.append("b")], runs=3, warm_up=2)
    assert order == ["a", "b"] * 5
    assert [len(found) for found in times] == [3, 3]


def test_the_median_is_of_each_call() -> None:
    slow, fast = medians_ms([lambda: sum(range(200_000)), lambda: None], runs=5)
    assert slow > 10 * fast >= 0


def test_a_call_repeats_until_time_is_up_and_no_less_often_than_told() -> None:
    made: list[int] = []
    repeat(lambda: made.append(0), least=8)
    assert len(made) > 100
    slow: list[int] = []
    repeat(lambda: slow.append(sum(range(2_000_000))), least=60)
    assert len(slow) >= 60


def test_the_number_of_threads_is_put_back() -> None:
    before = torch.get_num_threads()
    with on_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
