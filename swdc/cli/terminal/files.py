"""Functions in files of the user's, by ``file.py:function``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swdc.errors import CommandError, SwdcError


def function_in_file(name: str, expected: str) -> Callable[..., Any]:
    """Return the function that ``file.py:function`` names. Raises ``CommandError``, which says what was expected."""
    path, colon, attribute = name.rpartition(":")
    if not colon or not path.endswith(".py") or not attribute:
        raise CommandError(f"expected {expected}, got {name!r}")
    file = Path(path)
    if not file.is_file():
        raise CommandError(f"expected a file {path} with the function {attribute!r}, there is none; check the path")
    found = getattr(_module(file), attribute, None)
    if not callable(found):
        raise CommandError(
            f"expected a function {attribute!r} in {path}, there is none; check the name after the colon"
        )
    return found  # type: ignore[no-any-return]


def _module(file: Path) -> Any:
    folder = str(file.resolve().parent)
    if folder not in sys.path:  # what lies beside the file can be imported, as when python runs it
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except SwdcError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's file raises while it is imported
        raise CommandError(
            f"expected {file} to be importable, but that raises {type(error).__name__}: {error}; make "
            f"python {file.name} work first"
        ) from error
    return module
