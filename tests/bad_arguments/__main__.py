"""``python -m tests.bad_arguments``: every public function with bad values in the place of each argument."""

from __future__ import annotations

import sys
import tempfile
from contextlib import chdir
from pathlib import Path

from tests.bad_arguments.calls import targets
from tests.bad_arguments.sweep import RAW, SILENT, counts, outcomes

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        found = list(outcomes(targets(Path(folder))))
    wrong = [each for each in found if each.kind in (RAW, SILENT)]
    for each in wrong:
        print(f"{each.kind}: {each.call} {each.said}"[:200])
    print(f"{len(found)} calls:", ", ".join(f"{number} {kind}" for kind, number in counts(found).items()))
    sys.exit(1 if wrong else 0)
