"""DDP and FSDP2, two processes with gloo: the sets, plans and weights of one process on the same data."""

import multiprocessing

import pytest
import torch

from tests.sparsity.distributed_runs import CASES, main, program, train
from tests.support import assert_same

PROCESSES = 2


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return what each of two processes found; they are started once."""
    folder = tmp_path_factory.mktemp("distributed")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=main, args=(rank, PROCESSES, str(folder))) for rank in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_do_what_one_does(runs, case):
    alone = train(None, CASES[case][1])
    for together in (run[case] for run in runs):
        for mine, theirs in zip(alone["sets"], together["sets"], strict=True):
            assert mine.keys() == theirs.keys()
            assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert together["kept"] == alone["kept"]
        assert together["hash"] == alone["hash"] == program().hash()
        assert_same(alone["output"], together["output"], 1e-9)
        for name, weight in alone["weights"].items():
            assert_same(weight, together["weights"][name], 1e-9)
    assert any(mask.any() for mask in alone["sets"][-1].values())


def test_processes_agree_bit_by_bit(runs):
    one, other = runs
    for case in CASES:
        assert all(torch.equal(w, other[case]["weights"][n]) for n, w in one[case]["weights"].items()), case


def test_numbers_are_counted_once_wherever_they_are_held(runs):
    assert [run["counted"] for run in runs] == [[10, 6, 7]] * PROCESSES


def test_all_processes_report_an_error_of_one_process(runs):
    for said in (run["refusals"] for run in runs):
        assert "expected finite weights, got NaN or infinity in 7.weight" in said["nan"]
        assert "expected whole tensors for a plan, got 0.weight in parts over processes" in said["plan"]
        assert "expected whole tensors for removing channels" in said["slim"]
