import os
import signal
import time

import pytest
import torch

from examples.bench.running.apart import Limits, out_of_memory, run_apart
from swdc.errors import brief

PRELOAD = ("examples.bench.running.warm",)
LIMITS = Limits(60, 4.0)


def reporting(report, start):
    report({"first": start, "second": 0})
    report({"second": start + 1})


def raising(report):
    report({"phase": "capture"})
    raise KeyError("gone")


def lasting(report):
    report({"phase": "slim"})
    time.sleep(60)


def killed(report, number):
    report({"phase": "verify"})
    os.kill(os.getpid(), number)


def greedy(report):
    report({"phase": "verify"})
    torch.zeros(10 * 2**30, dtype=torch.uint8)


def test_reports_are_merged():
    outcome = run_apart(reporting, (3,), LIMITS, PRELOAD)
    assert outcome.found == {"first": 3, "second": 4}
    assert (outcome.kind, outcome.reason) == ("", "")


def test_an_exception_is_an_outcome():
    outcome = run_apart(raising, (), LIMITS, PRELOAD)
    assert outcome.found == {"phase": "capture"}
    assert (outcome.kind, outcome.reason) == ("error", "KeyError: 'gone'")


def test_a_task_that_takes_too_long_is_ended_and_what_it_reported_stays():
    start = time.monotonic()
    outcome = run_apart(lasting, (), Limits(2, 4.0), PRELOAD)
    assert time.monotonic() - start < 30
    assert outcome.found == {"phase": "slim"}
    assert (outcome.kind, outcome.reason) == ("time-out", "not done after 2 s")


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [(signal.SIGSEGV, "crash", "SIGSEGV"), (signal.SIGKILL, "memory", "killed by the system")],
)
def test_a_task_that_dies_is_an_outcome(number, kind, words):
    outcome = run_apart(killed, (int(number),), LIMITS, PRELOAD)
    assert outcome.found == {"phase": "verify"}
    assert outcome.kind == kind
    assert words in outcome.reason


def test_a_task_that_takes_too_much_memory_is_told_apart_from_other_errors():
    outcome = run_apart(greedy, (), LIMITS, PRELOAD)
    assert outcome.kind == "memory"
    assert out_of_memory(outcome.reason)
    assert not out_of_memory("RuntimeError: expected 4 channels")


def test_errors_in_brief():
    assert brief(ValueError("one\ntwo")) == "ValueError: one"
    assert brief(ValueError()) == "ValueError"
    assert brief(ValueError("at /usr/lib/site-packages/timm/layers.py:3")) == "ValueError: at timm/layers.py:3"
