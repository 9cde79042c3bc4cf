"""One run on symbols that the example fits, and what is known of the sizes after it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

from swdc.capture.graph_of_runs import bears_witness
from swdc.capture.graph_of_symbols import predicted
from swdc.capture.guards import Guards
from swdc.capture.input_symbols import BATCH, InputSymbols, sizes_of
from swdc.capture.meta_cache import Forms
from swdc.capture.meta_run import run
from swdc.capture.runs import Run, Slot
from swdc.capture.size_sums import symbol, value_of
from swdc.capture.solved_sizes import SolvedSizes, source
from swdc.capture.symbolic_run import run_on_symbols
from swdc.capture.way import CannotCapture, Subject
from swdc.capture.whole_results import without_whole_results
from swdc.errors import TraceError
from swdc.ir.conditions import Condition, broken, leaves_remainders, steps
from swdc.ir.module_tensors import tensors_of
from swdc.ir.sizes import stand_ins
from swdc.ops.in_place import operator_of

_BATCH_OF_ONE = 3
"""The batch to run symbols at if that of the example is one, which code may treat apart."""


@dataclass(frozen=True)
class Followed:
    """A run on symbols, and what is known of the sizes."""

    symbols: InputSymbols
    run: Run
    solved: SolvedSizes
    conditions: tuple[Condition, ...]

    def values(self, sizes: Mapping[str, int]) -> list[tuple[int, ...] | None]:
        """Return the shapes of the inputs at given sizes of the symbols, by their final names."""
        return sizes_of(self.symbols.shapes, lambda size: value_of(self.final(size), sizes))

    def final(self, size: Any) -> Any:
        """Return the size of an input in final form."""
        return self.solved.of_input(*size.symbols) if size.constant is None else size

    @property
    def example(self) -> dict[str, int]:
        """The sizes of the example by the final names of the free symbols."""
        free = [name for name in self.symbols.example if self.solved.is_free(name)]
        return {self.solved.names[name]: self.symbols.example[name] for name in free}


def followed_on(
    subject: Subject,
    leaves: list[Any],
    forms: Forms,
    compiling: bool,
    apart: bool,
    supposed: Collection[str] = (),
    at: Mapping[str, int] | None = None,
    sharing: bool = True,
) -> Followed:
    """Return a run on symbols whose conditions the example meets.

    Sizes that are compared at the lines of code in ``supposed`` are taken for different where they are equal. The run
    takes the sizes ``at`` for those of the example. Leading sizes that are equal are the batch if they are ``sharing``
    it; without, and if one is fixed that way, each may be something else, such as the number of layers of states.
    """
    fixed, doubted = set[str](), sharing
    while True:
        symbols = InputSymbols.of(leaves, fixed, sharing)
        example = {name: (at or {}).get(name, size) for name, size in symbols.example.items()}
        symbols = replace(symbols, example=example)
        hints = {name: _BATCH_OF_ONE if size == 1 else size for name, size in symbols.example.items()}
        guards = Guards(hints, supposed)
        subject.put_back()
        ran = run_on_symbols(subject.model, subject.inputs, symbols.shapes, guards, forms, compiling)
        plain = SolvedSizes(guards, list(hints), {name: name for name in hints})
        solved = SolvedSizes(guards, list(hints), symbols.named(leaves, plain.of_input))
        followed = Followed(symbols, ran, solved, solved.conditions())
        followed = _without_needless(followed, subject, forms, compiling)
        if doubted and _may_be_by_chance(followed):
            again = partial(followed_on, subject, leaves, forms, compiling, apart, supposed, at)
            other = _with_free_lead(partial(again, sharing=False))
            if other is not None:
                return other
            doubted = False
        unwanted = _unwanted(followed, leaves, subject.dynamic) | _all_free(followed, ran.failed) | _narrow(followed)
        if unwanted:
            fixed |= unwanted
            continue
        moved = {name for name, size in symbols.example.items() if size != hints[name]}
        asked = tuple(c for c in followed.conditions if apart or not c.excludes_one)
        refused = broken(asked, followed.example)
        if not any(not solved.is_free(name) for name in moved) and refused is None:
            return followed
        if not moved:
            raise CannotCapture(f"the example does not meet {refused}")
        fixed |= moved


def _may_be_by_chance(followed: Followed) -> bool:
    """Whether code fixes the leading size that several inputs share, which may be the batch of one of them only."""
    fixed = BATCH in followed.symbols.example and not followed.solved.is_free(BATCH)
    return fixed and sum(len(shape) > 1 for shape in followed.symbols.shapes if shape) > 1


def _with_free_lead(again: Callable[[], Followed]) -> Followed | None:
    """Return a run in which the leading size of the first input is free; ``None`` if there is none."""
    try:
        other = again()
    except Exception:  # of many kinds: the model takes no other sizes, or a size that is asked for is fixed
        return None
    lead = other.symbols.leading
    return other if lead is not None and other.solved.is_free(lead) else None


def _without_needless(followed: Followed, subject: Subject, forms: Forms, compiling: bool) -> Followed:
    """Return a run without the conditions that exclude one size at which the model does what the symbols say."""
    tensors = tensors_of(subject.model)
    left = []
    for condition in followed.conditions:
        sizes = {**followed.example, str(condition.size): condition.number}
        others = tuple(other for other in followed.conditions if other.relation != "!=")
        alone = condition.relation == "!=" and str(condition.size) in followed.example and condition.number > 0
        if not alone or broken(others, sizes) is not None:
            left.append(condition)
            continue
        subject.put_back()
        shapes = followed.values(sizes)
        try:
            ran = run(subject.model, subject.inputs, shapes, forms, compiling=compiling)
            told = without_whole_results(predicted(followed.run, followed.solved, sizes), shapes, tensors)
            check(told, without_whole_results(ran, shapes, tensors), sizes)
        except Exception:  # the model fails there, or does something else; the condition stays
            left.append(condition)
    return replace(followed, conditions=tuple(left))


def _unwanted(followed: Followed, leaves: list[Any], dynamic: frozenset[str] | None) -> set[str]:
    """Return the symbols that the user wants fixed; raise ``TraceError`` if one that is to change is fixed."""
    if dynamic is None:
        return set()
    solved, symbols = followed.solved, followed.symbols
    free = {solved.names[name]: name for name in symbols.example if solved.is_free(name)}
    told = {name for name in free.values() if solved.names[name] not in dynamic}
    called = {called: name for name, called in symbols.named(leaves, symbol).items()}
    for missing in sorted(dynamic - free.keys()):
        line = source(solved.guards.fixing_line(called.get(missing, "")))
        if line:
            raise TraceError(
                f"expected {missing} as a size that may change, but {line} fixes it; leave it out of dynamic"
            )
    return told


def _all_free(followed: Followed, failed: bool) -> set[str]:
    """Return all free symbols if an operator ``failed``, because nothing says at which sizes it does not."""
    return {name for name in followed.symbols.example if failed and followed.solved.is_free(name)}


def _narrow(followed: Followed) -> set[str]:
    """Return the free symbols that cannot even double, if shapes fit within their bounds alone.

    A branch counts windows, say; the analysis reasons at any size, and hardly any other is left.
    """
    bounds: dict[str, dict[str, list[int]]] = {}
    for condition in followed.conditions:
        bounds.setdefault(str(condition.size), {}).setdefault(condition.relation, []).append(condition.number)
    names = {followed.solved.names[name]: name for name in followed.symbols.example if followed.solved.is_free(name)}
    found = {
        names[size]
        for size, asked in bounds.items()
        if size in names and ">=" in asked and "<=" in asked and min(asked["<="]) < 2 * max(asked[">="])
    }
    return found if found and not _fits_everywhere(followed) else set()


def _fits_everywhere(followed: Followed) -> bool:
    """Whether shapes make sense beyond the conditions, too: none is negative, and none loses elements."""
    sizes = stand_ins(list(followed.example), (), steps(followed.conditions), leaves_remainders(followed.conditions))
    told = predicted(followed.run, followed.solved, sizes)
    shapes: dict[Slot, Any] = {Slot("input", place): shape for place, shape in enumerate(followed.values(sizes))}
    for number, step in enumerate(told.steps):
        result = step.results[0] if step.single else None
        if result is None:
            continue
        shapes[Slot("call", (number, None))] = result.shape
        if min(result.shape, default=0) < 0:
            return False
        given = shapes.get(step.args[0]) if step.args and isinstance(step.args[0], Slot) else None
        if given is not None and operator_of(step.target).regroups and prod(given) != prod(result.shape):
            return False
    return True


def check(told: Run, witness: Run, sizes: Mapping[str, int]) -> None:
    """Raise ``CannotCapture`` unless a run at given sizes did what the symbols say of it."""
    if not bears_witness(told, told, witness, lambda step: (step.args, step.kwargs)):
        text = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise CannotCapture(f"the model does something else for {text or 'the example'}")
