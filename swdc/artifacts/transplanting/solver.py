"""Solving for the integers of a module: the first values with which it computes the same as the slim program."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice, product
from typing import Any

from torch import nn

from swdc.artifacts.transplanting.call_hooks import IN, Failure, Frame, Watch
from swdc.artifacts.transplanting.expected_tensors import Reference
from swdc.artifacts.transplanting.integers import Keys, Pairs, integers, names_read, put
from swdc.artifacts.transplanting.written_integers import WrittenIntegers

Values = dict[Keys, int]

_MOST_TRIALS = 100
"""The most sets of values that are tried in one repair of a frame."""


class Solver:
    """Sets integers of the modules of a model, and runs it against the reference.

    It leaves those that a run has ``written``, and modules that are those of the slim program (``right``).
    """

    def __init__(
        self, model: nn.Module, reference: Reference, numbers: Mapping[str, Pairs], written: Mapping[str, set[Keys]],
        right: Collection[nn.Module],
    ) -> None:  # fmt: skip
        self.model, self.reference, self.numbers = model, reference, numbers
        self.original: dict[nn.Module, Values] = {
            module: {k: n for k, n in integers(module, configurations=True) if k not in written.get(path, ())}
            for path, module in model.named_modules()
            if module not in right
        }

    def guess(self) -> None:
        """Set every integer that a module's methods read and that changed in the module's part of the graph."""
        for path, module in self.model.named_modules():
            options = self._options(module, path, far=False)
            put_all(module, self._first({keys: news for keys, news in options.items() if _plain(module, keys)}))

    def run(self, inputs: Any, known: int) -> tuple[int, Failure | None]:
        """Run the model, skip the first ``known`` checks, and return the number of passed checks and the failure."""
        self.reference.begin(known)
        args, kwargs = inputs
        return self._watched(self.model, args, kwargs, None)

    def again(self, frame: Frame) -> tuple[int, Failure | None]:
        """Repeat the call of a frame, and return the number of passed checks and the failure."""
        self.reference.begin()
        return self._watched(self.model.get_submodule(frame.path), frame.args, frame.kwargs, frame.before)

    def leave_written(self, inputs: Any) -> None:
        """Let integers be what they were if a run of the model overwrites them, which the first run need not show."""
        written = WrittenIntegers(self.model)
        args, kwargs = inputs
        Watch(self.model, lambda *_: None, at_end=lambda: written.look(self.model)).run(self.model, args, kwargs)
        for path, module in self.model.named_modules():
            own, original = written.keys.get(path, ()), self.original.get(module, {})
            put_all(module, {keys: number for keys, number in original.items() if keys in own})

    def frame(self, path: str, inputs: Any) -> Frame | None:
        """Run the model, and return the first call of the module at a path; ``None`` if there is none."""
        found: list[Frame] = []

        def report(frame: Frame, kind: str, value: Any) -> None:
            if kind == IN and frame.path == path and not found:
                found.append(frame)

        args, kwargs = inputs
        Watch(self.model, report, self.reference.after).run(self.model, args, kwargs)
        return found[0] if found else None

    def _watched(self, module: nn.Module, args: Any, kwargs: Any, before: Any) -> tuple[int, Failure | None]:
        failure = Watch(self.model, self.reference.check, self.reference.after).run(module, args, kwargs, before)
        return self.reference.passed, failure

    def repair(self, frame: Frame, far: bool = False) -> bool:
        """Set the integers of a frame's module so that its call gets further, and return whether any values help.

        If none do, the integers stay as they are. ``far`` also tries multiples, and integers that the module's own
        methods do not mention.
        """
        module = self.model.get_submodule(frame.path)
        current = self._held(module)
        trials = self._trials(module, frame.path, far, current)
        best, base = current, -1
        for values in trials:
            base = self.again(frame)[0] if base < 0 else base
            put_all(module, values)
            passed, failure = self.again(frame)
            if failure is None:
                return True
            if passed > base:
                best, base = values, passed
            put_all(module, current)
        put_all(module, best)
        return best is not current

    def _trials(self, module: nn.Module, path: str, far: bool, current: Values) -> Iterator[Values]:
        """Yield complete sets of values to try, each once."""
        seen = {frozenset(current.items())}
        found = self._candidates(module, path, far)
        for changed in islice(found, _MOST_TRIALS):
            values = {**self.original.get(module, {}), **changed}
            if frozenset(values.items()) not in seen:
                seen.add(frozenset(values.items()))
                yield values

    def _held(self, module: nn.Module) -> Values:
        return {keys: n for keys, n in integers(module, configurations=True) if keys in self.original.get(module, {})}

    def _candidates(self, module: nn.Module, path: str, far: bool) -> Iterator[Values]:
        """Yield values to try: all changed, none, one changed, one kept, then every combination."""
        options = self._options(module, path, far)
        every = self._first(options)
        yield every
        yield {}
        for keys, choices in options.items():
            yield from ({keys: choice} for choice in choices)
        for keys in options:
            yield {k: v for k, v in every.items() if k != keys}
        kept = self.original.get(module, {})
        for values in product(*([*choices, kept[keys]] for keys, choices in options.items())):
            yield dict(zip(options, values, strict=True))

    def _options(self, module: nn.Module, path: str, far: bool) -> dict[Keys, list[int]]:
        """Return the possible new values of each integer; ``far`` includes multiples and integers that are not read."""
        read = names_read(type(module))
        pairs = self._pairs(path, far)
        options: dict[Keys, list[int]] = {}
        for keys, old in self.original.get(module, {}).items():
            if not far and not {key for key in keys if isinstance(key, str)} <= read:
                continue
            choices = [new for new in pairs.get(old, ()) if new != old]
            more = _multiples(old, pairs) if far else ()
            choices = [new for new in dict.fromkeys((*choices, *more)) if new != old]
            if choices:
                options[keys] = choices
        return options

    def _pairs(self, path: str, far: bool) -> Pairs:
        """Return the new numbers of a module's scope; with ``far`` also those of all modules inside it."""
        pairs: dict[int, tuple[int, ...]] = dict(self.numbers.get(path, {}))
        inside = f"{path}." if path else ""
        for scope, more in self.numbers.items() if far else ():
            for old, news in more.items() if scope.startswith(inside) else ():
                pairs[old] = tuple(dict.fromkeys((*pairs.get(old, ()), *news)))
        return pairs

    def _first(self, options: dict[Keys, list[int]]) -> Values:
        return {keys: choices[0] for keys, choices in options.items()}


def put_all(module: nn.Module, values: Values) -> None:
    """Set the integers of a module that differ from the given values."""
    held = dict(integers(module, configurations=True))
    for keys, number in values.items():
        if held.get(keys) != number:
            put(module, keys, number)


def _plain(module: nn.Module, keys: Keys) -> bool:
    """Whether an integer lies in the module itself, not in another object or module."""
    value: Any = vars(module).get(keys[0])
    if value is None:
        return False
    for key in keys[1:]:
        if not isinstance(value, list | tuple | dict):
            return False
        value = value[key[1]] if isinstance(value, dict) else value[key]
    return True


def _multiples(old: int, pairs: Pairs) -> Iterator[int]:
    """Yield new values for a number that is a multiple or a fraction of a number that changed."""
    for before, news in pairs.items():
        for after in news:
            if min(before, old) > 1 and old % before == 0:
                yield old // before * after
            elif min(before, old) > 1 and before % old == 0 and after % (before // old) == 0:
                yield after // (before // old)
