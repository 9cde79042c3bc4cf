"""Packages that only a part of swdc needs, and that one of its extras installs."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from swdc.errors import PackageError


def package(name: str, extra: str) -> Any:
    """Import a package; ``PackageError`` says how to install it if it is missing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(name)
    except ImportError as error:
        raise PackageError(name, extra) from error
