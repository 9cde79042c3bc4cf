"""The networks of the bench by library: how to build each, and on what inputs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from examples.bench.networks import libraries
from examples.bench.networks.entry import Entry
from swdc.errors import CommandError

LIBRARIES = {
    "core": ("torch", "torchvision", "torch-geometric"),
    "torchvision": ("torch", "torchvision"),
    "timm": ("torch", "timm"),
    "transformers": ("torch", "transformers"),
    "pyg": ("torch", "torch-geometric"),
    "others": ("torch", "torchvision", "timm", "transformers"),
}
"""Each library of the bench, and the distributions that it is made of.

What ``others`` needs beyond these is pinned by the file that installs it, ``others/requirements.txt``.
"""


def names(library: str) -> tuple[str, ...]:
    """Return the names of all networks of a library."""
    found: Sequence[str] = _module(library).names()
    return tuple(found)


def entry(name: str, library: str = "core") -> Entry:
    """Return a network of a library; ``CommandError`` if it has none of that name."""
    found: Entry = _module(library).entry(name)
    return found


def versions(library: str) -> dict[str, str]:
    """Return the installed versions of swdc, and of all that a library of the bench is made of and held against."""
    found = {}
    for distribution in ("swdc", *LIBRARIES[library], "torch-pruning", "onnxruntime"):
        try:
            found[distribution] = version(distribution)
        except PackageNotFoundError:
            found[distribution] = "none"
    return found


def _module(library: str) -> Any:
    if library not in LIBRARIES:
        raise CommandError(f"expected a library of {', '.join(LIBRARIES)}, got {library!r}")
    return import_module(f"{libraries.__name__}.{library}")
