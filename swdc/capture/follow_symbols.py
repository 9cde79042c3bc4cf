"""Follows a model once, on inputs whose sizes are symbols: every size is dynamic in which the model's code works.

What the code asks of a size is a guard, and a condition of the program. A size that the code needs as a plain number is
fixed. Runs at other sizes, without symbols, must do what the symbols predict; one of them is in training if the code
may depend on the mode.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from torch.utils import _pytree as pytree

from swdc.capture.captured_graph import Captured, fixed_batch
from swdc.capture.follow_batches import MORE, WITNESS, trained_run
from swdc.capture.graph_of_runs import named_leaves
from swdc.capture.graph_of_symbols import OfSymbols, predicted
from swdc.capture.input_symbols import BATCH
from swdc.capture.meta_cache import Forms
from swdc.capture.meta_run import run
from swdc.capture.runs import Run
from swdc.capture.solved_sizes import source
from swdc.capture.special_sizes import widest
from swdc.capture.symbolic_follow import Followed, check, followed_on
from swdc.capture.training_differences import differences, reads_mode, trains_alike
from swdc.capture.way import Subject
from swdc.capture.whole_results import without_whole_results
from swdc.ir.conditions import FixedSize, broken
from swdc.ir.module_tensors import tensors_of
from swdc.ir.other_sizes import other_sizes


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

    again = partial(followed_on, subject, leaves, forms, compiling, apart)
    tensors = tensors_of(model)
    followed = widest(again(), again, tensors, ran)
    graph = OfSymbols(model, named_leaves(model, inputs), followed.run, followed.symbols.shapes, followed.solved)
    captured = graph.captured(structure)
    cases = list(_witnesses(followed, subject.compared))
    trained = trained_run(partial(ran, followed.values(cases[0]), training=True)) if learns else None
    found: tuple[str, ...] | None = () if trained or not learns else None
    whole = partial(without_whole_results, tensors=tensors)
    shapes = followed.values(cases[0])
    told = whole(predicted(followed.run, followed.solved, cases[0]), shapes)
    if trained is None or not trains_alike(told, told, whole(trained, shapes)):
        witness = whole(ran(shapes), shapes)
        check(told, witness, cases[0])
        found = differences(model, witness, trained) if trained else found
    for sizes in cases[1:]:
        shapes = followed.values(sizes)
        told = whole(predicted(followed.run, followed.solved, sizes), shapes)
        check(told, whole(ran(shapes), shapes), sizes)
    fixed = tuple(_fixed(followed, [node.name for node in graph.inputs]))
    asked = subject.dynamic is not None and BATCH not in subject.dynamic
    notes = (*captured.notes, *(() if asked else _fixed_batch(followed)))
    return replace(captured, differences=found, conditions=followed.conditions, fixed=fixed, notes=notes)


def _witnesses(followed: Followed, compared: bool) -> Iterator[dict[str, int]]:
    """Yield sizes at which the model has to do what the symbols say; the last are those of the example.

    If results are ``compared`` afterwards, which is done for the example and for smaller sizes, only larger ones.
    """
    example, conditions = followed.example, followed.conditions
    for larger, other in ((True, MORE),) if compared else ((False, WITNESS), (True, MORE)):
        start = {**example, BATCH: other} if BATCH in example else example
        sizes = other_sizes(start if broken(conditions, start) is None else example, conditions, BATCH, larger)
        yield sizes
    for name in example if followed.solved.guards.supposed else ():
        alone = {**example, name: sizes[name]}
        if alone not in (example, sizes) and broken(conditions, alone) is None:
            yield alone
    if not compared and example != sizes and broken(conditions, example) is None:
        yield example


def _fixed(followed: Followed, names: list[str]) -> Iterator[FixedSize]:
    """Yield the sizes of inputs that the model's code has fixed."""
    guards = followed.solved.guards
    for name, (place, dim) in followed.symbols.places.items():
        size = followed.final(followed.symbols.shapes[place][dim])  # type: ignore[index]
        if size.constant is not None:
            yield FixedSize(names[place], dim, size.constant, source(guards.fixing_line(name)))


def _fixed_batch(followed: Followed) -> tuple[str, ...]:
    """Return a note if the leading size of the first tensor is fixed."""
    first = next((shape for shape in followed.symbols.shapes if shape), ())
    leading = followed.final(first[0]).constant if first else None
    return () if leading is None else (fixed_batch(leading),)
