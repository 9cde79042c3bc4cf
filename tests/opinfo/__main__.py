"""``python -m tests.opinfo``: PyTorch's own samples of all its operators, each between two dense layers."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from functools import partial
from multiprocessing import get_context

import torch

from tests.opinfo.sandwich import RAW, RESULTS, WRONG, Outcome, operators, outcomes_of


def main() -> int:
    """Check all cases, print counts and every find, and return 1 if there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.opinfo", description=__doc__)
    parser.add_argument("--samples", type=int, default=6, help="how many samples of each operator (default: 6)")
    parser.add_argument("--operator", action="append", metavar="NAME", help="only this operator; may be repeated")
    options = parser.parse_args()
    names = options.operator or list(operators())
    counts: Counter[str] = Counter()
    with get_context("fork").Pool(initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for outcomes in pool.imap_unordered(partial(outcomes_of, most=options.samples), names):
            counts.update(outcome.result for outcome in outcomes)
            _print_finds(outcomes)
    print(f"{len(names)} operators:", ", ".join(f"{counts[result]} {result}" for result in RESULTS))
    return int(counts[WRONG] + counts[RAW] > 0)


def _print_finds(outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.result in (WRONG, RAW):
            print(f"{outcome.result}: {outcome.case}: {outcome.text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
