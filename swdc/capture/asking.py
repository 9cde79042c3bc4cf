"""Which code asks: the model's own, or a rule of an operator; and where in the model's code that is."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

from swdc.capture import recorder

_OWN = tuple(str(Path(__file__).resolve().parents[1] / room) for room in ("capture", "ops"))
_COMPARING = (
    "as_if_real",
    "asking",
    "guards",
    "python_of_sizes",
    "rounded_numbers",
    "size_roots",
    "symbolic_node",
    "symbolic_numbers",
    "symbolic_run",
)
"""The files of this room through which a comparison of sizes goes."""


def model_asks() -> bool:
    """Whether code of the model compares sizes, and not a rule of an operator."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if "torch" not in path.parts and path.stem not in _COMPARING:
            return not str(path).startswith(_OWN)
        frame = frame.f_back
    return False


def asking_line() -> str:
    """Return the line of the user's code that runs, as a line of a traceback; else one in torch's modules."""
    frame = _asking()
    if frame is None:
        return ""
    return f'File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}'


def asking_place() -> str:
    """Return the line of the user's code that runs, and the place in it: a line may ask more than once."""
    frame = _asking()
    return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno} (instruction {frame.f_lasti})"


def _asking() -> FrameType | None:
    frame: FrameType | None = sys._getframe(2)
    module: FrameType | None = None
    while frame is not None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if file == recorder.__file__ and name == recorder.Recorder.run.__name__:
            break
        if not file.startswith(_OWN) and "/torch/" not in file.replace("\\", "/"):
            return frame
        module = module or (frame if "/torch/nn/modules/" in file.replace("\\", "/") else None)
        frame = frame.f_back
    return module
