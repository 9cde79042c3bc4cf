"""Measured times on disk: one JSON file for each machine, version of onnxruntime and number of threads."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime

from swdc.costs.latency.operator_kinds import Sizes
from swdc.ir.atomic_files import locked, why, write_whole

Times = dict[str, dict[Sizes, float]]
"""Milliseconds by the signature of a layer and its sizes."""

_FORMAT = 1
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return the cache folder: the one in XDG_CACHE_HOME if that is set, else that of the operating system."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if given and Path(given).is_absolute():
        return Path(given) / "swdc"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "swdc"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "swdc" / "Cache"
    return Path.home() / ".cache" / "swdc"


def machine() -> str:
    """Return a text that identifies this machine: its name, its system, its processor, and the number of processors."""
    return "; ".join([platform.node(), platform.system(), platform.machine(), _processor(), str(os.cpu_count())])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    pairs = dict(reversed([line.split(":", 1) for line in lines if ":" in line]))  # those of the first processor
    named = {name.strip(): value.strip() for name, value in pairs.items()}
    return " ".join(named[name] for name in ("model name", "cpu family", "model", "stepping") if name in named)


class Cache:
    """The file of this machine; a damaged file, or one of another machine, is treated as missing."""

    def __init__(self, threads: int, folder: Path | None = None) -> None:
        self._head = {
            "format": _FORMAT, "machine": machine(), "onnxruntime": onnxruntime.__version__, "threads": threads
        }  # fmt: skip
        name = hashlib.sha256(json.dumps(self._head, sort_keys=True).encode()).hexdigest()[:16]
        self.path = (folder or cache_folder()) / "latency" / f"{name}.json"

    def load(self) -> Times:
        """Return all times in the file; none if no file can be read."""
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            if {name: data[name] for name in self._head} != self._head:
                return {}
            return {str(layer): _times(found) for layer, found in data["times"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            _log.warning("measuring again, because the times in %s cannot be read: %s", self.path, error)
            return {}

    def add(self, times: Times) -> None:
        """Add times to the file, which is replaced as a whole, to those that other processes have added.

        If the file cannot be written, it stays as it is.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with locked(self.path.parent.parent):
                self._merge(times)
        except OSError as error:
            _log.warning("measured times are not kept, because %s cannot be written: %s", self.path, why(error))

    def _merge(self, times: Times) -> None:
        merged = self.load()
        for layer, found in times.items():
            merged[layer] = {**merged.get(layer, {}), **found}
        plain = {
            layer: {",".join(map(str, sizes)): ms for sizes, ms in sorted(found.items())}
            for layer, found in sorted(merged.items())
        }
        write_whole(self.path, json.dumps({**self._head, "times": plain}, indent=0))


def _times(data: Mapping[str, Any]) -> dict[Sizes, float]:
    """Return the times of one layer; raise ``ValueError`` unless they are positive numbers."""
    found = {tuple(int(size) for size in sizes.split(",")): float(ms) for sizes, ms in data.items()}
    if not all(math.isfinite(ms) and ms > 0 for ms in found.values()):
        raise ValueError("it holds times that are not positive numbers")
    return found
