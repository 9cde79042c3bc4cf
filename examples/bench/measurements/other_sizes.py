"""A network at sizes other than its example's: program, slim program, folder and ONNX file beside the model itself."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from examples.bench.coverage.measure import FLOAT32_TOLERANCE, of_any_machine
from examples.bench.networks.catalogue import entry
from examples.bench.networks.entry import call
from examples.bench.networks.randomise import random_network
from examples.bench.running.apart import Report
from swdc import Program, export_onnx, load, mask, plan, save, slim, trace
from swdc.artifacts.onnx.runtime import run_onnx
from swdc.artifacts.transplanting.float64 import in_float64, wide_inputs
from swdc.capture.batch import shared_batch, tensors_in, with_shapes
from swdc.errors import ExportError, InputError, brief
from swdc.ir.differences import flat_outputs, relative_error
from swdc.rewriting.certificate import TOLERANCE
from swdc.rewriting.runs import WIDE, called, copies_in, floats_in

PARTS = ("program", "slim", "folder", "onnx")
EQUAL, REFUSED, SILENT, RAW = "equal", "refused", "silent", "raw"
"""What may be at a size that the model takes: the same result, an ``InputError``, another result, any other error."""
_DECLARED = "Got invalid dimensions for input"
"""What onnxruntime says, before it runs a file, of inputs that have other sizes than the file declares."""
_STEPS = (32, 16, 8, 4, 2, 1)
_FEWEST = 4
"""A size changes by steps of which it has at least so many."""

Run = Callable[[Any], list[Tensor]]


def measure_sizes(report: Report, library: str, name: str, seed: int) -> None:
    """Measure a network of the catalogue at two other sizes, reporting each part when it is known."""
    torch.set_num_threads(1)  # in a process of its own, which ends with the measurement
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, inputs = random_network(entry(name, library), seed)
        others = sizes_taken(model, inputs)
        report({"shapes": [_shapes(each) for each in others], "phase": "trace"})
        if not others:
            return
        program = trace(model, inputs)
        facts = program.facts
        conditions = [of_any_machine(str(line)) for line in (*facts.conditions, *facts.fixed)]
        report({"captured_by": facts.captured_by, "conditions": conditions, "phase": "program"})
        report({"program": _program_beside_model(program, model, others), "phase": "slim"})
        if program.groups and not facts.example_only:
            _measure_slim(report, program, others)


def sizes_taken(model: nn.Module, inputs: Any) -> list[Any]:
    """Return inputs of two other sizes that a model takes, one or none if it takes no more.

    The largest size in the inputs of which the model takes another one is changed: first everywhere to a smaller one,
    then to a larger one, at the last place in a tensor to the smaller one.
    """
    shapes = [tuple(t.shape) for t in tensors_in(inputs)]
    first = 0 if shared_batch(inputs) is None else 1
    for size in sorted({size for shape in shapes for size in shape[first:] if size > 1}, reverse=True):
        smaller, larger = _beside(size)
        changed = [[_moved(s, size, place, first) for s in shapes] for place in ((smaller, smaller), (larger, smaller))]
        found = [each for each in (_with_tensors(inputs, new) for new in changed) if _runs(model, each)]
        if found:
            return found
    return []


def _beside(size: int) -> tuple[int, int]:
    step = next(step for step in _STEPS if size % step == 0 and (size // step >= _FEWEST or step == 1))
    return max(step, 3 * size // 4 // step * step), max(size + step, 5 * size // 4 // step * step)


def _moved(shape: tuple[int, ...], size: int, to: tuple[int, int], first: int) -> tuple[int, ...]:
    """Return a shape in which one size has changed: to the first of ``to``, to the second where it is the last."""
    places = [dim for dim in range(first, len(shape)) if shape[dim] == size]
    last = places[-1] if len(places) > 1 else None
    return tuple(to[dim == last] if dim in places else each for dim, each in enumerate(shape))


def _with_tensors(inputs: Any, shapes: Sequence[tuple[int, ...]]) -> Any:
    """Return nested inputs whose tensors have other shapes."""
    found = iter(shapes)
    leaves = pytree.tree_leaves(inputs)
    return with_shapes(inputs, [next(found) if isinstance(leaf, Tensor) else None for leaf in leaves])


def _runs(model: nn.Module, inputs: Any) -> bool:
    args, kwargs = call(inputs)
    try:
        with torch.no_grad():
            model(*args, **kwargs)
    except Exception:  # whatever a model raises for sizes that it does not take
        return False
    return True


def _program_beside_model(program: Program, model: nn.Module, others: Sequence[Any]) -> list[str]:
    wide = copy.deepcopy(model).double().eval()
    with copies_in(program, dtype=WIDE) as (one,):
        return [_verdict(lambda x: _wide(one, x), lambda x: _of_model(wide, x), each, TOLERANCE) for each in others]


def _of_model(model: nn.Module, inputs: Any) -> list[Tensor]:
    """Return what a model computes in float64, even where its code asks for float32."""
    args, kwargs = wide_inputs(call(inputs))
    with in_float64():
        return flat_outputs(model(*args, **kwargs))


def _measure_slim(report: Report, program: Program, others: Sequence[Any]) -> None:
    """Compare the slim program with the masked one, and with what it becomes in a folder and an ONNX file."""
    half = plan(program, 0.5, scope="group")
    small = slim(program, half)
    with copies_in(mask(program, half), small, dtype=WIDE) as (masked, narrow):
        found = [_verdict(lambda x: _wide(narrow, x), lambda x: _wide(masked, x), x, TOLERANCE) for x in others]
    report({"slim": found, "phase": "folder"})
    with tempfile.TemporaryDirectory() as place:
        save(small, Path(place) / "folder")
        loaded = load(Path(place) / "folder")
        report({"folder": _alike(others, lambda x: _run(loaded, x), small), "phase": "onnx"})
        file = Path(place) / "file.onnx"
        export_onnx(small, file)
        report({"onnx": _alike(others, lambda x: list(map(torch.from_numpy, run_onnx(file, call(x)))), small)})


def _alike(others: Sequence[Any], part: Run, small: Program) -> list[str]:
    return [_verdict(part, lambda x: _run(small, x), each, FLOAT32_TOLERANCE) for each in others]


def _run(program: Program, inputs: Any) -> list[Tensor]:
    args, kwargs = call(inputs)
    with torch.no_grad():
        return flat_outputs(program.eval()(*args, **kwargs))


def _wide(program: Program, inputs: Any) -> list[Tensor]:
    return flat_outputs(called(program.eval(), floats_in(call(inputs), WIDE), 0, WIDE))


def _verdict(part: Run, reference: Run, inputs: Any, tolerance: float) -> str:
    """Return what a part does with inputs that its reference takes, with the reason."""
    try:
        wanted = reference(inputs)
    except InputError as error:
        return of_any_machine(f"{REFUSED}: {brief(error)}")
    try:
        differs = relative_error(wanted, part(inputs))
    except InputError as refusal:
        return of_any_machine(f"{REFUSED}: {brief(refusal)}")
    except Exception as failure:  # what must not be, unless the file itself says that it does not take these sizes
        if isinstance(failure, ExportError) and _DECLARED in str(failure):
            return of_any_machine(f"{REFUSED}: {brief(failure)}")
        return of_any_machine(f"{RAW}: {brief(failure)}")
    return EQUAL if differs <= tolerance else f"{SILENT}: {differs:.1e}"


def _shapes(inputs: Any) -> list[list[int]]:
    return [list(tensor.shape) for tensor in tensors_in(inputs)]


def verdicts(row: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield for each size that the model takes the worst of the parts, with its name."""
    order = (RAW, SILENT, REFUSED, EQUAL)
    for number in range(len(row.get("shapes") or [])):
        found = [(part, row[part][number]) for part in PARTS if row.get(part)]
        if found:
            yield min(found, key=lambda each: order.index(each[1].split(":")[0]))
