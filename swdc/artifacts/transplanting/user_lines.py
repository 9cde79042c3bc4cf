"""The line of the user's code at which an error came up."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from torch import nn

_HERE = str(Path(__file__).parent.parent).replace("\\", "/") + "/"


def line_of(error: Exception, model: nn.Module) -> str:
    """Return ``file:line`` of the innermost frame of the user's code in the traceback of an error.

    A frame in a file that defines a class of the model's modules goes before one of a library that it calls.
    """
    files = {getattr(sys.modules.get(type(module).__module__), "__file__", None) for module in model.modules()}
    frames = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    own = [(file, line) for file, line in frames if not _is_ours(file)]
    found = [place for place in own if place[0] in files] or own
    return f"{found[-1][0]}:{found[-1][1]}" if found else ""


def _is_ours(file: str) -> bool:
    """Whether a file is one of torch or of swdc."""
    path = file.replace("\\", "/")
    return "/torch/" in path or path.startswith(_HERE)
