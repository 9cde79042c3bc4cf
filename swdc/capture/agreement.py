"""Whether a program computes what its model computes: both run on real values, and their results are compared."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import nn

from swdc.capture.answered_branches import differs_on_branches
from swdc.capture.batch import shared_batch, with_batch, with_shapes
from swdc.capture.captured_graph import Captured, unfused
from swdc.capture.first_difference import first_difference
from swdc.capture.found_something import finds_nothing
from swdc.capture.given_inputs import copied, copied_together, given_twice, turned
from swdc.capture.notes import COUNTS, FUSED, GRADIENTS, IN_TRAINING, OVERWRITES, STATEFUL, TOGETHER, TWICE
from swdc.capture.randomness import drawn_alike, draws_outside_torch
from swdc.capture.refusals import cannot_run, incomplete
from swdc.capture.restore import Restoring, buffers_kept, has_drawn, seeded
from swdc.capture.results import difference
from swdc.capture.training_differences import reads_mode, statistics_of
from swdc.capture.true_shapes import shapes_are_true
from swdc.capture.way import CannotCapture, Inputs
from swdc.ir.conditions import broken, not_empty
from swdc.ir.module_tensors import modes_kept
from swdc.ir.other_shapes import other_shapes, shapes_at
from swdc.ir.program import Program

_SEED = 0


@dataclass(frozen=True)
class Case:
    """How program and model run: on the example (``batch`` is None) or on another batch; the mode; the random seed.

    ``shapes``, if they are given, are the shapes of all inputs. With several ``calls`` the result is the list of what
    they return, one after the other; the last has other values of its inputs. With ``fused``, modules of torch may take
    fused paths.
    """

    batch: int | None = None
    gradients: bool = False
    training: bool = False
    seed: int = _SEED
    calls: int = 1
    fused: bool = False
    shapes: tuple[Any, ...] | None = None

    def __str__(self) -> str:
        if self.shapes is not None:
            return f"inputs of shapes {', '.join(map(str, self.shapes))}"
        return "the example" if self.batch is None else f"a batch of {self.batch}"


_AGAIN = Case(calls=3)
"""The example twice, then other values: what code keeps from a call may serve all later ones."""


class Agreement:
    """Compares programs with their model. The model, its random state and the inputs stay as they are.

    Results of the model are kept, because several programs may be compared with them.
    """

    def __init__(self, model: nn.Module, inputs: Inputs, put_back: Restoring) -> None:
        self.model, self.inputs, self.put_back = model, inputs, put_back
        self.shared = shared_batch(inputs)
        self._twice: Any = None
        self._counted: list[str] = []
        self._notes: tuple[str, ...] = ()
        self._draws = self._asks_for_fused = False
        self._known: dict[Case, Any] = {}

    def begin(self) -> None:
        """Run the model on the example, which tells whether it can run at all; raise ``TraceError`` if it cannot."""
        given, parameters = self._given(Case()), dict(self.model.named_parameters())
        first = self._known[Case()] = self._run(self.model, Case(), given)
        made = [name for name, _ in self.model.named_parameters() if name not in parameters]
        once = self.put_back.numbers()
        keeps = self.put_back()
        if isinstance(first, Exception):
            raise cannot_run(self.model, self.inputs, first) from first
        if made:
            raise incomplete(made)
        if self._draws and self._is_other(first, Case(seed=_SEED + 1)):
            raise draws_outside_torch(self.model)
        together, both = copied_together(self.inputs), given_twice(self.inputs)
        found = {
            OVERWRITES: difference(self.inputs, given) is not None,
            TOGETHER: together is not None and self._is_other(first, Case(), together),
            TWICE: both is not None and self._is_other(self._alone(Case(), both[1]), Case(), both[0]),
            FUSED: self._asks_for_fused and self._is_other(first, Case(fused=True)),
        }
        self._notes = tuple(note for note, holds in found.items() if holds)
        if keeps:
            self._twice = self._run(self.model, _AGAIN)
            twice = self.put_back.numbers()
            self.put_back()
            self._counted = [name for place, (name, x) in once.items() if place in twice and twice[place][1] != x]

    def _is_other(self, first: Any, case: Case, given: Inputs | None = None) -> bool:
        """Whether the model computes something else in another run than it did ``first``."""
        return difference(first, self._alone(case, given)) is not None

    def _alone(self, case: Case, given: Inputs | None = None, module: nn.Module | None = None) -> Any:
        """Return the result of a run of the model, or of another module, that leaves nothing behind for the next."""
        result = self._run(module or self.model, case, given)
        self.put_back()
        return result

    def check(self, program: Program, captured: Captured) -> Program:
        """Return a program that agrees with the model in evaluation, with notes on what it does not stand for.

        They are compared also where the way of capture, which made ``captured``, did not reason; a batch of zero may be
        a condition. Raises ``CannotCapture`` if the program does not agree.
        """
        doubtful = captured.doubtful
        program, ran = self._with_sizes_of_one(program), dict[Case, Any]()
        if 0 in doubtful:
            program = self._without_empty(program)
        judged = [note for case in self._cases(program, doubtful) for note in self._judged(program, case, ran)]
        notes = [*self._notes, *judged]
        self._check_branches(program, captured)
        keeps = self._twice is not None
        if keeps and (difference(self._twice, self._run(program, _AGAIN)) is not None or self._keeps_sizes(program)):
            notes.append(STATEFUL)
        elif self._counted:
            notes.append(COUNTS.format(", ".join(self._counted)))
        return program.with_facts(notes=tuple(dict.fromkeys([*program.facts.notes, *notes])))

    def _check_branches(self, program: Program, captured: Captured) -> None:
        """Raise ``CannotCapture`` if a program differs where searches find nothing, or where code goes another way."""

        def run(module: nn.Module, given: Inputs | None = None) -> Any:
            return self._alone(Case(), given, module)

        facts = program.facts
        alone = facts.batch is not None and broken(facts.conditions, facts.sizes(1)) is None
        rows = self.shared if alone and self.shared is not None else 0
        differs = differs_on_branches(program, self.model, captured, self._given(Case()), rows, run)
        if differs:
            raise CannotCapture(f"the program differs from the model where its code goes another way: {differs}")

    def _keeps_sizes(self, program: Program) -> bool:
        """Whether the model computes something else than a program after a call at other sizes: its tables grow."""
        shapes = other_shapes(program, self.shared)
        if shapes is None:
            return False
        other, example = self._given(Case(shapes=shapes)), self._given(Case())
        wanted, got = (
            self._run(module, Case(), copied(other), [copied(example), copied(other)])
            for module in (self.model, program)
        )
        self.put_back()
        return not isinstance(wanted, Exception) and difference(wanted, got) is not None

    def _with_sizes_of_one(self, program: Program) -> Program:
        """Return a program that stands for sizes of one, too, if it computes there what the model computes.

        Code that asks whether a size is one often takes another way to the same result: it leaves out an expansion, or
        the mask of a single position.
        """
        wider, ones = program, dict[str, int]()
        for name in program.facts.symbols:
            tried = self._at_one(wider, {name: 1})
            if tried is not None:
                wider, ones = tried, {**ones, name: 1}
        return program if len(ones) > 1 and self._at_one(wider, ones) is None else wider

    def _without_empty(self, program: Program) -> Program:
        """Return a program with the condition that a batch is not empty, if the model does something else there."""
        batch, case = program.facts.batch, Case(0)
        if batch is None or self.shared is None:
            return program
        if difference(self._of_model(case), self._run(program, case)) is None:
            return program
        return program.with_facts(conditions=(*program.facts.conditions, not_empty(batch)))

    def _at_one(self, program: Program, ones: dict[str, int]) -> Program | None:
        """Return a program without the conditions that exclude sizes of one, if it agrees with the model there."""
        facts = program.facts
        left = tuple(c for c in facts.conditions if not (c.excludes_one and str(c.size) in ones))
        sizes = {**facts.symbols, **ones}
        alone = len(ones) == 1
        if (alone and len(left) == len(facts.conditions)) or broken(left, sizes) is not None:
            return None
        wider = program.with_facts(conditions=left)
        case = Case(shapes=shapes_at(program, sizes))
        wanted, got = self._of_model(case), self._run(wider, case)
        if isinstance(wanted, Exception) or isinstance(got, Exception) or difference(wanted, got) is not None:
            return None
        return wider if shapes_are_true(wider, self._given(case), sizes) else None

    def trains_alike(self, program: Program) -> bool:
        """Whether program and model agree in training, too, also in what they leave in buffers.

        True if a note says already how they differ.
        """
        called = {node.target for node in program.graph.find_nodes(op="call_module")}
        asks = reads_mode(self.model) or not set(statistics_of(self.model)) <= called
        if not asks or any(IN_TRAINING in note for note in program.facts.notes):
            return True
        case = Case(None if self.shared is None else max(2, self.shared), training=True)
        self._draws = False
        wanted = self._of_model(case)
        if self._draws:
            return False
        if isinstance(wanted, Exception) or difference(wanted, self._run(program, case)) is None:
            return True
        return self._is_other(wanted, replace(case, seed=_SEED + 1))

    def _cases(self, program: Program, doubtful: tuple[int, ...]) -> list[Case]:
        """Return the runs to compare; the last has gradients on, so that code that looks at this is found out."""
        batched = program.facts.batch is not None and self.shared is not None
        others = [b for b in (*doubtful, *self._another(program)) if b not in (0, self.shared)] if batched else []
        last = others[-1] if others else self.shared
        shapes = other_shapes(program, last)
        if shapes is not None:
            return [Case(), *map(Case, others[:-1]), Case(last, gradients=True, shapes=shapes)]
        return [Case(), *map(Case, others[:-1]), Case(others[-1] if others else None, gradients=True)]

    def _another(self, program: Program) -> tuple[int, ...]:
        """Return another small batch for which the program stands, if there is one."""
        facts = program.facts
        found = (b for b in (1, 2, 3, 4, 6, 8) if b != self.shared and broken(facts.conditions, facts.sizes(b)) is None)
        return tuple(islice(found, 1))

    def _judged(self, program: Program, case: Case, ran: dict[Case, Any]) -> tuple[str, ...]:
        """Return notes on a program that agrees with the model in one run; raise ``CannotCapture`` if it does not."""
        without = replace(case, gradients=False)
        if case not in ran:
            ran[case] = self._run(program, case)
        wanted, got = self._of_model(case), ran[case]
        found = None if finds_nothing(got) and without != Case() else difference(wanted, got)
        if found is None or drawn_alike(self._alone, partial(self._run, program), case):
            return ()
        if case.gradients and difference(self._of_model(without), got) is None:
            return (GRADIENTS,)
        place = first_difference(program, self.model, partial(self._run, case=without))
        self.put_back()
        raise CannotCapture(f"the program differs from the model on {case}, {place or found}")

    def _of_model(self, case: Case) -> Any:
        if case not in self._known:
            self._known[case] = self._alone(case)
        return self._known[case]

    def _run(self, module: nn.Module, case: Case, given: Inputs | None = None, more: Sequence[Inputs] = ()) -> Any:
        """Return the result of a run, or the error that it raises. The run may overwrite what it is ``given``.

        With ``more`` the module is called on these, too, and the result is the list of what it returns.
        """
        args, kwargs = given or self._given(case)
        with ExitStack() as stack:
            fused: AbstractContextManager[list[bool]] = nullcontext([]) if case.fused else unfused()
            asked = stack.enter_context(fused)
            stack.enter_context(torch.set_grad_enabled(case.gradients))
            stack.enter_context(buffers_kept(self.model))
            stack.enter_context(seeded(case.seed))
            stack.enter_context(modes_kept(module))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # what a model warns of is heard when it is used
            try:
                results = []
                for call in range(case.calls):
                    if 0 < call == case.calls - 1:
                        args, kwargs = turned((args, kwargs))
                    results.append(copied(module.train(case.training)(*args, **kwargs)))
                results += [copied(module(*more_args, **more_kwargs)) for more_args, more_kwargs in more]
                if case.training:
                    results.append(self._statistics())
                return results[0] if len(results) == 1 else results
            except Exception as error:  # whatever the user's model raises
                return error
            finally:
                self._draws |= has_drawn(case.seed)
                self._asks_for_fused |= bool(asked)

    def _statistics(self) -> list[torch.Tensor]:
        """Return copies of the buffers that a run of the model, or of a program that shares them, has left.

        Counters are not among them: batch norms of a program count, whether the model's code calls them or a function.
        """
        return [buffer.clone() for buffer in self.model.buffers() if buffer.is_floating_point()]

    def _given(self, case: Case) -> Inputs:
        inputs = self.inputs if case.batch is None else with_batch(self.inputs, case.batch)
        inputs = inputs if case.shapes is None else with_shapes(self.inputs, case.shapes)
        given: Inputs = copied(inputs, case.gradients)
        return given
