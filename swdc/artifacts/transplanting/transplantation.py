"""From a slim program back to the user's own class."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from torch import nn

from swdc.analysis.residual import sums
from swdc.artifacts.transplanting.call_hooks import IN, OUT, Failure, Frame, shared_paths
from swdc.artifacts.transplanting.comparison import Comparison
from swdc.artifacts.transplanting.descriptions import Descriptions
from swdc.artifacts.transplanting.expected_tensors import OTHER_VALUES, Reference, observe
from swdc.artifacts.transplanting.extrema import check_extrema, forgotten, holders
from swdc.artifacts.transplanting.float64 import Tensors
from swdc.artifacts.transplanting.graph_part import extract
from swdc.artifacts.transplanting.hooks import described
from swdc.artifacts.transplanting.install import alike, install, install_unused
from swdc.artifacts.transplanting.integers import changed_numbers
from swdc.artifacts.transplanting.masked_model import example_of, masked_path
from swdc.artifacts.transplanting.other_sizes import FAILS
from swdc.artifacts.transplanting.part_module import Extracted
from swdc.artifacts.transplanting.report import report
from swdc.artifacts.transplanting.same_program import copy_with_program, with_plan_of
from swdc.artifacts.transplanting.shorter import drop_removed, shorten, with_zero_branches
from swdc.artifacts.transplanting.solver import Solver
from swdc.artifacts.transplanting.unused_parts import Unused, unused_parts
from swdc.artifacts.transplanting.user_lines import line_of
from swdc.capture.restore import restored
from swdc.errors import PassError, TransplantError, told_as
from swdc.ir.argument_types import checked
from swdc.ir.call import source_of
from swdc.ir.graph import SCOPE
from swdc.ir.module_tensors import tensors_of
from swdc.ir.program import Program

_BATCH = 2
"""Batch size of the runs with which integers are solved for."""


@checked(TransplantError)
def transplant(slim: Program, model: nn.Module) -> nn.Module:
    """Return a copy of the user's model, of its own class, with the tensors of its slim program.

    The integers that its forward needs (``out_channels``, ``num_heads``, the sizes in a view) are solved from the
    literals that changed in the graph. A standard norm that the slim program computes over fewer channels with the
    old divisor is replaced by the program's module. A submodule that cannot be fixed by integers is replaced by its
    part of the slim program, and a warning says so. So is a module that adds a residual branch which the slim program
    lacks. Names in ``state_dict``, modes and ``requires_grad`` stay; the given model is not changed.

    The result is compared with the slim program in float64, at batch sizes 1 and 3, and in training if the model
    itself trains as its program does. If capture recorded the model, it is recorded again, because other weights may
    choose other boxes or nodes, and the result is compared with the masked model on the example inputs. A warning says
    if it differs from the masked model at half or twice the sizes of the example or just beyond those that the program
    takes, or that what the example does not run in a recorded model is not compared. Other values of arguments that
    are not tensors are not tried. Removed channels count as zeros in a maximum or minimum of the program, not in one
    of the class: it is taken where no channel can be negative (or positive), else the module is replaced.
    Raises ``TransplantError`` if the program was not made from the model, or if a module cannot be
    fixed; then the message names the module and the line.

    Example::

        small = swdc.transplant(slim, model)       # an instance of the class of model
    """
    name = type(model).__name__
    expected = f"a model that runs in float64, in which it is compared with the slim program, got {name}"
    with told_as(TransplantError, expected, "use the slim program itself"):
        return Transplanting(with_zero_branches(slim, model), model, short=slim).result()


def _check_sums(slim: Program, dense: Program) -> None:
    """Raise ``TransplantError`` if the sides of a residual sum do not keep the same channels."""
    read = {node.name: [n.name for n in node.all_input_nodes] for node in slim.graph.nodes}
    own = {node.name: [n.name for n in node.all_input_nodes] for node in sums(dense)}
    routed = [name for name, operands in own.items() if read.get(name, operands) != operands]  # some have vanished
    if routed:
        raise TransplantError(
            f"expected residual sums whose sides keep the same channels, because the class adds them as they are, got "
            f"{len(routed)} whose sides differ ({routed[0]} first); plan with policy='tied', or use the slim program"
        )


class Transplanting:
    """The transplanting of one slim program into a copy of one model; ``comparison`` judges any model as the result.

    ``short`` computes the same without branches that are zero in ``slim``: the modules that add them are replaced.
    """

    def __init__(self, slim: Program, model: nn.Module, short: Program | None = None) -> None:
        if slim.facts.origin is None or slim.facts.origin.dense is not None:
            raise TransplantError("expected a slim program as made by swdc.slim, got another; slim it with a plan")
        self.short = slim if short is None else short
        self.name, self.model = type(model).__name__, model
        self.mine, self.dense = copy_with_program(model, slim)
        slim = with_plan_of(slim, self.dense)
        self.slim, self.donor = slim, slim.clone()
        self.names = set(tensors_of(model))
        self.notes: list[str] = []
        self.reasons: dict[str, str] = {}
        self.replaced: set[type[nn.Module]] = set()
        self.wide = Tensors()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _check_sums(slim, self.dense)
            self.comparison = Comparison(slim, self.dense, model)
            if slim.facts.example_only:
                self.dense, self.slim = masked_path(model, self.dense, slim)
                self.donor = self.slim.clone()

    def result(self) -> nn.Module:
        """Return the copy with the slim tensors, as ``transplant`` does."""
        with restored(self.model) as put_back:  # what the code keeps in classes, globals and caches of functions
            kept, elsewhere = self._fill(put_back)
        sized = any(module.has_fixed_sizes for module in self.mine.modules() if isinstance(module, Extracted))
        report(self.name, self.slim, self.notes, sized, kept, elsewhere)
        return self.mine

    def _fill(self, put_back: Callable[[], object]) -> tuple[list[str], str]:
        """Fill the copy; return the tensors that stay as they are, and what is wrong at other sizes."""
        modes = {module: module.training for module in self.mine.modules()}
        self.mine.eval()
        inputs = self.comparison.inputs(_BATCH)
        reference = self._reference(inputs)
        unused = self._unused()
        descriptions = Descriptions(self.mine, self.dense, self.slim, reference)
        kept = install(self.mine, self.dense, self.donor)
        numbers = changed_numbers(self.dense, self.slim)
        if unused is not None:
            install_unused(self.mine, unused)
            numbers = {**changed_numbers(unused.whole, unused.slim), **numbers}
            kept = [name for name in kept if name not in unused.tensors]
        self.wide.widen(self.mine)
        solver = Solver(self.mine, reference, numbers, reference.written, alike(self.mine, self.donor))
        self._solve(solver, reference, inputs)
        solver.leave_written(inputs)
        self._count_zeros(solver, reference, inputs)
        descriptions.follow(lambda: solver.run(inputs, known=0)[1] is None)
        shorter = shorten(self.mine, self.dense, self.short, inputs, _BATCH, self.names, self._put)
        self.comparison.in_float64(self.mine)
        elsewhere = self._elsewhere()
        self.wide.restore(self.mine)
        put_back()
        gone = drop_removed(self.mine, shorter, self.dense, self.short)
        self.comparison.as_called(self.mine)
        for module, mode in modes.items():
            module.training = mode
        return [name for name in kept if name not in gone], elsewhere

    def _reference(self, inputs: Any) -> Reference:
        """Return the reference for the calls of the model's modules, from a run of the dense or the masked model."""
        if self.slim.facts.example_only:
            return observe(self.comparison.masked_model(), self.dense, self.slim, inputs)
        self.wide.widen(self.mine)
        reference = observe(self.mine, self.dense, self.slim, inputs)
        self.wide.restore(self.mine)
        return reference

    def _elsewhere(self) -> str:
        """Return what is wrong at other sizes than the example's; parts of the program refuse them if they are why."""
        found = self.comparison.at_other_sizes(self.mine)
        parts = [module for module in self.mine.modules() if isinstance(module, Extracted)]
        if not found or not parts:
            return found
        for part in parts:
            part.fix_sizes()
        again = self.comparison.at_other_sizes(self.mine)
        return "" if again.startswith(FAILS) else again

    def _unused(self) -> Unused | None:
        """Return what the model runs although nothing uses the result; ``None`` if the program reads all tensors."""
        assert self.slim.facts.origin is not None
        read, own = self.dense.read_tensors(), tensors_of(self.mine)
        held = {id(own[name]) for name in own.keys() & read}
        if all(id(tensor) in held for tensor in own.values()):
            return None
        return unused_parts(self.mine, self.dense, self.slim.facts.origin.plan, example_of(self.slim))

    def _solve(self, solver: Solver, reference: Reference, inputs: Any) -> None:
        solver.guess()
        reached = -1
        while True:
            passed, failure = solver.run(inputs, known=max(reached, 0))
            if failure is None:
                return
            if passed <= reached or not self._repair(solver, reference, failure):
                raise self._error(failure)
            reached = passed

    def _count_zeros(self, solver: Solver, reference: Reference, inputs: Any) -> None:
        """Replace modules that forget the zeros of removed channels by their parts of the program; innermost first."""
        for node in forgotten(self.comparison.slim, self.mine):
            if node in forgotten(self.comparison.slim, self.mine):
                frames = (solver.frame(path, inputs) for path in holders(node))
                any(self._extract(solver, reference, frame) for frame in frames if frame is not None)

    def _repair(self, solver: Solver, reference: Reference, failure: Failure) -> bool:
        """Fix the module in which a run failed, by integers or by its part of the program; innermost first."""
        frames = failure.frames[::-1]
        known = (f for f in frames if f.path and type(self.mine.get_submodule(f.path)) in self.replaced)
        if any(self._extract(solver, reference, frame) for frame in known):
            return True
        tried = any(solver.repair(f) for f in frames) or any(solver.repair(f, far=True) for f in frames[:2])
        return tried or any(self._extract(solver, reference, frame) for frame in frames if frame.path)

    def _extract(self, solver: Solver, reference: Reference, frame: Frame) -> bool:
        """Replace the module of a frame by its part of the slim program, if that makes the call right."""
        module = self.mine.get_submodule(frame.path)
        call = reference.calls.get((frame.path, 0), {})
        if not {IN, OUT} <= call.keys():
            return False
        try:
            held = shared_paths(self.mine, frame.path)
            part = extract(self.donor, frame.path, module, call, self.names, _BATCH, held)
        except PassError as error:
            self.reasons[frame.path] = str(error)
            return False
        self.wide.widen(part)
        _replace(self.mine, module, part)
        _, failure = solver.again(frame)
        if failure is None:
            self.notes.append(described(frame.path, self.model.get_submodule(frame.path)))
            self.replaced.add(type(module))
            return True
        self.reasons[frame.path] = str(failure.error)
        _replace(self.mine, part, module)
        return False

    def _put(self, path: str, part: Extracted) -> None:
        """Put the part of a shorter program, which does not add some branches, in the place of a module."""
        self.wide.widen(part)
        _replace(self.mine, self.mine.get_submodule(path), part)
        kept = [note for note in self.notes if not note.startswith(f"{path}.")]
        self.notes = [*kept, described(path, self.model.get_submodule(path))]

    def _error(self, failure: Failure) -> TransplantError:
        if OTHER_VALUES in str(failure.error):
            check_extrema(self.comparison.slim, self.mine)
        modules = [(frame.path, self.mine.get_submodule(frame.path)) for frame in failure.frames]
        own = [(path, m) for path, m in modules if not type(m).__module__.startswith("torch.nn.modules.")]
        path, module = (own or modules or [("", self.mine)])[-1]
        line = line_of(failure.error, self.mine) or self._line_in(path)
        why = str(failure.error).splitlines()[0] if str(failure.error) else type(failure.error).__name__
        return TransplantError(
            f"expected integers with which {type(module).__name__} at {path or 'the top'!r} computes the slim sizes, "
            f"found none: {line} gives {why}; read the size there from a tensor or from an attribute of the module"
            f"{self._unequal(path)}{self._no_part(path)}"
        )

    def _no_part(self, path: str) -> str:
        """Return why a module is not replaced by its part of the slim program."""
        if not path:
            return f" ({self.name} is the whole model, so no part can take its place; a submodule can be replaced)"
        return (
            f" (its part of the slim program cannot take its place: {why})" if (why := self.reasons.get(path)) else ""
        )

    def _unequal(self, path: str) -> str:
        """Return what else to do if a module reads one size for two groups that were as wide and are not any more."""
        assert self.slim.facts.origin is not None
        plan, inside = self.slim.facts.origin.plan, f"{path}." if path else ""
        wide: dict[int, dict[int, str]] = {}
        for group in self.dense.groups:
            if any(member.tensor.startswith(inside) for member in group.members):
                wide.setdefault(group.width, {}).setdefault(
                    len(plan.kept.get(group.name, range(group.width))), group.name
                )
        apart = next((list(names.values()) for names in wide.values() if len(names) > 1), None)
        return f", or let {apart[0]} and {apart[1]} keep as many channels each, if it stands for both" if apart else ""

    def _line_in(self, path: str) -> str:
        """Return the line of the first operator traced in a module."""
        for node in self.dense.graph.nodes:
            if node.op != "placeholder" and node.meta.get(SCOPE) == path and source_of(node):
                return source_of(node)
        return "its forward"


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace a module by another one everywhere in a model."""
    for module in list(model.modules()):
        if module is old or module is new:
            continue
        for name, child in module._modules.items():
            if child is old:
                module._modules[name] = new
