"""Capture by ``torch.export``: the model's code runs once, with symbols for the sizes that may change."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode
from torch.fx.graph import _PyTreeInfo

from swdc.capture.answered_branches import Answers
from swdc.capture.batch import at_least_two, dynamic_dims, shared_batch, with_batch
from swdc.capture.captured_graph import Captured, fixed_batch, frozen_reads, without_gradients
from swdc.capture.data_dependent_branches import searches_branched_on
from swdc.capture.empty_vectors import drop_empty_vectors
from swdc.capture.found_something import check_searches, check_squeezes, finding_something
from swdc.capture.guarded_batches import doubtful_batches, holds_for_large_batches
from swdc.capture.inlining import inlined
from swdc.capture.left_behind import unchecked
from swdc.capture.python_of_sizes import sizes_taken_by_python
from swdc.capture.recurrent_shapes import shapes_alone
from swdc.capture.refusals import cannot_run
from swdc.capture.restore import buffers_kept
from swdc.capture.way import CannotCapture, Inputs, Subject, Way
from swdc.errors import TraceError, brief
from swdc.ops.copies import is_write
from swdc.ops.in_place import overwrites

FIXED = "the sizes of all inputs are fixed to those of the example inputs, because the model's code depends on them"
_OF_THE_MODEL = (InputKind.PARAMETER, InputKind.BUFFER)
_UNSEEN = "a fake tensor in the exported program constant's list"
"""What torch says where values reach a tensor on a way that it does not see."""
_ODD_BATCH = 7
"""A batch that is unlikely to equal any size of a model."""


class Export(Way):
    """Exports a model by ``torch.export``, with dynamic sizes if its code allows them.

    Export is tried with dynamic sizes first. Because the model's code may treat the batch of the example as a constant,
    it is then tried with another batch, and last with fixed sizes. After the first failure, gradients are off.
    """

    name = "export"

    def capture(self, subject: Subject) -> Captured:
        """Return the first graph of ``captures``; raise as it does."""
        return next(self.captures(subject))

    def captures(self, subject: Subject) -> Iterator[Captured]:
        """Yield graphs with dynamic sizes, then one with fixed sizes.

        Raises ``CannotCapture`` if export fails. Raises ``TraceError`` if the model cannot be run on the inputs, and
        for control flow that depends on values.
        """
        searches = searches_branched_on(subject)
        if not all(operator.by_condition for operator in searches):
            raise CannotCapture("the model calls other operators if a search in it (such as nonzero) finds nothing")
        failures: list[Exception] = []
        kinds = (False, True) if searches else (True,)
        for inputs, dims, checked in ((*given, kind) for given in _examples(subject.inputs) for kind in kinds):
            with Answers(assume=False) as asked:
                captured = _attempt(failures, subject, inputs, dims, bool(searches), checked)
            if captured is not None and not checked:
                if dims is not None and _is_dynamic(captured, inputs):
                    yield replace(captured, doubtful=(*doubtful_batches(captured), _ODD_BATCH), empties=True)
            elif captured is not None and dims is None:
                yield replace(captured, notes=(*captured.notes, FIXED))
            elif captured is not None and _is_dynamic(captured, inputs):
                doubtful = (*doubtful_batches(captured), _ODD_BATCH, 0)
                yield replace(captured, notes=(*captured.notes, *_fixed_batch(captured)), doubtful=doubtful)
                failures.append(CannotCapture("the program differs from the model"))
            elif failures:
                _check_runs(subject)
            if failures and _depends_on_values(failures[-1]):
                if asked.places:
                    yield from _with_answers(subject, bool(searches))
                break
        if failures:
            unseen = "the model's code reads or writes a tensor in a way that torch does not see, such as tensor.data"
            raise CannotCapture(unseen if _UNSEEN in str(failures[0]) else brief(failures[0])) from failures[0]


def _with_answers(subject: Subject, finding: bool) -> Iterator[Captured]:
    """Yield graphs of a model that asks whether conditions hold anywhere, or everywhere; none if it asks for more."""
    for inputs, dims in list(_examples(subject.inputs))[:-1]:
        with without_gradients(), Answers(assume=True) as answers:
            captured = _attempt([], subject, inputs, dims, finding, checked=False)
        if captured is None:
            return
        if answers.places and _is_dynamic(captured, inputs):
            doubtful = (*doubtful_batches(captured), _ODD_BATCH)
            assumed = frozenset(answers.places)
            yield replace(captured, doubtful=doubtful, empties=finding, assumed=assumed)


def _examples(inputs: Inputs) -> Iterator[tuple[Inputs, Any]]:
    """Yield inputs with their dynamic dimensions; the last are the example inputs, with none."""
    other = inputs if shared_batch(inputs) is None else with_batch(inputs, _ODD_BATCH)
    for varied in (at_least_two(inputs), other):
        yield varied, dynamic_dims(varied)
    yield inputs, None


def _attempt(
    failures: list[Exception], subject: Subject, inputs: Inputs, dims: Any, finding: bool, checked: bool
) -> Captured | None:
    """Return the graph of a model; if export fails, add the error to ``failures`` and return ``None``."""
    try:
        with without_gradients() if failures else nullcontext():
            return _exported(subject.model, inputs, dims, finding, checked)
    except TraceError:
        raise
    except Exception as error:  # torch.export raises errors of many kinds, which all mean that export failed
        failures.append(error)
        return None
    finally:
        subject.put_back()


def _is_dynamic(captured: Captured, inputs: Inputs) -> bool:
    """Whether the batch of the inputs, if they share one, is dynamic."""
    leading = [shape[0] for shape in captured.input_shapes() if shape]
    symbolic = all(getattr(size, "is_symbol", False) for size in leading)
    return shared_batch(inputs) is None or (symbolic and holds_for_large_batches(captured))


def _fixed_batch(captured: Captured) -> tuple[str, ...]:
    """Return a note if the leading size of the first tensor is that of the example."""
    first = next((shape for shape in captured.input_shapes() if shape), ())
    if not first or getattr(first[0], "is_symbol", False):
        return ()
    return (fixed_batch(first[0]),)


def _depends_on_values(error: BaseException | None) -> bool:
    """Whether export failed because the model's code needs the value of a tensor."""
    while error is not None:
        if isinstance(error, GuardOnDataDependentSymNode | DataDependentOutputException):
            return True
        error = error.__cause__ or error.__context__
    return False


def _check_runs(subject: Subject) -> None:
    """Raise ``TraceError`` if a model cannot be run on the inputs."""
    model, (args, kwargs) = subject.model, subject.inputs
    try:
        with torch.no_grad(), buffers_kept(model):
            model(*args, **kwargs)
    except Exception as failure:  # whatever the user's model raises
        raise cannot_run(model, subject.inputs, failure) from failure


def _exported(model: nn.Module, inputs: Inputs, dims: Any, finding: bool, checked: bool) -> Captured:
    """Return the graph of a model. ``dims`` gives the dynamic dimensions of each argument; ``None`` fixes all.

    With ``finding``, the graph is that of searches which find something. If it is ``checked``, it fails where one does
    not.

    Raises ``TraceError`` for control flow that depends on values, and whatever ``torch.export`` raises.
    """
    args, kwargs = inputs
    shapes = None if dims is None else dict(inspect.signature(model.forward).bind(*dims[0], **dims[1]).arguments)
    with shapes_alone(), sizes_taken_by_python(model), finding_something() if finding else nullcontext():
        exported = torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
    flat = inlined(exported.graph_module)
    drop_empty_vectors(flat.graph)
    if finding and checked:
        check_searches(flat.graph)
    check_squeezes(flat.graph)
    if any(getattr(n.target, "__module__", "").startswith("torch._functorch") for n in flat.graph.nodes):
        raise CannotCapture("export keeps the parts of torch.vmap, which do not run outside of it")
    specs = exported.graph_signature.input_specs
    lifted = {s.arg.name: s for s in specs if s.kind != InputKind.USER_INPUT and hasattr(s.arg, "name")}
    names = {name: str(spec.target) for name, spec in lifted.items()}
    kinds = [spec.kind for spec in exported.graph_signature.output_specs]
    _keep_user_outputs(flat.graph, [kind == OutputKind.USER_OUTPUT for kind in kinds])
    replaced = _replaced(flat.graph, names)
    return Captured(
        graph=flat.graph,
        tensors=names,
        constants=_constants(exported, [str(s.target) for s in lifted.values() if s.kind not in _OF_THE_MODEL]),
        signature=_signature(exported),
        notes=(
            *frozen_reads(model, [names[name] for name in flat.without_gradients if name in names]),
            *unchecked(flat.graph),
        ),
        replaced=replaced,
    )


def _keep_user_outputs(graph: fx.Graph, theirs: list[bool]) -> None:
    """Drop the outputs that export adds to the model's results: new values of buffers that the model overwrites."""
    (output,) = graph.find_nodes(op="output")
    output.args = (tuple(value for value, mine in zip(output.args[0], theirs, strict=True) if mine),)


def _replaced(graph: fx.Graph, names: Mapping[str, str]) -> dict[str, fx.Node]:
    """Return the tensors that the model puts in the place of buffers, by name.

    Export copies them into the buffers at the end; these copies are removed from the graph.
    """
    found: dict[str, fx.Node] = {}
    for node in [node for node in reversed(graph.nodes) if is_write(node)]:
        buffer, value = node.args
        if not isinstance(buffer, fx.Node) or not isinstance(value, fx.Node) or buffer.name not in names:
            continue
        if any(user > node for user in buffer.users):
            continue
        graph.erase_node(node)
        if not (overwrites(value) and value.args[0] is buffer):
            found.setdefault(names[buffer.name], value)
    return found


def _constants(exported: ExportedProgram, names: list[str]) -> dict[str, torch.Tensor]:
    constants = {name: exported.constants.get(name) for name in names}
    for name, constant in constants.items():
        if not isinstance(constant, torch.Tensor):
            raise TraceError(
                f"expected tensors as constants of the model, got {name} of type {type(constant).__name__}; take it "
                f"out of the model's forward"
            )
    return constants


def _signature(exported: ExportedProgram) -> _PyTreeInfo:
    signature = exported.module_call_graph[0].signature
    assert signature is not None
    spec = exported.call_spec.in_spec
    names = list(signature.forward_arg_names or [])
    if not names:
        names = [f"arg_{i}" for i in range(spec.child(0).num_children)] + list(spec.child(1).context)
    return _PyTreeInfo(names, spec, exported.call_spec.out_spec)
