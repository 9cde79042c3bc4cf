"""Where a program differs from its model first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from swdc.capture.given_inputs import copied
from swdc.capture.results import difference
from swdc.ir.program import Program


def first_difference(program: Program, model: nn.Module, run: Callable[[nn.Module], object]) -> str:
    """Return where a program differs first: the first leaf module that has other results than the model's.

    ``run`` runs a module and returns its error, if there is one. The text is empty if no leaf module differs.
    """
    results: dict[str, list[Any]] = {}
    with _listening(program, program.leaves, lambda path, x: results.setdefault(path, []).append(copied(x))):
        run(program)
    found: list[str] = []

    def compare(path: str, result: Any) -> None:
        if results.get(path) and difference(copied(result), results[path].pop(0)) is not None:
            found.append(path)

    with _listening(model, results, compare):
        run(model)
    node = next((n for n in program.graph.nodes if found and n.target == found[0]), None)
    return f"first at node {node.name} (module {found[0]})" if node is not None else ""


@contextmanager
def _listening(module: nn.Module, paths: Any, hear: Callable[[str, Any], None]) -> Iterator[None]:
    """Call ``hear`` with the path and the result of every call of some modules."""
    found = {path: part for path, part in module.named_modules(remove_duplicate=False) if path in paths}
    handles = [
        part.register_forward_hook(lambda _, __, result, path=path: hear(path, result)) for path, part in found.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
