"""Functions run in a process of their own, so that the memory that they take at most can be told."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from typing import Any

from swdc.errors import CommandError

MEGABYTE = 1e6


def run(function: str, *arguments: Any) -> tuple[Any, float]:
    """Return what ``module:function`` returns in a new process on one thread, and its peak memory in megabytes.

    Arguments and result are plain data. Raises ``CommandError`` with the last line of its messages if it fails.
    """
    code = f"from {__name__} import main; main()" if function else "import torch; print('null')"
    tail = "\nprint(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')])"
    done = subprocess.run(
        [sys.executable, "-c", code + tail, function, json.dumps(arguments)],
        capture_output=True, text=True, check=False, env={**os.environ, **same_modules(), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise CommandError(f"expected {function}{arguments} to run in a process of its own, but it fails: {lines[-1]}")
    result, peak = done.stdout.strip().splitlines()[-2:]
    return json.loads(result), int(peak) * 1024 / MEGABYTE


def same_modules() -> dict[str, str]:
    """Return the environment variable by which a new process finds the modules that this one finds."""
    return {"PYTHONPATH": os.pathsep.join(place or os.getcwd() for place in sys.path)}


def peak_of_torch() -> float:
    """Return the memory in megabytes that importing torch takes at most."""
    return run("")[1]


def main() -> None:
    """Call the function that the process was started for, and print its result."""
    path, _, name = sys.argv[1].partition(":")
    result = None
    with redirect_stdout(sys.stderr):
        try:
            result = getattr(importlib.import_module(path), name)(*json.loads(sys.argv[2]))
        except SystemExit as end:  # so a command line ends
            if end.code:
                raise
    print(json.dumps(result))
