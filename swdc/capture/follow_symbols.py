"""Follows a model once, on inputs whose sizes are symbols: every size is dynamic in which the model's code works.

What the code asks of a size is a guard, and a condition of the program. A size that the code needs as a plain number is
fixed. Runs at other sizes, without symbols, must do what the symbols predict; one of them is in training if the code
may depend on the mode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch.utils import _pytree as pytree

from swdc.capture.batch import shared_batch
from swdc.capture.captured_graph import Captured, fixed_batch
from swdc.capture.follow_batches import MORE, WITNESS, trained_run
from swdc.capture.graph_of_runs import bears_witness, named_leaves
from swdc.capture.graph_of_symbols import OfSymbols, predicted
from swdc.capture.guards import Guards
from swdc.capture.input_symbols import BATCH, InputSymbols, sizes_of
from swdc.capture.meta_cache import Forms
from swdc.capture.meta_run import run
from swdc.capture.recorder import Run
from swdc.capture.size_algebra import value_of
from swdc.capture.solved_sizes import SolvedSizes, source
from swdc.capture.symbolic_run import run_on_symbols
from swdc.capture.training_differences import differences, reads_mode, trains_alike
from swdc.capture.way import CannotCapture, Subject
from swdc.capture.whole_results import without_whole_results
from swdc.errors import TraceError
from swdc.ir.conditions import Condition, FixedSize, broken
from swdc.ir.module_tensors import tensors_of
from swdc.ir.other_sizes import other_sizes

_BATCH_OF_ONE = 3
"""The batch to run symbols at if that of the example is one, which code may treat apart."""


@dataclass(frozen=True)
class _Followed:
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


def follow_symbols(subject: Subject, compiling: bool = True, apart: bool = False) -> Captured:
    """Return the graph; raise ``CannotCapture``, or whatever the model raises on tensors without values.

    ``compiling`` says what ``torch.compiler.is_compiling()`` returns in the model's code. The example may have a size
    of one where a condition excludes it, because code that asks for a one often does the same there: this remains to be
    tried. With ``apart`` such sizes are fixed.
    """
    model, inputs = subject.model, subject.inputs
    forms, (leaves, structure) = Forms(), pytree.tree_flatten(inputs)
    learns = reads_mode(model)

    def ran(shapes: Any, training: bool = False) -> Run:
        subject.put_back()
        if training:
            model.train()
        return run(model, inputs, shapes, forms, compiling=compiling)

    followed = _followed(subject, leaves, forms, compiling, apart)
    graph = OfSymbols(model, named_leaves(model, inputs), followed.run, followed.symbols.shapes, followed.solved)
    captured = graph.captured(structure)
    cases = list(_witnesses(followed, shared_batch(inputs)))
    trained = trained_run(partial(ran, followed.values(cases[0]), training=True)) if learns else None
    found: tuple[str, ...] | None = () if trained or not learns else None
    whole = partial(without_whole_results, tensors=tensors_of(model))
    shapes = followed.values(cases[0])
    told = whole(predicted(followed.run, followed.solved, cases[0]), shapes)
    if trained is None or not trains_alike(told, told, whole(trained, shapes)):
        witness = whole(ran(shapes), shapes)
        _check(told, witness, cases[0])
        found = differences(model, witness, trained) if trained else found
    for sizes in cases[1:]:
        shapes = followed.values(sizes)
        told = whole(predicted(followed.run, followed.solved, sizes), shapes)
        _check(told, whole(ran(shapes), shapes), sizes)
    fixed = tuple(_fixed(followed, [node.name for node in graph.inputs]))
    notes = (*captured.notes, *_fixed_batch(followed))
    return replace(captured, differences=found, conditions=followed.conditions, fixed=fixed, notes=notes)


def _followed(subject: Subject, leaves: list[Any], forms: Forms, compiling: bool, apart: bool) -> _Followed:
    """Return a run on symbols whose conditions the example meets."""
    fixed: set[str] = set()
    while True:
        symbols = InputSymbols.of(leaves, fixed)
        hints = {name: _BATCH_OF_ONE if size == 1 else size for name, size in symbols.example.items()}
        guards = Guards(hints)
        subject.put_back()
        ran = run_on_symbols(subject.model, subject.inputs, symbols.shapes, guards, forms, compiling)
        plain = SolvedSizes(guards, list(hints), {name: name for name in hints})
        solved = SolvedSizes(guards, list(hints), symbols.named(leaves, plain.is_free))
        followed = _Followed(symbols, ran, solved, solved.conditions())
        followed = _without_needless(followed, subject, forms, compiling)
        unwanted = _unwanted(followed, leaves, subject.dynamic)
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


def _without_needless(followed: _Followed, subject: Subject, forms: Forms, compiling: bool) -> _Followed:
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
            _check(told, without_whole_results(ran, shapes, tensors), sizes)
        except Exception:  # the model fails there, or does something else
            left.append(condition)
    return replace(followed, conditions=tuple(left))


def _unwanted(followed: _Followed, leaves: list[Any], dynamic: frozenset[str] | None) -> set[str]:
    """Return the symbols that the user wants fixed; raise ``TraceError`` if one that is to change is fixed."""
    if dynamic is None:
        return set()
    solved, symbols = followed.solved, followed.symbols
    free = {solved.names[name]: name for name in symbols.example if solved.is_free(name)}
    told = {name for name in free.values() if solved.names[name] not in dynamic}
    called = {called: name for name, called in symbols.named(leaves, lambda _: True).items()}
    for missing in sorted(dynamic - free.keys()):
        line = source(solved.guards.fixing_line(called.get(missing, "")))
        if line:
            raise TraceError(
                f"expected {missing} as a size that may change, but {line} fixes it; leave it out of dynamic"
            )
    return told


def _witnesses(followed: _Followed, batch: int | None) -> Iterator[dict[str, int]]:
    """Yield sizes at which the model has to do what the symbols say; the last are those of the example."""
    example, conditions = followed.example, followed.conditions
    for larger, other in ((False, WITNESS), (True, MORE)):
        start = {**example, BATCH: other} if BATCH in example else example
        sizes = other_sizes(start if broken(conditions, start) is None else example, conditions, BATCH, larger)
        yield sizes
    if example != sizes and broken(conditions, example) is None:
        yield example


def _check(told: Run, witness: Run, sizes: Mapping[str, int]) -> None:
    if not bears_witness(told, told, witness, lambda step: (step.args, step.kwargs)):
        text = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise CannotCapture(f"the model does something else for {text or 'the example'}")


def _fixed(followed: _Followed, names: list[str]) -> Iterator[FixedSize]:
    """Yield the sizes of inputs that the model's code has fixed."""
    guards = followed.solved.guards
    for name, (place, dim) in followed.symbols.places.items():
        size = followed.final(followed.symbols.shapes[place][dim])  # type: ignore[index]
        if size.constant is not None:
            yield FixedSize(names[place], dim, size.constant, source(guards.fixing_line(name)))


def _fixed_batch(followed: _Followed) -> tuple[str, ...]:
    """Return a note if the leading size of the first tensor is fixed."""
    first = next((shape for shape in followed.symbols.shapes if shape), ())
    leading = followed.final(first[0]).constant if first else None
    return () if leading is None else (fixed_batch(leading),)
