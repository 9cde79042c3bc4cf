"""Watching a model run: every call of a module is reported with its inputs and its result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from swdc.artifacts.transplanting.float64 import in_float64
from swdc.capture.restore import buffers_kept, restored

IN, OUT = "inputs", "result"

Report = Callable[["Frame", str, Any], None]
"""Called with a frame, ``IN`` or ``OUT``, and the arguments or the result; raises ``Mismatch`` to stop the run."""


class Mismatch(Exception):  # noqa: N818 - it stops a run, and is never shown to the user as an exception
    """A module took or returned something other than the slim program does."""


@dataclass(frozen=True)
class Frame:
    """A call of a module: which call it is (0-based), its arguments, and the earlier calls of every module."""

    path: str
    number: int
    args: tuple[Any, ...] = field(repr=False)
    kwargs: dict[str, Any] = field(repr=False)
    before: dict[str, int] = field(repr=False)


@dataclass(frozen=True)
class Failure:
    """Why a run stopped: the error, and the calls in which it stopped, outermost first."""

    error: Exception
    frames: tuple[Frame, ...]


Calls = dict[tuple[str, int], dict[str, int]]
"""How often every module has been called by the end of a call, by the path and the number of the call."""


def paths_of(model: nn.Module) -> dict[nn.Module, str]:
    """Return the first path of each module."""
    return {module: path for path, module in model.named_modules()}


def shared_paths(model: nn.Module, path: str) -> list[str]:
    """Return the first paths of the modules that the one at a path holds, and that a module before it holds, too."""
    first = paths_of(model)
    inside = [first[module] for module in model.get_submodule(path).modules() if module in first]
    return [other for other in inside if path and other != path and not other.startswith(f"{path}.")]


class Watch:
    """Runs a model, or one of its modules, and reports each call.

    ``after`` has the calls of every module at the end of each call in an earlier run, or gets them: what takes the
    place of a module may not call the parts that the module shares with others. What the code keeps from a run, such as
    a cache and the size that it is for, is put back as a whole, after ``at_end``.
    """

    def __init__(
        self, model: nn.Module, report: Report, after: Calls | None = None, at_end: Callable[[], object] = lambda: None
    ) -> None:
        self.report, self.paths, self.at_end = report, paths_of(model), at_end
        self.after: Calls = {} if after is None else after
        self.frames: list[Frame] = []
        self.counts: Counter[str] = Counter()
        self._left: int | None = None

    def run(self, module: nn.Module, args: Any, kwargs: Any, before: dict[str, int] | None = None) -> Failure | None:
        """Call a module on copies of the arguments, and return its failure, or ``None`` if it did not fail."""
        self.counts, self.frames, self._left = Counter(before or {}), [], None
        with restored(module):  # before there are hooks: they lead to what this object holds
            failure = self._run(module, args, kwargs)
            self.at_end()
        return failure

    def _run(self, module: nn.Module, args: Any, kwargs: Any) -> Failure | None:
        handles = []
        for part in self.paths:
            handles.append(part.register_forward_pre_hook(self._enter, with_kwargs=True))
            handles.append(part.register_forward_hook(self._leave, with_kwargs=True, always_call=True))
        args, kwargs = copied((args, kwargs))
        try:
            with in_float64(), buffers_kept(module):
                module(*args, **kwargs)
        except Exception as error:  # whatever the user's code raises on sizes that it does not expect
            return Failure(error, tuple(self.frames))
        finally:
            for handle in handles:
                handle.remove()
        return None

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        if _in_transform():
            return
        self._drop_left()
        path = self.paths[module]
        saved, named = copied((args, kwargs))
        frame = Frame(path, self.counts[path], saved, named, dict(self.counts))
        self.report(frame, IN, (args, kwargs))
        self.frames.append(frame)
        self.counts[path] += 1

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, result: Any) -> None:
        if _in_transform():
            return
        if result is None:  # the call failed, or it returns nothing that could be compared
            calls = [place for place, frame in enumerate(self.frames) if frame.path == self.paths[module]]
            self._left = calls[-1] if calls else None
            return
        self._drop_left()
        self.report(self.frames[-1], OUT, result)
        frame = self.frames.pop()
        self.counts = Counter(self.after.setdefault((frame.path, frame.number), dict(self.counts)))

    def _drop_left(self) -> None:
        """Drop the calls that ended without a result: if they failed, the code has caught the error, and went on."""
        if self._left is not None:
            del self.frames[self._left :]
        self._left = None


def _in_transform() -> bool:
    """Whether a transform such as ``torch.vmap`` is at work, in which tensors have no values to compare."""
    return torch._C._functorch.peek_interpreter_stack() is not None


def copied(value: Any) -> Any:
    """Return nested values with every tensor copied, because a model may overwrite its inputs."""
    return pytree.tree_map_only(torch.Tensor, torch.Tensor.clone, value)
