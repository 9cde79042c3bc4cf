"""``python -m tests.bad_arguments``: public functions with right and wrong values in the place of each argument."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.bad_arguments.calls import Prepared
from tests.bad_arguments.sweep import WRONG, counts, outcomes

if __name__ == "__main__":
    found = []
    with tempfile.TemporaryDirectory() as folder:
        prepared = Prepared(Path(folder))
        for each in outcomes(prepared.targets(), prepared.made):
            found.append(each)
            if each.kind in WRONG:
                print(f"{each.kind}: {each.call} {each.said}"[:200], flush=True)
    print(f"{len(found)} calls:", ", ".join(f"{number} {kind}" for kind, number in counts(found).items()))
    sys.exit(1 if any(each.kind in WRONG for each in found) else 0)
