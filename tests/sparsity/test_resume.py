"""A run killed with SIGKILL in the middle of an epoch, and resumed, ends with the bits of one that was not."""

import multiprocessing
import runpy
import signal
import threading
from pathlib import Path

import pytest
import torch

RESUME = Path(__file__).parents[2] / "examples" / "resume.py"
KILLED_AFTER = 12  # steps are counted from 0; eight make an epoch, and the last checkpoint is that of ten

OPTIONS = {
    "gradient": {},
    "proximal": {"penalty": "proximal"},
    "refresh": {"structure": "weights", "refresh": 3},
    "movement": {"structure": "weights", "criterion": "movement", "penalty": "proximal"},
    "auto": {"a": "auto", "a_min": None, "a_max": None},
}


def run(folder, options, reached=None):
    """Train in a folder and leave the weights there; say so and wait to be killed where ``reached`` is given."""

    def report(step):
        if reached is not None and step == KILLED_AFTER:
            reached.set()
            threading.Event().wait()

    program, swd = runpy.run_path(str(RESUME))["train"](folder, report, **options)
    torch.save({**program.state_dict(), "steps": torch.tensor(swd.s)}, folder / "end.pt")


@pytest.fixture(scope="module")
def processes():
    """Return a context that starts processes quickly, as forks of one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.sparsity.test_resume", "swdc", "sklearn.datasets", "torch._dynamo"])
    return context


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_killed_run_ends_with_the_same_bits(processes, tmp_path, options):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    reached = processes.Event()
    victim = processes.Process(target=run, args=(killed, options, reached))
    victim.start()
    assert reached.wait(120)
    victim.kill()
    victim.join()
    assert victim.exitcode == -signal.SIGKILL
    assert torch.load(killed / "checkpoint.pt")["steps"] == 10
    assert not (killed / "end.pt").exists()
    for folder in (whole, killed):
        process = processes.Process(target=run, args=(folder, options))
        process.start()
        process.join()
        assert process.exitcode == 0
    expected, found = torch.load(whole / "end.pt"), torch.load(killed / "end.pt")
    assert expected["steps"] == 24
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
