"""JSON files of limited size and depth, so that reading one takes no more than its size lets expect."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from swdc.errors import ArtifactError

MOST_BYTES, _MOST_CONTAINERS, _DEEPEST = 2**26, 2**20, 100
"""Bounds of a document: bytes, lists and objects in it, and how deep they are nested."""
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""One step deeper or, as a signed byte, one step back."""
_OTHER = bytes(set(range(256)) - set(b"[{]}"))
_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*+\\?(?:"|\Z)', re.DOTALL)
"""A string; one that does not end goes to the end of the file, so that it is looked at only once."""


def read_json(path: Path) -> Any:
    """Return the data in a JSON file. Raises ``ValueError`` if it is not JSON, or beyond what is reasonable."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{size} bytes, of at most {MOST_BYTES}")
    return parse_json(path.read_bytes())


def parse_json(data: bytes) -> Any:
    """Return the data that a JSON document holds. Raises ``ValueError`` as ``read_json`` does."""
    steps = np.frombuffer(_TEXT.sub(b"", data).translate(_STEPS, _OTHER), np.int8)
    opened = np.count_nonzero(steps > 0)
    if opened > _MOST_CONTAINERS:
        raise ValueError(f"{opened} lists and objects, of at most {_MOST_CONTAINERS}")
    if np.cumsum(steps, dtype=np.int32).max(initial=0) > _DEEPEST:
        raise ValueError(f"lists and objects nested deeper than {_DEEPEST}")
    return json.loads(data.decode("utf-8"), object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; raise ``ValueError`` if it says one thing twice, because readers would differ."""
    found = dict(pairs)
    if len(found) < len(pairs):
        ((key, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"an object with the key {key!r:.100} more than once")
    return found


def write_json(data: Mapping[str, Any], path: Path) -> None:
    """Write data to a JSON file. Raises ``ArtifactError`` for a value that JSON cannot hold."""
    try:
        text = json.dumps(data, indent=1)
    except TypeError as error:
        raise ArtifactError(
            f"expected plain data for {path.name}, got something else: {error}; use numbers, text and lists"
        ) from error
    path.write_text(text + "\n", encoding="utf-8")
